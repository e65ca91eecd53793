"""Download MiniPlaces or import a local copy.

This file imports nothing, because `install` needs requests and other commands do not.
"""

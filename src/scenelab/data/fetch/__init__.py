"""Download MiniPlaces or import a local copy.

This file imports nothing, because `install` imports requests, which most commands do not need.
"""

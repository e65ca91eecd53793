"""Download MiniPlaces or import a local copy.

Nothing is imported here: `install` needs requests, which other commands do not.
"""

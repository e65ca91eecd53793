"""A trained network as one file for other programs."""

"""Run folders: configs, checkpoints, provenance and export."""
# Imports nothing: a command that only reads a run folder loads no network.

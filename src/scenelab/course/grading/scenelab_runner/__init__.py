"""Runs beside a student's code in the sandbox; needs torch, not scenelab, and knows no reference or score."""

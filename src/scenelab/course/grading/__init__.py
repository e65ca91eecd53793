"""Grading of untrusted submissions: reading, running in a sandbox, checks, points, and output pages."""

"""Grading of untrusted submissions: reading files, sandboxed execution, checks, points, and result pages."""

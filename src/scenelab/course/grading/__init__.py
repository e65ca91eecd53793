"""Grading submissions that nobody vouches for: reading them, running them in a sandbox, checks, points, pages."""

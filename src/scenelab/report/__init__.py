"""The writeup of runs and studies, from their stored results; nothing is measured again."""

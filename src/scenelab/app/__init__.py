"""The explorer: a page on this machine that shows what networks say, where they look, and what fools them."""

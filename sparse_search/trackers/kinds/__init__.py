"""A tracker each, found by the file's name."""

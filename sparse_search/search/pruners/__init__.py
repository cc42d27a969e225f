"""Pruners, one to a file: a plain module in this folder offers `PRUNER` and is called by its file's name."""

"""Trackers: curves, settings and scores of every run, for programs that people know. They hold nothing that counts."""

"""Ranges, configurations and the errors a user can cause."""

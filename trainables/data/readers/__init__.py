"""Readers of datasets: one module for each way in which images are stored."""

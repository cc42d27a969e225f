"""Execution of a sweep: Ray, workers, checkpoints, nodes that come and go."""

"""How a sweep is carried out: Ray, workers, checkpoints, nodes that come and go."""

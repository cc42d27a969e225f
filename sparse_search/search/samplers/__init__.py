"""Samplers, one to a file: a plain module in this folder offers `SAMPLER` and is called by its file's name.

`gp`, `cmaes` and `nsga2` model the parameters that every finished trial has; one that some trials lack is drawn at
random. `tpe` (by groups) and `qmc` (a coordinate of its own for each) search these too.
"""

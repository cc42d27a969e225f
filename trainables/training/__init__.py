"""How a method is trained: the driver, trials and their runs, processes, checkpoints, stages that trials share."""

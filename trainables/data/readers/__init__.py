"""What opens a data set: one module for each way in which images are stored."""

"""From predictions to scores: pure functions, and the table of metrics."""

"""Small pure functions that methods share, each with its source."""

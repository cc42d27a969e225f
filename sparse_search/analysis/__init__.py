"""What finished runs say: leaderboards, tests, comparisons, curves, importance."""

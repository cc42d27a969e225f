"""Answers from finished runs: leaderboards, tests, comparisons, curves, importance."""

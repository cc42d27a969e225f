"""Who runs it and what is kept: sweeps, studies, the searcher, the store, the leaderboard."""

"""How it trains: a plain module directly inside this package is a method, found by its file name."""

"""Store of finished runs: records, the tables made of them, and what is kept beside them."""

"""Where finished runs stay: records, the tables made of them, and what is kept beside them."""

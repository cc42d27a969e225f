"""Where images come from, and how few of them are labelled."""

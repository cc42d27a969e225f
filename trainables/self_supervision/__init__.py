"""Networks that learn from images without labels: views, what is asked of them, and a stage that trials share."""

"""What may vary: one typed configuration class per method."""

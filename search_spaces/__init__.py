"""Search spaces: one typed configuration class per method."""

"""A prior for users' own models, learned under user-level differential privacy."""

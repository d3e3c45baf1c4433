"""Protection of the nodes' data: secure sums and differential privacy."""

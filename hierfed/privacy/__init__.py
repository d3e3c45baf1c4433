"""What protects the nodes' data beyond sending sums."""

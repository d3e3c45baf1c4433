"""What predicts a rating."""

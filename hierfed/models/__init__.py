"""Models that predict ratings, and the tools that they share."""

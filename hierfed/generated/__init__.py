"""Synthetic ratings, films and times like MovieLens', generated from a known truth."""

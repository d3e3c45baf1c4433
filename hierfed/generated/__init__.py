"""Ratings, films and times like MovieLens', generated from a truth that is known."""

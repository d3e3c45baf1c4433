"""Attacks on the releases of a federation: membership in the training data, and what a user rated."""

"""Attacks on what a federation releases: who or what was in the training data, and what somebody rated."""

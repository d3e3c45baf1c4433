"""Finished runs that answer for one user at a time."""

"""Rounds among peers, each a process of its own: no server anywhere."""

"""Hierarchical Bayesian factors, learned from sums."""

"""Hierarchical Bayesian factors: films, users and the priors of both, from sums over blocks of ratings."""

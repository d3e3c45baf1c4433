"""A second process that trains some of the baselines while this one trains the federation."""

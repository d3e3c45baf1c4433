"""Judging models: errors, baselines, lists, metrics, verdicts and attacks."""

"""Ranking models from sums: Ease, implicit factors, and their blend."""

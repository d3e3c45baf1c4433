"""Figures, the report page and the tables on the terminal."""

"""From sources of ratings to checked columns."""

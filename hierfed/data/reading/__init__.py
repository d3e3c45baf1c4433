"""Sources of ratings become checked columns."""

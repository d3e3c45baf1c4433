"""A page that recommends in the visitor's browser, as static files; no rating leaves it."""

"""Engines: they run the nodes in this process, or on machines of their own."""

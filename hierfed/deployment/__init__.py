"""A federation of real machines: server and nodes, their files and their messages."""

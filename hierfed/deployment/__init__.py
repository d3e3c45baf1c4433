"""A federation of real machines: what the server and each node of it do, keep and tell each other."""

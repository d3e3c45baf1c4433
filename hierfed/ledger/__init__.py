"""A signed record of every round, in which any change is found: what blockchains are used for, without one.

Each entry holds the hash of the one before it, is signed by the server, and is countersigned by nodes, whose signatures
stand in the next entry. Needs the extra `privacy`, but for the entries themselves.
"""

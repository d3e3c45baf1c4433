"""hierfed: personalised recommendations learned from ratings that never leave their owner."""

"""From raw files to ratings, a catalogue, and a federation of nodes."""

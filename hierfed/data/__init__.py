"""Raw files become ratings, a catalogue, and a federation of nodes."""

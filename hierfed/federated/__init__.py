"""How nodes that keep their data make one shared model."""

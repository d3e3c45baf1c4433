"""The engine of a real federation, over Flower (flwr 1.41): nothing else in the package imports Flower."""

"""The contract between nodes, which keep their data, and the server: contributions, rules, steps, methods."""

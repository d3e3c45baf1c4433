"""The methods: each in a room of its own."""

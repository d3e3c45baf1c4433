"""What stays at home: models of a node and of a user, fitted on their own rows."""

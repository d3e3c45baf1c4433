"""Each user alone: nothing is sent."""

"""Train, validation and test: who is on which side, what leaks, what a leak is worth."""

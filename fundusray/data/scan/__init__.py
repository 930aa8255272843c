"""What is in a set and what is wrong with it, before anything is learned."""

"""Training in one process or several, without Ray: the trainer and what it is made of."""

"""One training in one process: optimiser and rate, precision and layout, steps, checkpoints."""

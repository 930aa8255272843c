"""Everything that runs on Ray: preparing, training, searching and evaluating, on any cluster."""

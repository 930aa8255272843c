"""What each job does, by name: read the command, run it on the cluster, say where results are."""

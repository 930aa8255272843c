"""A run before it runs: what it is called, which rows are on which side, whether it can be trained.

No Ray: the cluster trains what is planned here. `run.plan_run` makes the value, once for a
job.
"""

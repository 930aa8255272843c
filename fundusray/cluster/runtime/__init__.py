"""What every work on the cluster needs of Ray, whatever it computes."""

"""The search: what Optuna proposes, how Ray Tune runs it, what is remembered."""

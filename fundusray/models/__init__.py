"""Networks that take RGB in [0, 1] and hold their own normalisation, and the bundles they go in."""

from fundusray.models.classifiers import (
    MODELS,
    Classifier,
    build_model,
    check,
    load_weights,
    parameter_count,
)

__all__ = ["MODELS", "Classifier", "build_model", "check", "load_weights", "parameter_count"]

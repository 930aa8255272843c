"""Networks that take RGB in [0, 1] and hold their own normalisation, and the bundles they go in."""

from fundusray.models.classifiers import (
    MODELS,
    Classifier,
    build_model,
    check_model,
    evidence_refusal,
    feature_layers,
    head_parameters,
    load_weights,
    parameter_count,
)
from fundusray.models.heads import fit_thresholds
from fundusray.models.networks import network_of
from fundusray.models.published_weights import weights_here

__all__ = [
    "MODELS",
    "Classifier",
    "build_model",
    "check_model",
    "evidence_refusal",
    "feature_layers",
    "fit_thresholds",
    "head_parameters",
    "load_weights",
    "network_of",
    "parameter_count",
    "weights_here",
]

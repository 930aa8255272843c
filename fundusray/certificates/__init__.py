"""Certificates: what no change of an image within a radius can do to what is answered of it."""

from fundusray.certificates.certified import CERTIFIED_COLUMNS, certified_table
from fundusray.certificates.clopper_pearson import lower_bound
from fundusray.certificates.smoothing import (
    ABSTAINED,
    Certificates,
    Smoothing,
    certify,
    certify_referable,
)

__all__ = [
    "ABSTAINED",
    "CERTIFIED_COLUMNS",
    "Certificates",
    "Smoothing",
    "certified_table",
    "certify",
    "certify_referable",
    "lower_bound",
]

"""Attacks on segmentations: small changes of an image, within linf, that make the classes of its
pixels wrong. Each is a function in SEGMENTATION_ATTACKS, a file here or a plugin's, and
`run_segmentation_attack` runs and measures each in the same way.
"""

from fundusray.attacks.segmentation.registry import (
    SEGMENTATION_ATTACKS,
    SegmentationAttackFacts,
    SegmentationProblem,
)
from fundusray.attacks.segmentation.run import (
    SegmentationOutcome,
    check_segmentation_attack,
    run_segmentation_attack,
    whole_segmentation_args,
)
from fundusray.registry import import_folder

__all__ = [
    "SEGMENTATION_ATTACKS",
    "SegmentationAttackFacts",
    "SegmentationOutcome",
    "SegmentationProblem",
    "check_segmentation_attack",
    "run_segmentation_attack",
    "whole_segmentation_args",
]

import_folder(__name__, __path__)

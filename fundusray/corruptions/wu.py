"""Wu's four corruptions, of which each image draws one.

Wu, *Robust training and interpretability for fundus imaging* (2020), section 4: light leakage,
motion blur, under- and over-exposure at levels 1 to 4. That processing is the camera maker's own
and not published; models and levels here are ours. Levels are calibrated to mean the same loss of
structural similarity for each of the four (benchmarks/corruption_levels.py).
"""

from fundusray.corruptions.registry import MIXTURES

TARGETS = (0.98, 0.96, 0.935, 0.91)
"""Median structural similarity of each level, of real photographs at 256 pixels. That is as far as
motion goes: a retina is smooth, and a line of an eighth of the side still leaves .89 of it."""
WU = ("light_leakage", "motion_blur", "under_exposure", "over_exposure")

MIXTURES.register(
    "wu", title="one of Wu's four", source="Wu (2020), section 4; models and levels ours"
)(WU)

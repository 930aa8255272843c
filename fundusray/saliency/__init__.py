"""Attribution maps of classifiers: which pixels speak for a class, and which against it.

Images are RGB in [0, 1]; a model holds its own normalisation. A map is a function in MAPS, a file
here or a plugin's, and `run_map` calls each in the same way and holds it to its form.
"""

from fundusray.registry import import_folder
from fundusray.saliency.registry import MAPS, Attribution, MapFacts, MapProblem
from fundusray.saliency.run import (
    Explanation,
    check_map,
    explainable,
    explanation,
    run_map,
    whole_keywords,
)
from fundusray.saliency.text import MapMethod, parse_methods

__all__ = [
    "MAPS",
    "Attribution",
    "Explanation",
    "MapFacts",
    "MapMethod",
    "MapProblem",
    "check_map",
    "explainable",
    "explanation",
    "parse_methods",
    "run_map",
    "whole_keywords",
]

import_folder(__name__, __path__)

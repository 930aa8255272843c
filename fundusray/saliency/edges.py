"""A map that knows no network: where the brightness is steep. What is said of other maps is said
beside it."""

from fundusray.saliency.registry import MAPS, Attribution, MapProblem
from fundusray.saliency.sanity import edge_map


def _nothing(args: object, size: int) -> int:
    return 1


@MAPS.register(
    "edges",
    title="Edge detector",
    source="Sobel's; as a baseline Adebayo et al. 2018, section 5.2",
    passes=_nothing,
)
def edges(problem: MapProblem) -> Attribution:
    """How steep the brightness of each image is, whatever the network and the class."""
    return Attribution(edge_map(problem.image))

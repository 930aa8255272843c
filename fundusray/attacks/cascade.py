"""AutoAttack: four attacks, each on what the ones before left, for any number of classes
(Croce and Hein 2020, section 5)."""

from collections.abc import Mapping
from typing import Annotated, Any

import torch

from fundusray.attacks.registry import ATTACKS, AttackProblem, StagedImages
from fundusray.keywords import AtLeast

STAGES = ("apgd_ce", "apgd_t", "fab_t", "square")
"""The standard version's attacks in their order."""


def _keywords(stage: str, steps: int, queries: int) -> dict[str, int]:
    return {"queries": queries} if stage == "square" else {"steps": steps, "restarts": 1}


def _cost(args: Mapping[str, Any], num_classes: int) -> int:
    """Forward passes of all four."""
    return sum(
        ATTACKS.facts(stage).passes(_keywords(stage, args["steps"], args["queries"]), num_classes)
        for stage in STAGES
    )


@ATTACKS.register(
    "autoattack",
    title="AutoAttack, the standard cascade",
    source="Croce and Hein 2020, section 5",
    passes=_cost,
)
def autoattack(
    problem: AttackProblem,
    *,
    steps: Annotated[int, AtLeast(1)] = 100,
    queries: Annotated[int, AtLeast(1)] = 5000,
) -> StagedImages:
    """apgd_ce, apgd_t, fab_t with `steps` each, then square with `queries`.

    Images that none breaks come back as apgd_ce leaves them, with the largest cross entropy.
    """
    image, live = problem.image.clone(), problem.places()
    stage = torch.full_like(live, -1)
    for number, name in enumerate(STAGES):
        part = problem.part(live)
        made = ATTACKS.find(name)(part, **_keywords(name, steps, queries))
        assert isinstance(made, torch.Tensor), f"{name} is a cascade itself"
        broken = part.judged(made, part.places())
        if number == 0:
            image[live] = made
        image[live[broken]], stage[live[broken]] = made[broken], number
        live = live[~broken]
        if not len(live):
            break
    return StagedImages(image, stage, STAGES)

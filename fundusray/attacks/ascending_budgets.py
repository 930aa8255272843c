"""One attack under ascending budgets, the larger ones on what the smaller ones left."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from fundusray.attacks.gradient import Predict, Success
from fundusray.attacks.run import AttackOutcome, run_attack
from fundusray.errors import InputError


def sweep(
    name: str,
    args: Mapping[str, Any],
    predict: Predict,
    image: Tensor,
    target: Tensor,
    *,
    row: Tensor,
    norm: str,
    eps: Sequence[float],
    success: Success,
    seed: int = 0,
    search: Predict | None = None,
    copied: bool = False,
    clean: Tensor | None = None,
) -> list[AttackOutcome]:
    """What becomes of images [B, 3, S, S] under each budget, in their order.

    What a smaller budget breaks counts as broken under the larger ones, with the smaller change:
    budgets lie within each other. `queries` are those up to and with a budget.

    Raises:
        InputError: budgets that do not ascend; and as `run_attack`.
    """
    if not eps or any(not low < high for low, high in pairwise(eps)):
        raise InputError(f"a sweep needs budgets that ascend, got {list(eps)}")
    outcomes: list[AttackOutcome] = []
    for budget in eps:
        live = torch.arange(len(image), device=image.device)
        if outcomes:
            live = (~outcomes[-1].success).nonzero()[:, 0]
            if not len(live):
                outcomes.append(outcomes[-1])
                continue
        fresh = run_attack(
            name, args, predict, image[live], target[live], row=row[live], norm=norm, eps=budget,
            success=success, seed=seed, search=search, copied=copied,
            clean=None if clean is None else clean[live],
        )  # fmt: skip
        outcomes.append(_joined(outcomes[-1], fresh, live) if outcomes else fresh)
    return outcomes


def _joined(before: AttackOutcome, fresh: AttackOutcome, live: Tensor) -> AttackOutcome:
    """The outcome under a budget, where `live` images were attacked anew."""

    def put(old: Tensor, new: Tensor) -> Tensor:
        return old.index_copy(0, live, new)

    return replace(
        before,
        image=put(before.image, fresh.image),
        success=put(before.success, fresh.success),
        queries=before.queries.index_add(0, live, fresh.queries),
        zero_gradients=before.zero_gradients.index_add(0, live, fresh.zero_gradients),
        stage=put(before.stage, fresh.stage),
        stages=fresh.stages,
    )

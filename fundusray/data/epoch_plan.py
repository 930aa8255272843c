"""The order of one training epoch of a recipe over a prepared set."""

import numpy as np

from fundusray.config import Recipe
from fundusray.data.prepared.copies import mix_copies
from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.data.sampling import EpochPlan, plan_epoch


def epoch_plan(recipe: Recipe, prepared: PreparedSet, rows: np.ndarray, epoch: int) -> EpochPlan:
    """The order of one training epoch over `rows`; rows beyond the set are copies of data.mix.

    Raises:
        InputError: a batch larger than the rows, or quotas that do not fit the classes.
    """
    train = recipe.train
    plan = plan_epoch(
        recipe.sampling,
        rows,
        prepared.targets()[rows],
        num_classes=len(prepared.classes),
        batch=train.batch,
        seed=recipe.seed,
        epoch=epoch,
        drop_last=train.drop_last,
    )
    if copies := len(recipe.data.mixed):
        share, num = recipe.data.mix_share, len(prepared)
        return mix_copies(plan, share, num, recipe.seed, epoch, copies)
    return plan

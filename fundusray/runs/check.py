"""What is refused before anything is trained: of a recipe alone, and of a recipe on its set."""

from collections.abc import Sequence

import numpy as np

from fundusray.attacks import judging_budget, training_budget
from fundusray.config import Recipe, override
from fundusray.corruptions import parse_corruption
from fundusray.data import SOURCES
from fundusray.data.epoch_plan import epoch_plan
from fundusray.data.labels.class_names import class_positions
from fundusray.data.labels.mask_targets import is_mask_target
from fundusray.data.prepared.copies import with_copies
from fundusray.data.prepared.frames import stored_data
from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.data.prepared.preprocess import check_preprocess_args as check_preprocess
from fundusray.data.sampling import worker_share
from fundusray.data.split.assign_sides import reported_split
from fundusray.data.split.leaks import leak_refusal
from fundusray.errors import InputError
from fundusray.losses import LOSSES, check_args, check_output, effective_weights
from fundusray.metrics import UNDER_CORRUPTION, metric_of, needing_order
from fundusray.models import evidence_refusal
from fundusray.models.heads import HEADS
from fundusray.models.segmenters import check_network, is_segmenter
from fundusray.pipeline.augment import augmentation
from fundusray.runs.check_segmentation import check_segmentation
from fundusray.runs.run import Run
from fundusray.tasks import is_segmentation
from fundusray.tasks.classification import check_choice
from fundusray.verified import read_verified


def check(recipe: Recipe, learns: bool = True) -> None:
    """Refuses what cannot run before anything is read or written.

    Args:
        learns: False: a network that is there is only asked, also of what has no label.

    Raises:
        InputError: an unknown name, a bad keyword, a missing weights file.
    """
    data = recipe.data
    if learns and data.judge != "graded":
        raise InputError(
            f"data.judge={data.judge}: what has no grade is not learned; give it to evaluate.py"
        )
    for source in data.source.split(","):
        SOURCES.find(source.strip())
    check_preprocess(data.preprocess, data.preprocess_args)
    for text in filter(None, (data.corrupt, data.judge_corrupt)):
        stored_data(data)
        parse_corruption(text)
    if recipe.train.select.startswith(UNDER_CORRUPTION) and not data.judge_corrupt:
        raise InputError(
            f'train.select={recipe.train.select} needs data.judge_corrupt, e.g. "wu(level=1-4)"'
        )
    for text in (augmentation.train_text(data), augmentation.view_text(data)):
        augmentation.check_augmentation(text, data.size)
    seeking = augmentation.parse_augmentation(augmentation.train_text(data)).seeking
    if seeking and not (data.masks or is_mask_target(data.target)):
        raise InputError(f"data.augment={data.augment}: {augmentation.UNSEEN}")
    check_args(recipe.loss.name, recipe.loss.args)
    check_network(recipe.model, augmentation.smallest_side(data))
    check_segmentation(recipe)
    if recipe.adversarial.eps:
        training_budget(recipe.adversarial)
        judging_budget(recipe.adversarial)
    elif recipe.train.select.startswith("robust_"):
        raise InputError(f"train.select={recipe.train.select} needs adversarial.eps, e.g. 2/255")
    check_output(recipe.loss.name, recipe.model.output)
    if is_segmenter(recipe.model.name):
        return
    if recipe.loss.sparsity and (reason := evidence_refusal(recipe.model)):
        raise InputError(f"loss.sparsity={recipe.loss.sparsity:g} needs an evidence map; {reason}")


def chosen_without_order(recipe: Recipe, prepared: PreparedSet) -> Recipe:
    """The recipe with the epoch chosen by balanced accuracy, where train.select needs an order of
    the classes that is not known, which is printed; by Dice where masks are learned."""
    by = recipe.train.select
    if is_segmentation(recipe):
        return override(recipe, {"train.select": "dice"})
    if metric_of(by) not in needing_order() or prepared.ordered or len(prepared.classes) == 2:
        return recipe
    print(
        f"train.select={by} needs classes in their order, which is not known of "
        f"{', '.join(prepared.classes)}: the epoch is chosen by balanced_accuracy; give the order "
        "(data.classes=<all of them, the worst last>) to choose by it",
        flush=True,
    )
    return override(recipe, {"train.select": "balanced_accuracy"})


def check_run(run: Run) -> None:
    """Refuses a split that leaks, cannot train or be judged, and what does not fit its classes.

    Raises:
        InputError: which, and what to do.
    """
    recipe, prepared, split = run.recipe, run.prepared, run.split
    classes = prepared.classes
    check_network(recipe.model, augmentation.smallest_side(recipe.data), num_classes=len(classes))
    check_order(recipe, prepared)
    require_start_order(recipe.model.init_from, classes)
    _check_leaks(run)
    targets, rows = prepared.targets(), split.rows
    for name in ("train", "val", reported_split(rows)):
        if not len(rows[name]):
            raise InputError(
                f"the {name} split is empty: {len(targets)} images in shares "
                f"{recipe.data.fractions}; give more images or other data.fractions"
            )
    if not is_segmentation(recipe):
        if np.count_nonzero(split.counts) < 2:
            raise InputError("the train split holds one class only; training needs at least two")
        check_choice(recipe.train.select, targets[rows["val"]], classes)
    effective_weights(recipe.loss.name, recipe.loss.args, split.counts)
    worker_share(epoch_plan(recipe, split.learned, rows["train"], 0), 0, recipe.cluster.most)
    with_copies(prepared, *run.copies)


def _check_leaks(run: Run) -> None:
    """Refuses figures that would be too good, unless data.allow_leak says to go on."""
    if run.recipe.data.allow_leak:
        return
    if run.split.leaks:
        raise InputError(leak_refusal(run.split.leaks))
    if leak := run.start.leak(run.split.sides):
        raise InputError(
            f"{leak}; the figures would be too good. Give the start's own split "
            "(data.split_file=<its run>/split.csv), another start, or go on with "
            "data.allow_leak=true, which every table will say"
        )


def check_order(recipe: Recipe, prepared: PreparedSet) -> None:
    """Refuses heads and losses that need the order of the classes where it is not known.

    Raises:
        InputError: which, and what to do.
    """
    if prepared.ordered or len(prepared.classes) == 2:
        return
    head, loss = recipe.model.output, recipe.loss.name
    for key, value, facts in (
        ("model.output", head, HEADS.facts(head)),
        ("loss.name", loss, LOSSES.facts(loss)),
    ):
        if facts.needs_order:
            raise InputError(
                f"{key}={value} needs classes in their order, which is not known of "
                f"{', '.join(prepared.classes)}; give it (data.classes=<all of them, the worst "
                "last>), or choose model.output=softmax and a loss without order (cross_entropy)"
            )


def require_start_order(start: str, classes: Sequence[str]) -> None:
    """Refuses to go on from a network that has the same classes in another order: each of its
    outputs would begin as another class's. One sorted by name is such a network.

    Args:
        start: model.init_from, a bundle; or empty.

    Raises:
        InputError: both orders.
        DamagedError: the bundle's files are not what was written.
    """
    if not start:
        return
    theirs = read_verified(start)[1]["classes"]
    places = class_positions(theirs, classes)
    if len(theirs) == len(classes) and None not in places and places != sorted(places):
        raise InputError(
            f"model.init_from={start} has the classes in the order {list(theirs)}, the data in the "
            f"order {list(classes)}; keep all but its last layers: model.weights={start}/"
            "model.safetensors instead of model.init_from"
        )

"""Tables 6 to 9 of J. Wu, Robust training and interpretability for fundus imaging (2020): training
on corrupted photographs, and what it is worth against corruption and against an attack.

The paper's corruptions are proprietary; ours are parametric models of the same four kinds with
levels of our own (`corruptions`). It stores one damaged copy of every photograph, of every repeat
where classes are oversampled; here a photograph is damaged when it is shown, by a function of the
seed, the row and the repeat, which comes to the same. Tables 8 and 9 train nothing: they look at
the networks of Table 6 under a condition.
"""

from collections.abc import Callable

from fundusray.config import Recipe, override
from fundusray.recipes.rows import register_recipe
from fundusray.recipes.wu import OWN, balanced, table5_baseline, table5_oversample_dropout0

CORRUPTED = f"{OWN}, what the corruptions are and what a level means, damage before Graham's step"
ATTACK = (
    f"{CORRUPTED}, the unit of eps, steps of 2.5 eps / 5, that the last step's images count, which "
    "240 rows"
)
ANY_LEVEL = "wu(level=1-4)"
ATTACKED = tuple(
    f"pgd(eps=0.2{unit}|0.4{unit}|0.6{unit}, steps=5, keep=last)"
    for unit in ("/255", "unit01", "norm")
)
"""The paper gives no unit: 8-bit levels, which alone are near its figures, pixels in [0, 1], and
pixels in [-1, 1], as its network sees them."""

_Row = Callable[[Callable[[], Recipe]], Callable[[], Recipe]]


def _corrupted(levels: str, changes: dict[str, str | float] | None = None) -> Recipe:
    """The network of Table 5 trained on corrupted photographs, without any augmentation."""
    corrupt = {"data.augment": "none", "model.dropout": 0.0, "data.corrupt": f"wu(level={levels})"}
    return balanced(48, corrupt | (changes or {}))


def _row(name: str, accuracy: float, balanced_accuracy: float, kappa: float) -> _Row:
    """A row of Table 6 or 7."""
    return register_recipe(
        f"wu.{name}",
        ours=CORRUPTED,
        accuracy=accuracy,
        balanced_accuracy=balanced_accuracy,
        kappa=kappa,
    )


def _under_corruption(
    row: str, accuracy: float, balanced_accuracy: float, kappa: float, accuracy_drop: float
) -> _Row:
    """A row of Table 8: that of Table 6 on corrupted photographs."""
    return register_recipe(
        f"wu.table8.{row}",
        ours=CORRUPTED,
        trained_as=f"wu.table6.{row}",
        conditions=(ANY_LEVEL,),
        accuracy=accuracy,
        balanced_accuracy=balanced_accuracy,
        kappa=kappa,
        accuracy_drop=accuracy_drop,
    )


def _under_attack(row: str, *changed: float) -> _Row:
    """A row of Table 9: that of Table 6 under attack; answers changed at eps .2, .4 and .6."""
    shares = dict(zip(("changed_0.2", "changed_0.4", "changed_0.6"), changed, strict=True))
    return register_recipe(
        f"wu.table9.{row}",
        ours=ATTACK,
        trained_as=f"wu.table6.{row}",
        conditions=ATTACKED,
        **shares,
    )


def _beside(row: str) -> _Row:
    """A row of Table 6 beside what the paper suggests and does not try."""
    return register_recipe(f"wu.extension.{row}", ours=CORRUPTED, trained_as=f"wu.table6.{row}")


@_beside("baseline")
@_under_attack("baseline", 0.196, 0.238, 0.341)
@_under_corruption("baseline", 0.764, 0.391, 0.501, 0.088)
@_row("table6.baseline", 0.852, 0.586, 0.805)
def table6_baseline() -> Recipe:
    """The baseline of Table 5, which never saw a corrupted photograph."""
    return table5_baseline()


@_under_attack("corrupt_1", 0.467, 0.867, 0.896)
@_under_corruption("corrupt_1", 0.778, 0.417, 0.575, 0.034)
@_row("table6.corrupt_1", 0.812, 0.475, 0.701)
def table6_corrupt_1() -> Recipe:
    """Trained on photographs corrupted at level 1."""
    return _corrupted("1")


@_under_attack("corrupt_1_2", 0.588, 0.875, 0.883)
@_under_corruption("corrupt_1_2", 0.785, 0.446, 0.619, 0.032)
@_row("table6.corrupt_1_2", 0.817, 0.497, 0.725)
def table6_corrupt_1_2() -> Recipe:
    """Trained on photographs corrupted at levels 1 and 2."""
    return _corrupted("1-2")


@_under_attack("corrupt_1_3", 0.554, 0.867, 0.871)
@_under_corruption("corrupt_1_3", 0.776, 0.393, 0.586, 0.05)
@_row("table6.corrupt_1_3", 0.826, 0.5, 0.718)
def table6_corrupt_1_3() -> Recipe:
    """Trained on photographs corrupted at levels 1 to 3."""
    return _corrupted("1-3")


@_beside("corrupt_1_4")
@_under_attack("corrupt_1_4", 0.579, 0.871, 0.879)
@_under_corruption("corrupt_1_4", 0.791, 0.403, 0.598, 0.026)
@_row("table6.corrupt_1_4", 0.817, 0.515, 0.731)
def table6_corrupt_1_4() -> Recipe:
    """Trained on photographs corrupted at levels 1 to 4."""
    return _corrupted("1-4")


@_row("table7.baseline", 0.704, 0.399, 0.612)
def table7_baseline() -> Recipe:
    """Table 5's oversampling without dropout: with Wu's augmentation, which the rows below do not
    have, so that their difference is of both."""
    return table5_oversample_dropout0()


@_row("table7.corrupt_1", 0.806, 0.477, 0.705)
def table7_corrupt_1() -> Recipe:
    """Oversampled, corrupted at level 1."""
    return _corrupted("1", {"sampling.name": "oversample"})


@_row("table7.corrupt_1_2", 0.812, 0.471, 0.703)
def table7_corrupt_1_2() -> Recipe:
    """Oversampled, corrupted at levels 1 and 2."""
    return _corrupted("1-2", {"sampling.name": "oversample"})


@_row("table7.corrupt_1_3", 0.807, 0.481, 0.707)
def table7_corrupt_1_3() -> Recipe:
    """Oversampled, corrupted at levels 1 to 3."""
    return _corrupted("1-3", {"sampling.name": "oversample"})


@_row("table7.corrupt_1_4", 0.803, 0.466, 0.695)
def table7_corrupt_1_4() -> Recipe:
    """Oversampled, corrupted at levels 1 to 4."""
    return _corrupted("1-4", {"sampling.name": "oversample"})


@register_recipe("wu.extension.mixed", ours=CORRUPTED)
def extension_mixed() -> Recipe:
    """What the paper suggests and does not try: half of the photographs as they are, half of them
    corrupted at levels 1 to 4."""
    return _corrupted("1-4", {"data.corrupt_share": 0.5})


@register_recipe("wu.extension.fresh", ours=CORRUPTED)
def extension_fresh() -> Recipe:
    """As corrupt_1_4, with every photograph corrupted anew in each epoch."""
    return _corrupted("1-4", {"data.corrupt_fresh": True})


def _defended(method: str) -> Recipe:
    """Trained on attacked photographs, every class as often as the others in each batch: of what is
    rare, training under attack otherwise learns nothing."""
    budget = {"adversarial.eps": "1/255", "adversarial.steps": 3, "adversarial.judge_steps": 10}
    changes = {"sampling.name": "quotas", "adversarial.method": method} | budget
    return override(table5_baseline(), changes)


DEFENDED = f"{OWN}, all of adversarial training and its sampling"


@register_recipe("wu.defence.baseline", ours=DEFENDED)
def defence_baseline() -> Recipe:
    """Beside the rows that are trained under attack: as they, without an attack in training."""
    return _defended("")


@register_recipe("wu.defence.fast", ours=DEFENDED)
def defence_fast() -> Recipe:
    """Adversarial training by one step from a random start, which the paper does not try."""
    return _defended("fast")


@register_recipe("wu.defence.pgd", ours=DEFENDED)
def defence_pgd() -> Recipe:
    """Adversarial training by projected gradient descent, which the paper does not try."""
    return _defended("pgd")


@register_recipe("wu.defence.trades", ours=DEFENDED)
def defence_trades() -> Recipe:
    """Adversarial training by TRADES, which the paper does not try."""
    return _defended("trades")

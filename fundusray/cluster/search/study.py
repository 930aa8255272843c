"""What Optuna does for a search: what a space holds, the next proposal, which settings mattered.

A proposal is a function of the space, the seed, its number and the trials before it that have a
value, and of nothing else: a search that was killed goes on as if it had not been.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    distribution_to_json,
    json_to_distribution,
)
from optuna.samplers import BaseSampler, RandomSampler, TPESampler

from fundusray import files
from fundusray.config import Recipe, override
from fundusray.errors import InputError

DRAWS = 300
"""How often a space is drawn from to learn what it holds."""
ANEW = 20
"""Times a proposal that was made before is drawn anew, the second half of them at random."""
optuna.logging.set_verbosity(optuna.logging.WARNING)


class SearchSpace(Protocol):
    """A module of tune_spaces."""

    POINTS: list[dict[str, Any]]
    """Named points, each what `space` would draw; the first is the baseline."""
    TITLE: str
    """What it searches, in words."""
    SETTINGS: dict[str, str]
    """Dotted key -> text: what a search sets unless the command does."""

    def space(self, trial: Any) -> Any:
        """Draws the settings of one trial by its suggest_ methods, each named by its dotted key."""

    def method(self, overrides: dict[str, Any]) -> str:
        """What a reader calls the trial."""


@dataclass(frozen=True)
class Proposal:
    """Settings to try."""

    settings: dict[str, Any]
    """Dotted key -> value."""
    ranges: dict[str, str]
    """Dotted key -> what the space could have drawn, as Optuna writes distributions."""

    def trial(self, values: Sequence[float]) -> optuna.trial.FrozenTrial:
        """The proposal as Optuna knows it once it has a value of each objective."""
        ranges = {key: json_to_distribution(text) for key, text in self.ranges.items()}
        return optuna.trial.create_trial(
            params=self.settings, distributions=ranges, values=list(values)
        )


class _Chosen(BaseSampler):
    """A sampler that draws what a function of the setting's name and range says."""

    def __init__(self, choose: Callable[[str, BaseDistribution], Any]) -> None:
        self.choose = choose

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
        return {}

    def sample_relative(self, study: Any, trial: Any, space: Any) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: Any, trial: Any, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self.choose(param_name, param_distribution)


def _drawn(
    space: SearchSpace,
    sampler: BaseSampler,
    before: list[Any] | None = None,
    num_objectives: int = 1,
) -> Proposal:
    """One proposal of the space."""
    study = optuna.create_study(directions=["maximize"] * num_objectives, sampler=sampler)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.add_trials(before or [])
    trial = study.ask()
    space.space(trial)
    ranges = {key: distribution_to_json(held) for key, held in trial.distributions.items()}
    return Proposal(dict(trial.params), ranges)


def propose_trial(
    space: SearchSpace,
    before: list[tuple[Proposal, Sequence[float]]],
    number: int,
    seed: int,
    num_objectives: int = 1,
) -> Proposal:
    """The search's proposal of that number (TPE, Bergstra et al. 2011; of several objectives, Ozaki
    et al. 2022).

    One that was made before is drawn anew, a few times at most: a small space runs out.

    Args:
        before: the proposals before it, each with its value of every objective, or with none.
    """
    tried = [proposal.trial(values) for proposal, values in before if len(values)]
    known = [proposal.settings for proposal, _ in before]
    for attempt in range(ANEW):
        # A seed for every number: no state of a sampler would outlive a kill.
        drawn = int(files.sha256(f"{seed}/{number}/{attempt}".encode())[:8], 16)
        random = attempt >= ANEW // 2  # TPE itself may insist
        sampler = RandomSampler(seed=drawn) if random else TPESampler(seed=drawn)
        proposal = _drawn(space, sampler, tried, num_objectives)
        if proposal.settings not in known:
            break
    return proposal


def space_summary(space: SearchSpace, recipe: Recipe) -> dict[str, Any]:
    """What a space holds, as plain values that are equal for equal spaces.

    {"settings": {dotted key: ranges}, "digest": of DRAWS draws with everything they asked}. The
    draws are counted out and not Optuna's own, so no version of it makes another space. Unlike a
    hash of the space's source, it is not changed by a comment or by what a row is called.

    Raises:
        InputError: the space cannot be drawn from, or draws what the recipe does not have.
    """
    settings: dict[str, set[str]] = {}
    draws = []
    for number in range(DRAWS):
        try:
            proposal = _drawn(space, _Chosen(lambda key, held, n=number: _counted(n, key, held)))
        except Exception as error:
            raise InputError(
                f"the search space cannot be drawn from: {type(error).__name__}: {error}"
            ) from error
        try:
            override(recipe, proposal.settings)
        except InputError as error:
            raise InputError(f"the search space draws {proposal.settings}: {error}") from error
        for key, text in proposal.ranges.items():
            settings.setdefault(key, set()).add(text)
        draws.append([proposal.settings, proposal.ranges])
    listed = {key: sorted(texts) for key, texts in sorted(settings.items())}
    return {"settings": listed, "digest": files.hash_json(draws, 16)}


def _counted(number: int, key: str, held: BaseDistribution) -> Any:
    """The value of a setting in a draw of that number, spread evenly over its range."""
    part = int(files.sha256(f"{number}/{key}".encode())[:12], 16) / 16**12
    if isinstance(held, CategoricalDistribution):
        return held.choices[int(part * len(held.choices))]
    if held.step:
        steps = int((held.high - held.low) / held.step + 1e-9)
        return held.low + int(part * (steps + 1)) * held.step
    return held.low + part * (held.high - held.low)


def points_of(space: SearchSpace, points: list[dict[str, Any]]) -> list[Proposal]:
    """The points as proposals of the space.

    Raises:
        InputError: the space would not draw one of them; names point, setting, value and range.
    """
    faults, proposals = [], []
    for number, point in enumerate(points, 1):
        proposal = _drawn(space, _Chosen(lambda key, held, p=point: _of_point(p, key, held)))
        name = f"point {number} ({point})"
        for key, text in proposal.ranges.items():
            held = json_to_distribution(text)
            if key not in point:
                faults.append(f"{name} lacks {key}, of which the space draws {_said(held)}")
            elif not range_holds(held, point[key]):
                faults.append(
                    f"{name}: {key}={point[key]!r}, but the space draws {_said(held)} there"
                )
        more = [key for key in point if key not in proposal.ranges]
        drawn = ", ".join(proposal.ranges)
        faults += [f"{name}: the space does not draw {key} there, only {drawn}" for key in more]
        proposals.append(Proposal(point, proposal.ranges))
    if faults:
        lines = "\n".join(f"  {fault}" for fault in faults)
        raise InputError(
            f"the search space's POINTS are not what it draws; change either:\n{lines}"
        )
    return proposals


def _of_point(point: dict[str, Any], key: str, held: BaseDistribution) -> Any:
    """What the point says, or anything at all where it does not fit: the fault is told later."""
    fits = key in point and range_holds(held, point[key])
    return point[key] if fits else _counted(0, key, held)


def range_holds(held: BaseDistribution, value: Any) -> bool:
    """Whether a range holds a value."""
    if isinstance(held, CategoricalDistribution):
        return value in held.choices
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return False
    steps = (value - held.low) / held.step if held.step else 0.0
    return held.low <= value <= held.high and abs(steps - round(steps)) < 1e-8


def _said(held: BaseDistribution) -> str:
    if isinstance(held, CategoricalDistribution):
        return "one of " + ", ".join(map(repr, held.choices))
    step = f" in steps of {held.step:g}" if held.step else ""
    return f"{held.low:g} to {held.high:g}{step}"


def pareto_front(values: Sequence[Sequence[float]]) -> list[bool]:
    """Whether each trial is on the front: none of the others is at least as good in every
    objective and better in one; higher is better."""
    return [
        not any(
            all(b >= a for a, b in zip(mine, theirs, strict=True))
            and any(b > a for a, b in zip(mine, theirs, strict=True))
            for theirs in values
        )
        for mine in values
    ]


def setting_importance(trials: list[tuple[Proposal, float]]) -> tuple[dict[str, float], str]:
    """(dotted setting -> share in what decided the value, why there is none).

    By fANOVA (Hutter et al. 2014), over the ranges from which the trials were once drawn.
    """
    study = optuna.create_study(direction="maximize")
    study.add_trials([proposal.trial([value]) for proposal, value in trials])
    if len(trials) < 4 or len({value for _, value in trials}) < 2:
        return {}, "too few trials to tell which settings mattered"
    try:
        judge = optuna.importance.FanovaImportanceEvaluator(seed=0)
        shares = optuna.importance.get_param_importances(study, evaluator=judge)
    except (RuntimeError, ValueError) as error:
        return {}, f"not computed: {error}"
    return {key: float(share) for key, share in shares.items()}, ""

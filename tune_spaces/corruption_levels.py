"""How damaged photographs should be in training: what a network that survives a bad camera costs
on good photographs (Wu 2020, Tables 6 to 8, and what the paper suggests at the end of section 4).

A parameter bears the recipe key it sets, so what a trial draws goes through `override` as it is.
Every trial is judged on the same damaged validation photographs (data.judge_corrupt).
"""

from typing import Any

TITLE = "damage to train on"
SETTINGS = {
    "data.judge_corrupt": "wu(level=1-4)",
    "tune.objectives": "kappa,corrupted_kappa",
}
"""What a search of this space sets unless the command does."""

LEVELS = ["", "1", "1-2", "1-3", "1-4", "2", "3", "4"]


def _damage(levels: str) -> str:
    return f"wu(level={levels})" if levels else ""


DAMAGES = [_damage(levels) for levels in LEVELS]


def space(trial: Any) -> None:
    """Draws one way to damage training photographs from an Optuna trial; "" is not at all."""
    if trial.suggest_categorical("data.corrupt", DAMAGES):
        trial.suggest_float("data.corrupt_share", 0.1, 1.0)
        trial.suggest_categorical("data.corrupt_fresh", [False, True])


def _point(levels: str, share: float = 1.0, fresh: bool = False) -> dict[str, Any]:
    return {
        "data.corrupt": _damage(levels),
        "data.corrupt_share": share,
        "data.corrupt_fresh": fresh,
    }


POINTS: list[dict[str, Any]] = [
    {"data.corrupt": ""},
    _point("1-4"),
    _point("1-4", share=0.5),
    _point("1-4", share=0.5, fresh=True),
    _point("1"),
    _point("1-2"),
    _point("1-3"),
]
"""Wu's ranges and mixtures, which every search runs first and to the end; the first, which never
sees a damaged photograph, is the baseline."""


def method(overrides: dict[str, Any]) -> str:
    """The name of a point's row in a leaderboard, e.g. `wu(level=1-4), half of showings`."""
    damage = overrides.get("data.corrupt", "")
    if not damage:
        return "no damage in training (baseline)"
    share = float(overrides.get("data.corrupt_share", 1.0))
    parts = [damage] + ([f"{share:.0%} of showings"] if share < 1 else [])
    return ", ".join(parts + (["anew each epoch"] if overrides.get("data.corrupt_fresh") else []))

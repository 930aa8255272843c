"""How strong an attack to train on, and how: what robustness costs in accuracy (Madry et al. 2018;
Zhang et al. 2019).

A parameter bears the recipe key it sets, so what a trial draws goes through `override` as it is.
Every trial is judged at the same budget (adversarial.judge_eps), whatever it is trained at.
"""

from typing import Any

TITLE = "attacks to train on"
SETTINGS = {
    "adversarial.eps": "0.5/255",
    "adversarial.judge_eps": "0.5/255",
    "adversarial.judge_steps": "10",
    "tune.objectives": "kappa,robust_accuracy",
}
"""What a search of this space sets unless the command does."""

METHODS = ["", "pgd", "fast", "trades"]
EPSILONS = ["0.125/255", "0.25/255", "0.5/255", "1/255", "2/255", "4/255"]
STEPS = [2, 3, 5, 7]
SHARES = [0.5, 1.0]


def space(trial: Any) -> None:
    """Draws one way to train against an attack from an Optuna trial; "" is without one."""
    method = trial.suggest_categorical("adversarial.method", METHODS)
    if not method:
        return
    trial.suggest_categorical("adversarial.eps", EPSILONS)
    if method != "fast":
        trial.suggest_categorical("adversarial.steps", STEPS)
    if method == "trades":
        trial.suggest_float("adversarial.beta", 1.0, 8.0)
    else:
        trial.suggest_categorical("adversarial.share", SHARES)


def _pgd(eps: str, steps: int, share: float = 1.0) -> dict[str, Any]:
    return {
        "adversarial.method": "pgd",
        "adversarial.eps": eps,
        "adversarial.steps": steps,
        "adversarial.share": share,
    }


POINTS: list[dict[str, Any]] = [
    {"adversarial.method": ""},
    _pgd("0.5/255", 3),
    _pgd("0.25/255", 3),
    _pgd("1/255", 3),
    _pgd("0.5/255", 3, share=0.5),
    {"adversarial.method": "fast", "adversarial.eps": "0.5/255", "adversarial.share": 1.0},
    {
        "adversarial.method": "trades",
        "adversarial.eps": "0.5/255",
        "adversarial.steps": 3,
        "adversarial.beta": 3.0,
    },
]
"""What every search runs first and to the end; the first, which never sees an attack, is the
baseline."""


def method(overrides: dict[str, Any]) -> str:
    """The name of a point's row in a leaderboard, e.g. `pgd-3 at 0.5/255`."""
    name = overrides.get("adversarial.method", "")
    if not name:
        return "no attack in training (baseline)"
    steps = f"-{overrides['adversarial.steps']}" if "adversarial.steps" in overrides else ""
    parts = [f"{name}{steps} at {overrides.get('adversarial.eps', '')}"]
    if name == "trades":
        parts.append(f"β={float(overrides.get('adversarial.beta', 6.0)):.3g}")
    if float(overrides.get("adversarial.share", 1.0)) < 1:
        parts.append(f"of {float(overrides['adversarial.share']):.0%} of a batch")
    return ", ".join(parts)

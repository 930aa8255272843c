"""Ways to learn from imbalanced classes: losses, sampling and dropout (Wu 2020, Table 5).

A parameter bears the recipe key it sets, so what a trial draws goes through `override` as it is.
"""

from typing import Any

TITLE = "balancing methods"
SETTINGS: dict[str, str] = {}
"""What a search of this space sets unless the command does."""

LOSSES = [
    "cross_entropy",
    "class_weights",
    "inverse_frequency",
    "focal",
    "class_balanced",
    "balanced_softmax",
]
BETAS = [0.9, 0.99, 0.999, 0.9999, 0.99999]
"""Of the class balanced loss; 1 - beta in even steps of its logarithm."""
SAMPLINGS = ["natural", "oversample", "quotas"]
DROPOUTS = [0.0, 0.25, 0.5, 0.75, 0.9]


def space(trial: Any) -> None:
    """Draws one way to balance from an Optuna trial.

    A loss's keyword is asked for only where that loss was drawn: gamma of focal, beta of
    class_balanced, power (weights are counts to the minus power) of class_weights.
    """
    loss = trial.suggest_categorical("loss.name", LOSSES)
    if loss == "focal":
        trial.suggest_float("loss.args.gamma", 0.5, 5.0)
    elif loss == "class_balanced":
        trial.suggest_categorical("loss.args.beta", BETAS)
    elif loss == "class_weights":
        trial.suggest_float("loss.args.power", 0.25, 1.0)
    trial.suggest_categorical("sampling.name", SAMPLINGS)
    trial.suggest_categorical("model.dropout", DROPOUTS)


def _point(loss: str, sampling: str = "natural", dropout: float = 0.0, **args: float) -> dict:
    keywords = {f"loss.args.{name}": value for name, value in args.items()}
    return {"loss.name": loss} | keywords | {"sampling.name": sampling, "model.dropout": dropout}


POINTS: list[dict[str, Any]] = [
    _point("cross_entropy"),
    _point("class_weights", power=0.5),
    _point("cross_entropy", "oversample", 0.75),
    _point("class_balanced", beta=0.9999),
    _point("focal", gamma=2.0),
    _point("cross_entropy", "quotas"),
    _point("inverse_frequency"),
    _point("class_balanced", beta=0.99),
]
"""One of each family, which every search runs first and to the end; the first is the baseline."""


def method(overrides: dict[str, Any]) -> str:
    """The name of a point's row in a leaderboard, e.g. `class balanced loss β=0.9999`.

    Keys that are not there have the recipe's defaults; other keys than those of `space` are left
    out.
    """

    def number(key: str, default: float) -> str:
        return f"{float(overrides.get(key, default)):.6g}"

    loss = overrides.get("loss.name", "cross_entropy")
    losses = {
        "cross_entropy": "cross entropy",
        "class_weights": f"class weights n^-{number('loss.args.power', 1)}",
        "inverse_frequency": "inverse frequency loss",
        "focal": f"focal loss γ={float(number('loss.args.gamma', 2)):.3g}",
        "balanced_softmax": "balanced softmax",
        "class_balanced": f"class balanced loss β={number('loss.args.beta', 0.999)}",
    }
    sampling = overrides.get("sampling.name", "natural")
    samplings = {"oversample": "oversampling", "quotas": "class quotas"}
    parts = [losses.get(loss, loss)]
    if sampling != "natural":
        parts.append(samplings.get(sampling, sampling))
        if loss == "cross_entropy":
            del parts[0]
    if number("model.dropout", 0) != "0":
        parts.append(f"dropout={number('model.dropout', 0)}")
    if parts == ["cross entropy"]:
        return "cross entropy (baseline)"
    return " + ".join(parts)

"""What a search learned: its history, and which settings mattered."""

from typing import Any, Protocol

import optuna


class Space(Protocol):
    """A module of tune_spaces."""

    POINTS: list[dict[str, Any]]
    """Named points, each what `space` would draw; the first is the baseline."""

    def space(self, trial: Any) -> Any:
        """Draws the settings of one trial by its suggest_ methods, each named by its dotted key."""

    def method(self, overrides: dict[str, Any]) -> str:
        """What a reader calls the trial."""


def study_of(trials: list[dict[str, Any]], space: Space) -> dict[str, Any]:
    """The search's history and which settings mattered (fANOVA, Hutter et al. 2014), plain values.

    {"history": [{number, value, state, method}], "importance": {dotted name: share}}, and
    "importance_note" where there is none.
    """
    study = optuna.create_study(direction="maximize")
    history = []
    for number, trial in enumerate(trials):
        name, value = space.method(trial["proposed"]), trial["value"]
        state = "failed" if trial["error"] else "complete"
        history.append({"number": number, "value": value, "state": state, "method": name})
        if trial["error"] or value is None:
            continue
        # Asked and told again, so that the study knows each setting's range.
        study.enqueue_trial(trial["proposed"])
        asked = study.ask()
        space.space(asked)
        study.tell(asked, value)
    told: dict[str, Any] = {"history": history, "importance": {}}
    values = {trial.value for trial in study.trials}
    if len(study.trials) < 4 or len(values) < 2:
        told["importance_note"] = "too few trials to tell which settings mattered"
        return told
    try:
        judge = optuna.importance.FanovaImportanceEvaluator(seed=0)
        found = optuna.importance.get_param_importances(study, evaluator=judge)
    except (RuntimeError, ValueError) as error:
        told["importance_note"] = f"not computed: {error}"
        return told
    told["importance"] = {key: float(share) for key, share in found.items()}
    return told

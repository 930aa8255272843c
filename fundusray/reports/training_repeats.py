"""Which networks a figure is of: how many trainings of a method, which epochs of a training, and
whether the rows it is measured on chose them or what they began from."""

from typing import Any

from fundusray.harmless import printable_text
from fundusray.metrics import METRICS
from fundusray.reports.number_text import count_text, is_finite_number, listed_text, number_text
from fundusray.reports.trials import MeasuredTrial, ReportTrial, is_search


def training_count(measured: MeasuredTrial) -> int:
    """How many trainings its figures are the mean of."""
    return measured.summary.get("repeats", 1)


def compared_trainings(measured: list[MeasuredTrial]) -> int:
    """Trainings behind the differences to the baseline, the fewest of any; 1 without one."""
    return min((m.versus["kappa"].get("repeats", 1) for m in measured if m.versus), default=1)


def verdict_subject(number_of_trainings: int) -> str:
    """What a verdict is about: one training each tells two networks apart, and no methods."""
    return "methods" if number_of_trainings > 1 else "networks"


def interval_unit(*summaries: dict[str, Any]) -> str:
    """What figures have as their unit: patients, or images where none is known."""
    counts = [summary["num_patients"] for summary in summaries if "num_patients" in summary]
    return "patients" if any(counts) or not counts else "images"


def _unit(measured: list[MeasuredTrial]) -> str:
    return interval_unit(*(m.summary for m in measured))


def intervals_over(measured: list[MeasuredTrial]) -> str:
    """What chance the intervals hold."""
    several = any(training_count(m) > 1 for m in measured if m.summary)
    return _unit(measured) + (" and trainings" if several else "")


def name_marks(measured: MeasuredTrial) -> str:
    """The signs behind a name: † its rows chose its epoch, ‡ they chose the network it began from;
    both are explained in the notes."""
    trial = measured.trial
    if not measured.summary:
        return ""
    return "†" * trial.optimistic + "‡" * trial.start_chosen


def epochs_text(trial: ReportTrial) -> str:
    """`best 6`, or `judged by epochs 5 and 7, bundle of epoch 6`."""
    if not trial.held_out_epochs:
        return f"best {trial.best_epoch}"
    return f"judged by {_pair(trial)}, bundle of epoch {trial.best_epoch}"


def _pair(trial: ReportTrial) -> str:
    first, second = trial.held_out_epochs
    return f"epochs {first} and {second}" if first != second else f"epoch {first}, chosen twice"


def networks_caption(measured: list[MeasuredTrial]) -> str:
    """For a caption: of which networks the figures are; empty where a training has one."""
    halved = [m.trial for m in measured if m.summary and m.trial.held_out_epochs]
    parts = []
    if halved:
        named = f" ({_pair(halved[0])})" if len(measured) == 1 else ""
        differ = any(len(set(trial.held_out_epochs)) > 1 for trial in halved)
        whose = "figures of two networks of a training" if differ else "both chose the same"
        parts.append(
            f"each half of the {_unit(measured)} judged by the epoch that was best on the other "
            "half: "
            f"{whose}{named}"
        )
    several = sorted({training_count(m) for m in measured if m.summary})
    if several and several[-1] > 1:
        parts.append(f"means of {' or '.join(map(str, several))} trainings")
    return "; ".join(parts)


def verdict_on(measured: list[MeasuredTrial]) -> str:
    """A sentence behind verdicts, on what they are about."""
    number_of = compared_trainings(measured)
    if number_of > 1:
        return f"Means of {number_of} trainings each: it is about the methods."
    return "One training each: it is about these networks, not about their methods."


def network_notes(measured: list[MeasuredTrial]) -> list[str]:
    """What a reader must know of the networks behind the figures."""
    shown = [m for m in measured if m.summary]
    found = [_once(shown), _several(shown), _precisions(shown), _halved(shown), _begun(shown)]
    return [note for note in found if note]


def _names(measured: list[MeasuredTrial], every: list[MeasuredTrial]) -> str:
    if len(every) > 1 and len(measured) == len(every):
        return "all rows"
    return listed_text([printable_text(m.trial.method) for m in measured])


def _once(shown: list[MeasuredTrial]) -> str:
    single = [m for m in shown if training_count(m) == 1]
    if len(shown) < 2 or not single:
        return ""
    opening = "Each" if len(single) == len(shown) else f"{_names(single, shown)}: each"
    return (
        f"{opening} was trained once: “better”, “worse”, supported and contradicted are of these "
        "very networks and not of their methods. Intervals hold the chance in who is measured, not "
        "in how a network happens to train: another seed moves a figure, too. "
        f"{'tune.repeats=3' if is_search(shown) else 'repeats=3'} measures by how much."
    )


def _several(shown: list[MeasuredTrial]) -> str:
    several = [m for m in shown if training_count(m) > 1]
    if not several:
        return ""
    # Where the order of the classes is not known there is no kappa.
    metric = "kappa" if any(is_finite_number(m.kappa) for m in several) else "balanced_accuracy"
    said = ", ".join(
        f"{printable_text(m.trial.method)} {number_text(m.summary.get(f'{metric}_seed_sd'))}"
        for m in several
        if is_finite_number(m.summary.get(f"{metric}_seed_sd"))
    )
    often = " or ".join(str(n) for n in sorted({training_count(m) for m in several}))
    return (
        f"Trained {often} times, on one split with a seed each: {_names(several, shown)}. Figures "
        f"are means, intervals hold the chance in {_unit(shown)} and in seeds (t with one degree "
        "of freedom less than trainings), and verdicts are about the methods. Standard deviation "
        f"of {metric.replace('_', ' ')} over the trainings: {said}. Confusion matrix, curve, "
        "epochs and bundle are those of the first."
    )


def _precisions(shown: list[MeasuredTrial]) -> str:
    ways: dict[str, list[MeasuredTrial]] = {}
    for m in shown:
        ways.setdefault(m.trial.precision, []).append(m)
    ways.pop("", None)
    if len(ways) < 2:
        return ""
    said = "; ".join(f"{way}: {_names(some, [])}" for way, some in sorted(ways.items()))
    return (
        f"Not all were computed in one precision ({said}), which is another cause of a difference "
        "between them; train.precision=fp32 gives all the same."
    )


def _halved(shown: list[MeasuredTrial]) -> str:
    halved = [m for m in shown if m.trial.held_out_epochs]
    if not halved:
        return ""
    pairs = "; ".join(f"{printable_text(m.trial.method)} {_pair(m.trial)}" for m in halved)
    return (
        f"There are no test rows: each half of the validation {_unit(shown)} is judged by the "
        "epoch that was best on the other half, so that the figures are of two networks of a "
        f"training where those differ ({pairs}). The best epoch, whose network is the bundle, is "
        "a third choice, by all validation rows: its own figures on them are not shown, as they "
        "would flatter."
    )


def _begun(shown: list[MeasuredTrial]) -> str:
    begun = [m for m in shown if m.trial.start_chosen]
    if not begun:
        return ""
    return (
        f"‡ {_names(begun, shown)}: began from a network whose epoch these very validation rows "
        "chose, so its figures flatter, and so do its differences to other rows and the verdicts "
        "on them; set data.fractions with a test share for figures that do not."
    )


def seed_spread_rows(measured: list[MeasuredTrial]) -> list[list[str]]:
    """Rows of method, trainings, and the standard deviation over them of each of METRICS."""
    return [
        [m.trial.method, str(training_count(m))]
        + [number_text(m.summary.get(f"{metric}_seed_sd")) for metric in METRICS]
        for m in measured
        if m.summary and training_count(m) > 1
    ]


def finished_count_text(measured: MeasuredTrial) -> str:
    """`3 trainings`, or how many of those asked for are there."""
    asked = len(measured.trial.repeats)
    done = training_count(measured)
    return (
        count_text(done, "training")
        if done == asked
        else f"{done} of {count_text(asked, 'training')}"
    )

"""What a search's choice means, in sentences: by which rows, and what one training can say."""

from fundusray.reports.text import count, number
from fundusray.reports.trials import Measured, searched

CHOSEN = (
    "Chosen",
    "The trial whose best epoch has the highest {selected} on the validation rows (its trainings’ "
    "mean where there are several); of equal ones the one proposed first.",
)


def validation_named(measured: list[Measured]) -> str:
    """What a search's trials are worth, as a column is called: `Validation kappa`."""
    selected = next((m.trial.selected_by for m in measured), "metric")
    return f"Validation {selected.removeprefix('val_').replace('_', ' ')}"


def choice(best: Measured, measured: list[Measured]) -> str:
    """How a search came to its trial, and what that does to the trial's figures."""
    if not best.trial.chosen:
        return ""
    rivals = [m for m in measured if m.trial.validation is not None]
    said = (
        f"Its {validation_named([best]).lower()} is {number(best.trial.validation)}, the highest "
        f"of {count(len(rivals), 'trial')}"
    )
    if best.trial.side != "val":
        return f"{said}; the test rows had no part in the choice."
    return (
        f"{said}; there are no test rows, so it was chosen by the rows it is measured on, and its "
        "figures are partly luck: set data.fractions with a test share."
    )


def trained(measured: list[Measured]) -> str:
    """Of a search: what one training, or some, can say of a method."""
    able = [m for m in measured if m.summary]
    if not searched(measured) or len(able) < 2:
        return ""
    most = max(len(m.trial.repeats) for m in able)
    if not most:
        return (
            "Each method was trained once: “better” and “worse” are about these networks, not "
            "about the methods, and another seed may turn them; tune.repeats=3 trains each three "
            "times."
        )
    return (
        f"Each method that was not stopped early was trained {most} times on the same split, with "
        "other seeds; its value on validation rows is their mean, its bundle that of the first."
    )

"""What a search's choice means, in sentences: by which rows, and what that does to figures."""

from fundusray.reports.number_text import count_text, number_text
from fundusray.reports.trials import MeasuredTrial

CHOICE_SENTENCES = (
    "Chosen",
    "The trial whose best epoch has the highest {selected} on the validation rows (its trainings’ "
    "mean where there are several); of equal ones the one proposed first.",
)


def validation_named(measured: list[MeasuredTrial]) -> str:
    """What a search's trials are worth, as a column is called: `Validation kappa`."""
    selected = next((m.trial.selected_by for m in measured), "metric")
    return f"Validation {selected.removeprefix('val_').replace('_', ' ')}"


def choice_sentences(best: MeasuredTrial, measured: list[MeasuredTrial]) -> str:
    """How a search came to its trial, and what that does to the trial's figures."""
    if not best.trial.chosen:
        return ""
    rivals = [m for m in measured if m.trial.validation is not None]
    said = (
        f"Its {validation_named([best]).lower()} is {number_text(best.trial.validation)}, the "
        f"highest "
        f"of {count_text(len(rivals), 'trial')}"
    )
    if best.trial.side != "val":
        return f"{said}; the test rows had no part in the choice."
    return (
        f"{said}; there are no test rows, so it was chosen by the rows it is measured on, and its "
        "figures are partly luck: set data.fractions with a test share."
    )

"""What every term of a page means."""

from collections import Counter

from fundusray.metrics import METRICS
from fundusray.reports.number_text import TOO_FEW, printable_text
from fundusray.reports.selection import CHOICE_SENTENCES
from fundusray.reports.sentences import auc_name, independence_note, rows_named, split_text
from fundusray.reports.trials import MeasuredTrial, PageFacts, chosen_of

DEFINITIONS = [
    (
        "Interval",
        "Where the figure would lie on all such eyes, 95 times in 100, with patients as units, "
        "because two eyes of one patient are not independent: Wilson’s interval with a design "
        "effect for shares of eyes, their squares added for balanced accuracy, each patient left "
        "out once for kappa and AUC. “{too_few}” stands where there are too few patients for it.",
    ),
    (
        "Difference and verdict",
        "Trial minus baseline on the same eyes; its interval knows that both meet the same "
        "patients. “better” or “worse” where the whole interval is on one side of 0, otherwise "
        "“undecided”: not shown to be equal, just not told apart by this many eyes. With one "
        "training each it is about these networks; with several, whose intervals hold the chance "
        "of seeds, too, about the methods.",
    ),
    (
        "Kappa",
        "Quadratically weighted Cohen’s kappa: agreement with the reference grade, a miss by two "
        "grades counting four times a miss by one. 1 is perfect; 0 is chance, and what one answer "
        "for every eye gets.",
    ),
    ("Balanced accuracy", "The mean of the recalls of the classes that occur."),
    ("Recall", "The share of a class’s eyes that are called that class."),
    (
        "{auc}",
        "Area under the ROC curve for {positive} against the rest, by the summed probabilities.",
    ),
    ("Majority baseline", "The accuracy of calling every eye the most frequent grade."),
    (
        "Best epoch",
        "The epoch with the best {selected} on the validation rows; its network is the bundle.",
    ),
    ("Rows", "Measured on {rows} rows{split}."),
    ("Time", "Wall clock of the training, on this hardware; a paper’s is on its own."),
    ("Paper", "What the publication reports on its own split; not measured here."),
]


def definitions(measured: list[MeasuredTrial], about: PageFacts) -> list[tuple[str, str]]:
    """(term, meaning) of everything the page measures."""
    selected = Counter(m.trial.selected_by for m in measured).most_common(1)
    how, named = split_text(about), rows_named(measured)
    facts = {
        "too_few": TOO_FEW,
        "selected": selected[0][0].removeprefix("val_") if selected else "metric",
        "rows": named if named == "all" else f"the {named}",
        "split": f", {how}" if how else "",
    }
    whole = [*DEFINITIONS, *([CHOICE_SENTENCES] if chosen_of(measured) else [])]
    classes = [printable_text(str(name)) for name in about.get("classes") or ()]
    positive = f"class “{classes[2]}” or worse" if len(classes) > 2 else "grade 2 or worse"
    facts["positive"] = f"class “{classes[1]}”" if len(classes) == 2 else positive
    facts["auc"] = printable_text(auc_name(about))
    whole += [(f.title, f.meaning) for f in map(METRICS.facts, METRICS) if f.meaning]
    terms = [(term.format(**facts), meaning.format(**facts)) for term, meaning in whole]
    if caveat := independence_note(measured, about):
        # Right behind what is said of intervals.
        terms.insert(1, ("Patients", f"{caveat[0].upper()}{caveat[1:]}."))
    return terms

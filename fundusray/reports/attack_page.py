"""What an attack left of a network, as a page: a table by budget, by grade, a curve."""

from collections.abc import Sequence
from typing import Any

from fundusray.fractions_of_range import fraction_text
from fundusray.reports.evaluation_page import EvaluationPage, PageFigure, PageTable
from fundusray.reports.number_text import count_text, estimate_text, number_text, people_text
from fundusray.reports.robustness_curves import robustness_curves

DEFINITIONS = (
    "Success: right of the image as it is, wrong of the attacked one; its share is of the images "
    "that were right.",
    "Changed: answered otherwise than before, whether that was right or not; its share is of all "
    "images (the success rate of Wu 2020).",
    "Robust accuracy: right as they are and still right, of all images; balanced: the mean of its "
    "shares in each class, which one answer for all images has of 1 / classes.",
    "From 8 bits, from JPEG: made wrong also after rounding to 8 bits, after saving as JPEG of "
    "quality 90.",
    "Up and down: answered with a higher or a lower class than before, of all images.",
    "Every attacked image was measured to be within the budget and in [0, 1], and its success "
    "found by the network itself in full precision.",
    "Intervals are 95 %, with patients as units.",
)


def budget_text(eps: float, norm: str) -> str:
    """A budget as people write it: 2/255 or 1/100 for linf, 0.5 for l2."""
    return fraction_text(eps) if norm == "linf" else f"{eps:.4g}"


def attack_tables(figures: Sequence[dict[str, Any]], classes: Sequence[str]) -> list[PageTable]:
    """The table by budget and that by class, of rows of `metrics.robustness.attack_figures`."""
    first = figures[0]
    caption = (
        f"{people_text(first, 'image')}; always the most frequent class is right of "
        f"{number_text(first['majority_accuracy'])}. Shares with 95 % intervals."
    )
    shares = ["robust_accuracy", "robust_balanced_accuracy", "success_rate", "changed_rate"]
    shares += ["up_rate", "down_rate"]
    head = ["eps", "robust accuracy", "balanced", "success", "changed", "up", "down"]
    for name, title in (("rounded_rate", "from 8 bits"), ("jpeg_rate", "from JPEG")):
        if name in first:
            shares.append(name)
            head.append(f"success {title}")
    head.append("queries an image")
    clean = ["0 (clean)", estimate_text(first, "clean_accuracy"), *["–"] * (len(head) - 2)]
    rows = [
        [
            budget_text(row["eps"], row["norm"]),
            *(estimate_text(row, name) for name in shares),
            f"{row['queries']:,.0f}",
        ]
        for row in figures
    ]
    present = [k for k in range(len(classes)) if f"robust_recall_{k}" in first]
    by_class = [
        [
            budget_text(row["eps"], row["norm"]),
            *(estimate_text(row, f"robust_recall_{k}", 2) for k in present),
        ]
        for row in figures
    ]
    return [
        PageTable("By budget", caption, head, [clean, *rows]),
        PageTable(
            "By class",
            f"Robust accuracy among the images of each class. {caption}",
            ["eps", *(classes[k] for k in present)],
            by_class,
        ),
    ]


def attack_page(
    title: str,
    figures: Sequence[dict[str, Any]],
    classes: Sequence[str],
    notes: Sequence[str],
    command: str,
) -> EvaluationPage:
    """The page of one attack on one network."""
    first, last = figures[0], figures[-1]
    unit = "levels of 255" if first["norm"] == "linf" else "L2, pixels in [0, 1]"
    curve = robustness_curves({first["attack"]: figures}, unit)
    worst = budget_text(last["eps"], last["norm"])
    said = "; ".join(
        f"at {budget_text(row['eps'], row['norm'])} {number_text(row['robust_accuracy'])}"
        for row in figures
    )
    summary = [
        f"Right of {estimate_text(first, 'clean_accuracy')} of {count_text(first['n'], 'image')} "
        f"as they are, and of {estimate_text(last, 'robust_accuracy')} under attack within "
        f"{first['norm']} {worst}; always the most frequent class is right of "
        f"{number_text(first['majority_accuracy'])}.",
    ]
    return EvaluationPage(
        title=title,
        caption=f"{first['attack']}, {first['norm']}; {people_text(first, 'image')}.",
        summary=summary,
        tables=attack_tables(figures, classes),
        figures=[PageFigure("Accuracy against the budget", curve, f"Robust accuracy {said}.")],
        notes=[*notes, *DEFINITIONS],
        command=command,
    )

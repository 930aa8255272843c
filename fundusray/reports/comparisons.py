"""Differences of a table's rows to its baseline, corrected for their number, and what they say
about the published ones."""

from typing import Any

from fundusray.metrics import METRICS
from fundusray.reports.number_text import (
    count_text,
    is_finite_number,
    listed_text,
    number_text,
    signed_text,
)
from fundusray.reports.training_repeats import verdict_subject
from fundusray.reports.trials import MeasuredTrial, baseline_of

LEVEL = 0.05
DECIDED = {"better": 1, "worse": -1, "undecided": 0}


def comparisons(measured: list[MeasuredTrial]) -> list[dict[str, Any]]:
    """One row per row of the table and metric: the difference to the baseline on the same patients.

    Keys: row, metric, difference, low, high (95 %, not corrected), verdict, p, holm (the verdict
    after Holm's correction over all rows and metrics here), paper (the published difference, or
    None), claim (supported, contradicted, undecided, after Holm's correction; empty where the paper
    has no difference), repeats (trainings of each), seed_sd (of the difference, over them), about
    (what verdict and claim are about: "networks" of one training each, or "methods"), flattered
    (one of the two began from a network that the judged rows chose).

    p is the level at which the difference's own interval would just touch 0.
    """
    base = baseline_of(measured)
    found: list[dict[str, Any]] = []
    for m in measured:
        for metric in METRICS if m.versus else ():
            versus = m.versus[metric]
            row: dict[str, Any] = {"row": m.trial.method, "metric": metric}
            row |= {key: versus[key] for key in ("difference", "low", "high", "verdict")}
            row["p"] = versus["p"]
            row |= {"repeats": versus.get("repeats", 1), "seed_sd": versus.get("seed_sd")}
            row["about"] = verdict_subject(row["repeats"])
            sides = [t.trial for t in (m, base) if t is not None]
            row["flattered"] = any(trial.start_chosen for trial in sides)
            theirs = [t.trial.published.get(metric) for t in (m, base) if t is not None]
            row["paper"] = theirs[0] - theirs[1] if all(map(is_finite_number, theirs)) else None
            found.append(row)
    kept = holm([row["p"] for row in found])
    for row, rejected in zip(found, kept, strict=True):
        row["holm"] = row["verdict"] if rejected else "undecided"
        row["claim"] = _claim(row["paper"], row["holm"])
    return found


def holm(values: list[float | None], level: float = LEVEL) -> list[bool]:
    """Which hypotheses fall at a family-wise error rate of `level` (Holm 1979, step-down).

    None counts as a comparison that decides nothing.
    """
    order = sorted(range(len(values)), key=lambda k: 1.0 if values[k] is None else values[k])
    rejected = [False] * len(values)
    for place, index in enumerate(order):
        value = values[index]
        if value is None or value > level / (len(values) - place):
            break
        rejected[index] = True
    return rejected


def _claim(paper: float | None, verdict: str) -> str:
    """What the measured difference says about the published one."""
    if paper is None or abs(paper) < 1e-9:
        return ""
    decided = DECIDED[verdict]
    if not decided:
        return "undecided"
    return "supported" if decided * paper > 0 else "contradicted"


def decided_differences(compared: list[dict[str, Any]]) -> list[str]:
    """Which of the paper's differences to the baseline are decided here."""
    claims = [row for row in compared if row["claim"]]
    if not claims:
        return []
    words = []
    for claim in ("supported", "contradicted"):
        names = [
            f"{row['row']} in {row['metric'].replace('_', ' ')} "
            f"(paper {signed_text(row['paper'])}, here {signed_text(row['difference'])})"
            + (" ‡" if row["flattered"] else "")
            for row in claims
            if row["claim"] == claim
        ]
        if names:
            words.append(f"{claim}: {listed_text(names).replace('“', '').replace('”', '')}")
    number_decided = sum(row["claim"] != "undecided" for row in claims)
    opening = f"Of {count_text(len(claims), 'difference')} to the baseline that the paper prints, "
    opening += (
        f"the direction of {number_decided} is decided here, after Holm's correction{_of(claims)}"
    )
    return [f"{opening}; {'; '.join(words)}." if words else f"{opening}."]


def comparison_count_text(compared: list[dict[str, Any]]) -> list[str]:
    if not compared:
        return []
    plain = sum(row["verdict"] != "undecided" for row in compared)
    left = sum(row["holm"] != "undecided" for row in compared)
    return [
        f"{len(compared)} comparisons were made. Intervals are not corrected for that: of so many, "
        f"about {number_text(LEVEL * len(compared), 1)} would be decided by chance alone. "
        f"{plain} are "
        f"decided without a correction, {left} after Holm's (family-wise error rate {LEVEL:g}; p "
        "is the level at which a difference's interval would just touch 0)."
    ]


def _of(claims: list[dict[str, Any]]) -> str:
    """What a claim is about, in brackets."""
    fewest, most = (pick(row["repeats"] for row in claims) for pick in (min, max))
    if fewest > 1:
        often = str(most) if fewest == most else f"{fewest} to {most}"
        return f" (of the methods: {often} trainings each)"
    return " (of these networks, one training each, and not of the methods)"

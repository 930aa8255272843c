"""The leak premium as a table and a sentence: what a split by image adds to each figure."""

from typing import Any

import numpy as np
import pyarrow as pa

from fundusray import files, metrics
from fundusray.reports.number_text import change_text, count_text, estimate_text, number_text

CONCLUSIONS = {
    "better": "flattered by the leak",
    "worse": "lower with the leak",
    "undecided": "undecided",
}


def premium_rows(patient: str, image: str) -> list[dict[str, Any]]:
    """One row per metric: both splits' figures, the paired difference (image - patient), 95 %
    patient-clustered intervals, n, patients and the majority baseline.

    Args:
        patient: location of the predictions of networks that never saw the tested patients.
        image: of networks that were trained on their fellow eyes; the same rows.
    """
    tables = [files.read_table(location) for location in (patient, image)]
    ours, theirs = (premium_by_repeat(table) for table in tables)
    without, with_leak = (
        metrics.repeated_summary(parts, elsewhere=True) for parts in (ours, theirs)
    )
    differences = metrics.repeated_differences(theirs, ours, elsewhere=True)
    found = []
    for metric in metrics.METRICS:
        difference = differences[metric]
        row: dict[str, Any] = {"metric": metric, "n": tables[0].num_rows}
        row["num_patients"] = len(set(tables[0]["patient_id"].to_pylist()))
        for arm, summary in (("patient", without), ("image", with_leak)):
            row |= {f"{arm}{end}": summary[f"{metric}{end}"] for end in ("", "_low", "_high")}
        row |= {"premium": difference["difference"], "premium_low": difference["low"]}
        row |= {"premium_high": difference["high"], "majority": without["majority_accuracy"]}
        row |= {"repeats": len(ours), "premium_seed_sd": difference["seed_sd"]}
        found.append(row | {"verdict": CONCLUSIONS[difference["verdict"]]})
    return found


def premium_by_repeat(table: pa.Table) -> list[pa.Table]:
    """The rows of each repeat, whose number is before the colon of their ids."""
    numbers = [name.partition(":")[0] for name in table["image_id"].to_pylist()]
    mask = np.array(numbers)
    return [table.filter(pa.array(mask == number)) for number in dict.fromkeys(numbers)]


def write_premium(folder: str, title: str, found: dict[str, Any]) -> dict[str, str]:
    """Writes premium.md, premium.csv and premium.json into `folder`; where two of them are.

    Args:
        found: runs and predictions, as the measurement gives them.
    """
    table = premium_rows(found["predictions"]["patient"], found["predictions"]["image"])
    files.write_json(files.join(folder, "premium.json"), found | {"table": table})
    files.write_csv(files.join(folder, "premium.csv"), table)
    text = markdown_table(title, found["runs"], table, found.get("unknown", ""))
    files.write_bytes(files.join(folder, "premium.md"), text.encode())
    return {"table": files.join(folder, "premium.csv"), "report": files.join(folder, "premium.md")}


def markdown_table(
    title: str, runs: list[dict[str, Any]], table: list[dict[str, Any]], unknown: str = ""
) -> str:
    """The table with its sentence of what was done and its notes.

    Args:
        unknown: of which photographs patients are unknown, in a sentence.
    """
    first = table[0]
    repeats = count_text(len({run["repeat"] for run in runs}), "repeat")
    known = [run["known"] for run in runs if run["arm"] == "image"]
    swapped = [run["swapped"] for run in runs if run["arm"] == "image"]
    tested = [run["tested"] for run in runs if run["arm"] == "image"]
    lines = [
        f"# Leak premium: {title}",
        "",
        f"{count_text(first['n'], 'tested eye')} of "
        f"{count_text(first['num_patients'], 'patient')} in "
        f"{repeats}; majority baseline accuracy {number_text(first['majority'])}.",
        "",
        "| metric | split by patient | split by image | premium (image - patient) | verdict |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    for row in table:
        ends = {"low": row["premium_low"], "high": row["premium_high"]}
        premium = change_text({"difference": row["premium"]} | ends)
        sides = [estimate_text(row, arm) for arm in ("patient", "image")]
        name = row["metric"].replace("_", " ")
        lines.append(f"| {name} | {sides[0]} | {sides[1]} | {premium} | {row['verdict']} |")
    return "\n".join(
        [
            *lines,
            "",
            "- The same eyes are tested twice. Split by patient: the network never saw their "
            "patients. Split by image: it was trained on the fellow eyes of "
            f"{_each(known)} of {_each(tested)} tested eyes, {_each(swapped)} of them in place of "
            "as many other eyes of the same classes; the size of the train side is the same.",
            "- Intervals are 95 %, with patients as units; a difference whose interval holds 0 is "
            f"undecided, which is not the same as no premium. {_chance(first['repeats'])}",
            *([f"- Only eyes of known patients are tested; {unknown}."] if unknown else []),
            "",
        ]
    )


def _chance(repeats: int) -> str:
    if repeats == 1:
        return (
            "Each side was trained once: the verdict is of these two networks, and another seed "
            "moves it, too; repeats=3 or more measure by how much."
        )
    return (
        "Figures are means over the repeats, each with a split and a seed of training of its own; "
        "intervals hold the chance of both (t with one degree of freedom less than repeats)."
    )


def _each(numbers: list[int]) -> str:
    return ", ".join(f"{n:,}" for n in numbers)

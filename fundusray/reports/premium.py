"""The leak premium as a table and a sentence: what a split by image adds to each figure."""

from typing import Any

from fundusray import files, metrics
from fundusray.reports.text import change, count, estimate, number

CONCLUSIONS = {
    "better": "flattered by the leak",
    "worse": "lower with the leak",
    "undecided": "undecided",
}


def rows(patient: str, image: str, seed: int = 0) -> list[dict[str, Any]]:
    """One row per metric: both splits' figures, the paired difference (image - patient), 95 %
    patient-clustered intervals, n, patients and the majority baseline.

    Args:
        patient: location of the predictions of networks that never saw the tested patients.
        image: of networks that were trained on their fellow eyes; the same rows.
    """
    tables = [files.read_table(location) for location in (patient, image)]
    without, with_leak = (metrics.summary(table, seed=seed) for table in tables)
    differences = metrics.paired(tables[1], tables[0], seed=seed)
    found = []
    for metric in metrics.METRICS:
        difference = differences[metric]
        row: dict[str, Any] = {"metric": metric, "n": without["n"]}
        row["num_patients"] = without["num_patients"]
        for arm, summary in (("patient", without), ("image", with_leak)):
            row |= {f"{arm}{end}": summary[f"{metric}{end}"] for end in ("", "_low", "_high")}
        row |= {"premium": difference["difference"], "premium_low": difference["low"]}
        row |= {"premium_high": difference["high"], "majority": without["majority_accuracy"]}
        found.append(row | {"verdict": CONCLUSIONS[difference["verdict"]]})
    return found


def write(folder: str, title: str, found: dict[str, Any], seed: int = 0) -> dict[str, str]:
    """Writes premium.md, premium.csv and premium.json into `folder`; where two of them are.

    Args:
        found: runs and predictions, as the measurement gives them.
    """
    table = rows(found["predictions"]["patient"], found["predictions"]["image"], seed)
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
    repeats = count(len({run["repeat"] for run in runs}), "repeat")
    known = [run["known"] for run in runs if run["arm"] == "image"]
    swapped = [run["swapped"] for run in runs if run["arm"] == "image"]
    tested = [run["tested"] for run in runs if run["arm"] == "image"]
    lines = [
        f"# Leak premium: {title}",
        "",
        f"{count(first['n'], 'tested eye')} of {count(first['num_patients'], 'patient')} in "
        f"{repeats}; majority baseline accuracy {number(first['majority'])}.",
        "",
        "| metric | split by patient | split by image | premium (image - patient) | verdict |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    for row in table:
        ends = {"low": row["premium_low"], "high": row["premium_high"]}
        premium = change({"difference": row["premium"]} | ends)
        sides = [estimate(row, arm) for arm in ("patient", "image")]
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
            "undecided, which is not the same as no premium. They hold the chance in who is "
            "tested, and of how networks happen to train only as much as the repeats show.",
            *([f"- Only eyes of known patients are tested; {unknown}."] if unknown else []),
            "",
        ]
    )


def _each(numbers: list[int]) -> str:
    return ", ".join(f"{n:,}" for n in numbers)

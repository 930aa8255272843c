"""A scan told to a person: what is in a set, what is wrong with it, what to do next."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from fundusray import files
from fundusray.reports.contact_sheet import SheetCell, contact_sheet
from fundusray.reports.number_text import count_text, people_text, printable_text

MOST_NAMED = 10
"""Names after which a list ends in how many more there are."""
COLUMNS = 6
ROWS = 4
"""Rows of the sheet that one matter gets at most."""
MEANING = {
    "black": "nothing but black",
    "tiny": "shorter side below half of data.size",
    "no_fundus": "looks like no photograph of a fundus",
    "torn": "rows jump: the file is damaged inside, though it decodes",
    "dark": "under-exposed",
    "bright": "over-exposed, or light beside the lens",
    "grey": "no colour",
    "masks": "a mask that cannot be read or has another size",
}


def write_scan(
    folder: str, facts: dict[str, Any], pictures: dict[str, np.ndarray]
) -> dict[str, str]:
    """Writes summary.txt, summary.json and contact_sheet.png; their places.

    Args:
        facts: of `data.scan.findings`.
        pictures: image_id -> uint8 [H, W, 3], of all that `contact_sheet_rows` names.
    """
    rows = [
        [SheetCell(pictures[i], caption) for i, caption in row] for row in contact_sheet_rows(facts)
    ]
    title = f"{facts['source']}: {count_text(facts['photographs'], 'photograph')}"
    contents = {
        "summary.txt": scan_text(facts).encode(),
        "contact_sheet.png": contact_sheet(rows, title=title),
    }
    for name, content in contents.items():
        files.write_bytes(files.join(folder, name), content)
    files.write_json(files.join(folder, "summary.json"), facts)
    names = {"summary": "summary.txt", "contact_sheet": "contact_sheet.png"}
    return {key: files.join(folder, name) for key, name in names.items()}


def contact_sheet_rows(facts: dict[str, Any]) -> list[list[tuple[str, str]]]:
    """The sheet's rows of (image_id, caption): near-duplicates, repaired, flagged, examples."""
    rows = _in_rows([_twins(group, facts) for group in _by_weight(facts["duplicates"])])
    repaired = [
        [(row["image_id"], f"{row['image_id']}: repaired, {row['recovered']:.0%} of the rows")]
        for row in facts["repaired"]
    ]
    rows += _in_rows(repaired)
    refused = {row["image_id"] for row in facts["refused"]}
    for flag, names in facts["flags"].items():
        told = flag.replace("_", " ")
        rows += _in_rows([[(i, f"{i}: {told}")] for i in names if i not in refused])
    sound = [
        (i, f"{i}: {label or 'no label'}") for label, names in facts["examples"].items()
        for i in names
    ]  # fmt: skip
    return rows + _in_rows([[cell] for cell in sound])


def _by_weight(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Conflicting near-duplicates first, then those of several patients."""
    return sorted(groups, key=lambda g: (not g["conflict"], not _of_several(g)))


def _twins(group: dict[str, Any], facts: dict[str, Any]) -> list[tuple[str, str]]:
    said = f"; DIFFERENT {group['conflict']}" if group["conflict"] else ""
    first = group["images"][0]
    return [
        (image_id, f"{image_id}: {label or 'no label'}; " + (f"twin of {first}{said}"))
        for image_id, label in zip(group["images"][:COLUMNS], group["labels"], strict=False)
    ]


def _in_rows(groups: list[list[tuple[str, str]]]) -> list[list[tuple[str, str]]]:
    """The groups in at most ROWS rows of COLUMNS; none is torn apart."""
    rows: list[list[tuple[str, str]]] = []
    for group in groups:
        if not rows or len(rows[-1]) + len(group) > COLUMNS:
            rows.append([])
        rows[-1].extend(group)
    return rows[:ROWS]


def scan_text(facts: dict[str, Any]) -> str:
    """The scan in words and numbers."""
    parts = (_what(facts), _status(facts), _flags(facts), _labels(facts))
    parts += (_duplicates(facts), _split(facts), _next(facts))
    return "\n\n".join("\n".join(lines) for part in parts if (lines := list(part))) + "\n"


def _what(facts: dict[str, Any]) -> Iterator[str]:
    size = f"{facts['bytes'] / 1e6:,.1f} MB"
    told = {"n": facts["photographs"], "num_patients": facts["patients"]}
    told["num_unknown"] = facts["unknown_patients"]
    yield f"{people_text(told, 'photograph')}, {size} ({printable_text(facts['source'])})"
    yield from (f"  {printable_text(note)}" for note in facts["notes"])
    if len(facts["datasets"]) > 1:
        yield f"  sets:  {_counted(facts['datasets'])}"
    yield f"  sizes: {_counted(facts['sizes'])}"
    eyes = {f"{eye or 'unknown'}": num for eye, num in facts["eyes"].items()}
    yield f"  eyes:  {_counted(eyes)}"
    if set(facts["sexes"]) - {""}:
        sexes = {f"{sex or 'unknown'}": num for sex, num in facts["sexes"].items()}
        yield f"  sexes: {_counted(sexes)}"
    if facts["many"]:
        yield f"  patients with many photographs: {_counted(facts['many'])}"


def _status(facts: dict[str, Any]) -> Iterator[str]:
    yield "what prepare will do with them"
    for name, num in facts["status"].items():
        yield f"  {name:10} {num:>7,}"
    for name in ("refused", "repaired"):
        lines = [f"{row['where']}: {row['reason']}" for row in facts[name]]
        yield from _listed(f"  {name}:", lines)
    missing = [f"{row['where']}: {row['reason']}" for row in facts["missing"]]
    yield from _listed(f"  set aside by the source ({len(missing):,}):", missing)
    yield from (f"  {printable_text(line)}" for line in facts["untaken"])


def _flags(facts: dict[str, Any]) -> Iterator[str]:
    flagged = {flag: names for flag, names in facts["flags"].items() if names}
    if flagged:
        yield "worth a look (contact_sheet.png)"
    for flag, names in flagged.items():
        yield f"  {flag:10} {len(names):>7,}  {MEANING[flag]}: {_names(names)}"
    yield from _listed(
        "  masks:", [f"{image_id}: {why}" for image_id, why in facts["mask_faults"].items()]
    )


def _labels(facts: dict[str, Any]) -> Iterator[str]:
    total = sum(facts["labels"].values())
    if facts["kinds"]:
        total = 0
        yield f"masks ({facts['target']}), photographs that have one"
        yield from (f"  {printable_text(k):30} {num:>7,}" for k, num in facts["kinds"].items())
    if total:
        order = "in their order" if facts["ordered"] else "their order is not known"
        yield f"labels ({facts['target']}; {order})"
    for name, num in facts["labels"].items() if total else ():
        yield f"  {printable_text(name):30} {num:>7,}  {num / total:6.1%}"
    if facts["unlabelled"]:
        of_them = f", {len(facts['ungradable']):,} of them ungradable" * bool(facts["ungradable"])
        said = (
            f"{count_text(facts['unlabelled'], 'photograph')} without a label of {facts['target']}"
        )
        yield said + of_them
    yield from _listed("", [f"{row['where']}: {row['reason']}" for row in facts["ungradable"]])


def _duplicates(facts: dict[str, Any]) -> Iterator[str]:
    groups = facts["duplicates"]
    if not groups:
        yield "near-duplicates: none"
        return
    images = sum(len(group["images"]) for group in groups)
    yield f"near-duplicates: {count_text(len(groups), 'group')} of {images:,} photographs in all"
    identical = sum(group["identical"] for group in groups)
    several = sum(_of_several(group) for group in groups)
    differing = Counter(name for g in groups for name in g["conflict"].split(",") if name)
    told = f": {_counted(dict(differing))}" if differing else ""
    conflicts = sum(bool(group["conflict"]) for group in groups)
    known = " known" if facts["unknown_patients"] else ""
    yield f"  {identical:,} of identical files, {several:,} of several{known} patients"
    yield f"  {conflicts:,} with different labels{told}"
    lines = []
    for group in _by_weight(groups):
        named = zip(group["images"], group["labels"], strict=True)
        said = f": DIFFERENT {group['conflict']}" if group["conflict"] else ""
        lines.append(" = ".join(f"{i} ({label or 'no label'})" for i, label in named) + said)
    yield from _listed("", lines)


def _split(facts: dict[str, Any]) -> Iterator[str]:
    splits = {name: num for name, num in facts["splits"].items() if name}
    if not splits:
        return
    yield f"published split: {_counted(splits)}"
    for key, what in (("patients", "patient"), ("twins", "group")):
        if names := facts["leaks"][key]:
            of = " of near-duplicates" if key == "twins" else ""
            yield (
                f"  LEAK: {count_text(len(names), what)}{of} on more than one side: {_names(names)}"
            )
    for side, (known, total) in facts["leaks"]["judged"].items():
        if known:
            yield f"  {known:,} of {total:,} {side} images have a patient or twin in train"
    if not facts["leaks"]["patients"] and not facts["leaks"]["twins"]:
        unknown = facts["unknown_patients"]
        patient = "no patient" if not unknown else "no known patient"
        if unknown == facts["photographs"]:
            yield "  no near-duplicate is on two sides; patients are unknown and may be"
        else:
            yield f"  {patient} and no near-duplicate is on two sides"


def _next(facts: dict[str, Any]) -> Iterator[str]:
    """What a person may do, most pressing first."""
    groups, flags, leaks = facts["duplicates"], facts["flags"], facts["leaks"]
    conflicts = sum(bool(group["conflict"]) for group in groups)
    several = sum(_of_several(group) for group in groups)
    steps = []
    if facts["bad_share"] > facts["max_bad"]:
        steps.append(
            f"prepare would stop: {facts['bad_share']:.1%} of the labelled rows cannot be used, "
            f"data.max_bad allows {facts['max_bad']:.1%}; restore the files, or set "
            f"data.max_bad={facts['enough']:g} to go on without them"
        )
    if conflicts:
        steps.append(
            f"{count_text(conflicts, 'group')} of near-duplicates with different labels: decide "
            f"which "
            "one holds and correct the table, or take them out (duplicates.parquet)"
        )
    if flags["no_fundus"]:
        steps.append("look at what seems to be no fundus, and take it out of the table")
    if flags["torn"]:
        steps.append(
            f"fetch {count_text(len(flags['torn']), 'torn photograph')} again, or take it out"
        )
    if flags["masks"]:
        steps.append(f"mend the masks of {count_text(len(flags['masks']), 'photograph')}")
    if several:
        steps.append(
            f"{count_text(several, 'group')} of near-duplicates with several patients: data.split="
            "patient (the default) keeps each on one side, data.split=image does not"
        )
    if leaks["patients"] or leaks["twins"]:
        steps.append("do not judge by the published split, it leaks: use data.split=patient")
    if not facts["ordered"] and len(facts["labels"]) > 2:
        steps.append(
            "say the order of the classes, data.classes=<all of them, the worst last>: without it "
            "there is no quadratic kappa and no AUC of referable eyes"
        )
    if not sum(facts["labels"].values()):
        steps.append(f"no photograph has a label of {facts['target']}: give another data.target")
    steps = steps or ["nothing stands in the way of jobs/prepare.py with the same data settings"]
    if unknown := facts["unknown_patients"]:
        steps.append(
            f"the patients of {count_text(unknown, 'photograph')} are unknown: eyes of one "
            f"person may "
            "fall on two sides; if file names tell patients, give data.patient_pattern="
        )
    yield "what to do next"
    for number, step in enumerate(steps, 1):
        yield f"  {number}. {step}"


def _of_several(group: dict[str, Any]) -> bool:
    """Whether a group of near-duplicates is of several known patients."""
    return len(set(group["patients"]) - {""}) > 1


def _counted(counts: dict[str, int]) -> str:
    """`a 12, b 3 and 5 more`."""
    shown = [f"{printable_text(name)} {num:,}" for name, num in list(counts.items())[:MOST_NAMED]]
    return ", ".join(shown) + _more(len(counts))


def _names(names: list[str]) -> str:
    return ", ".join(printable_text(name) for name in names[:MOST_NAMED]) + _more(len(names))


def _more(total: int) -> str:
    return f" and {total - MOST_NAMED:,} more" if total > MOST_NAMED else ""


def _listed(head: str, lines: list[str]) -> Iterator[str]:
    """The head, the first lines and how many more there are; nothing without lines."""
    if lines and head:
        yield head
    yield from (f"    {printable_text(line)}" for line in lines[:MOST_NAMED])
    if len(lines) > MOST_NAMED:
        yield f"    and {len(lines) - MOST_NAMED:,} more"

"""Whose photographs they are: what of it is known in a set, and what may be said of its split."""

import unicodedata
from collections import Counter

import pyarrow as pa

from fundusray.data.manifest.contract import SourceContent
from fundusray.data.reading import file_names
from fundusray.data.split.leaks import SplitLeaks

CAVEAT = (
    "images are counted as independent; intervals are too narrow if eyes of one person are among "
    "them"
)
OFFER = "data.patient_pattern=<regular expression> reads patients from file names"
STRATIFIED = "at random within each grade (stratified; a paper's plain random split is not)"
REPEATED = "the column of patients repeats the names of the images, so patients count as unknown"


def with_patients(found: SourceContent, pattern: str, secret: bool) -> SourceContent:
    """The rows of one data set with patients and eyes that its names tell, where it tells none.

    An eye that the data set tells stays. What was read is added to the notes.

    Args:
        pattern: data.patient_pattern; without it the common ways of naming are tried.
        secret: names may not be repeated.

    Raises:
        InputError: the pattern takes too long.
    """
    columns = dict(found.columns)
    ids, patients = columns["image_id"], columns.get("patient_id", [])
    repeated = bool(ids) and patients == ids
    if any(patients) and not repeated:
        return found
    paths = columns.get("path", ids)
    plain = [_name_of(path) for path in paths]
    reading = file_names.read_by(pattern, plain) if pattern else file_names.read_file_names(plain)
    columns["patient_id"] = reading.patients
    if not any(columns.get("eye", [])):
        columns["eye"] = reading.eyes
    told = [REPEATED] if repeated and not any(reading.patients) else []
    told += [note] if (note := file_names.reading_note(plain, reading, pattern, secret)) else []
    return found._replace(columns=columns, notes=(*found.notes, *told))


def _name_of(path: str) -> str:
    """A photograph's name without folders and ending."""
    base = unicodedata.normalize("NFC", path.rpartition("/")[2])
    return base.rpartition(".")[0] or base


def patient_counts(table: pa.Table) -> dict[str, tuple[int, int]]:
    """Data set -> rows whose patient is known, all rows.

    Args:
        table: with dataset and patient_id.
    """
    patients, datasets = table["patient_id"].to_pylist(), table["dataset"].to_pylist()
    every = Counter(datasets)
    having = Counter(name for name, patient in zip(datasets, patients, strict=True) if patient)
    return {name: (having[name], total) for name, total in every.items()}


def _whose(table: pa.Table) -> str:
    """Of which photographs patients are unknown: "" of none, "all" of all, or in words."""
    found = patient_counts(table)
    if not any(having for having, _ in found.values()):
        return "all"
    parts = []
    for name, (having, total) in found.items():
        of = f" of {name}" if len(found) > 1 else ""
        if not having:
            parts.append(name)
        elif having < total:
            parts.append(f"{total - having:,} of {total:,} images{of}")
    return ", ".join(parts)


def unknown_patients_caveat(table: pa.Table) -> str:
    """What a reader must know where patients are unknown; "" where all are known."""
    whose = _whose(table)
    if not whose:
        return ""
    return f"patients unknown{'' if whose == 'all' else f' ({whose})'}: {CAVEAT}"


def separation_sentence(table: pa.Table, how: str, leaks: SplitLeaks) -> str:
    """How rows came to their side, and what was looked for on two sides and not met.

    Args:
        how: data.split, or a sentence.
        leaks: of this split; where there are some, they are said elsewhere.
    """
    whose = _whose(table)
    by_patient = "split by patient" + (" where one is known" if whose else "")
    if whose == "all":
        by_patient = "split by image, near-duplicates together"
    said = {"patient": by_patient, "image": f"split by image, {STRATIFIED}"}
    said["given"] = "the publisher's own split"
    opening = said.get(how, how)
    if leaks:
        return opening
    if not whose:
        return f"{opening}: no patient or near-duplicate is on two sides"
    known = "no near-duplicate" if whose == "all" else "no near-duplicate and no known patient"
    of = "" if whose == "all" else f" of {whose}"
    return f"{opening}: {known} is on two sides; patients{of} are unknown and may be ({OFFER})"

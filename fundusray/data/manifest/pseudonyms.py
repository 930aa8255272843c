"""Ids that tell nothing to whoever does not hold the key."""

import hashlib
import hmac

from fundusray import files
from fundusray.data.manifest.contract import SourceContent
from fundusray.errors import InputError

SHORTEST = 16
"""Bytes of a key; a shorter one could be found by trying."""
WHY = "no usable file; run without data.id_key to see why"


def key_ids(found: SourceContent, id_key: str) -> SourceContent:
    """The rows with ids of photographs and patients replaced by HMAC-SHA-256, 16 hex characters.

    The same key gives the same ids everywhere, so sets can still be joined; without it an id cannot
    be turned back, not even by trying all of them. What a source says of the rows it set aside may
    name their files, so a neutral sentence takes its place.

    Raises:
        InputError: no such file, or fewer than 16 bytes in it.
    """
    if not id_key:
        return found
    if not files.exists(id_key):
        raise InputError(
            f"data.id_key={id_key}: no such file; make one with `head -c 32 /dev/urandom > key`"
        )
    key = files.read_bytes(id_key)
    if len(key) < SHORTEST:
        raise InputError(f"data.id_key={id_key}: {len(key)} bytes, at least {SHORTEST} are needed")

    def keyed(text: str) -> str:
        return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()[:16]

    columns = dict(found.columns)
    if "patient_id" in columns:
        columns["patient_id"] = [patient and keyed(patient) for patient in columns["patient_id"]]
    columns["image_id"] = [keyed(image_id) for image_id in columns["image_id"]]
    problems = [
        problem._replace(
            image_id=keyed(problem.image_id),
            where=keyed(problem.image_id),
            reason=WHY if problem.counted else problem.reason,
        )
        for problem in found.problems
    ]
    return found._replace(columns=columns, problems=problems)

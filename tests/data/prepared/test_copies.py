"""Two versions of the same photographs, mixed by a function of (seed, epoch)."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from fundusray.config import Sampling
from fundusray.data.prepared.copies import mix_copies, with_copies
from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.data.prepared.stored import Stored
from fundusray.data.sampling import plan_epoch
from fundusray.errors import InputError


def set_of(names: str, offset: int) -> PreparedSet:
    """A JPEG set whose image is one byte: the position of its name in the alphabet + offset."""
    content = np.array([ord(name) - ord("a") + offset for name in names], np.uint8)
    places = np.array([[0, i, i + 1] for i in range(len(names))], np.int64)
    targets = [(ord(name) - ord("a")) % 2 for name in names]
    table = pa.table({"image_id": list(names), "patient_id": list(names), "target": targets})
    info = {"classes": ["no", "yes"], "size": 8, "fill": 0.5, "encoding": "jpeg"}
    return PreparedSet(f"set-{offset}", info, table, Stored([content], places))


def test_each_image_lies_beside_its_copy_whatever_their_order() -> None:
    joined = with_copies(set_of("abcdef", 0), set_of("fdbace", 100))
    assert len(joined) == 12
    got = [int(image[0]) for image in joined.encoded(np.arange(12))]
    assert got == [0, 1, 2, 3, 4, 5, 100, 101, 102, 103, 104, 105]
    assert joined.image_ids() == list("abcdef") * 2
    assert joined.targets().tolist() == [0, 1, 0, 1, 0, 1] * 2


def test_what_is_no_copy_is_refused() -> None:
    own = set_of("abcdef", 0)
    with pytest.raises(InputError, match=r"no copy of 2 of 6 images, e\.g\. 'e'"):
        with_copies(own, set_of("abcd", 100))
    with pytest.raises(InputError, match="size is 9, needs 8"):
        with_copies(own, replace(set_of("abcdef", 9), info=own.info | {"size": 9}))
    other = set_of("abcdef", 9)
    swapped = other.table.set_column(2, "target", pa.array([1, 1, 0, 1, 0, 1]))
    with pytest.raises(InputError, match="labels are others"):
        with_copies(own, replace(other, table=swapped))


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_share_of_showings_is_of_copies(share: float) -> None:
    rows = np.arange(1000)
    plan = plan_epoch(Sampling(), rows, rows % 3, num_classes=3, batch=50, seed=4, epoch=2)
    found = mix_copies(plan, share, 1000, seed=4, epoch=2)
    assert (found.rows % 1000 == plan.rows).all()
    assert abs((found.rows >= 1000).mean() - share) < 0.05
    assert (found.rows == mix_copies(plan, share, 1000, seed=4, epoch=2).rows).all()
    if share == 0.25:
        assert (found.rows != mix_copies(plan, share, 1000, seed=4, epoch=3).rows).any()

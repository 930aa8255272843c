"""Two versions of the same photographs, mixed by a function of (seed, epoch)."""

import os
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from fundusray.command import with_absolute_places
from fundusray.config import Data, Recipe, Sampling, override, with_places
from fundusray.data.epoch_plan import epoch_plan
from fundusray.data.prepared.copies import mix_copies, with_copies
from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.data.prepared.stored import Stored
from fundusray.data.sampling import keyed_uniform, plan_epoch
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


def test_several_sets_of_copies_lie_one_behind_the_other() -> None:
    joined = with_copies(set_of("abc", 0), set_of("cab", 100), set_of("bca", 200))
    got = [int(image[0]) for image in joined.encoded(np.arange(9))]
    assert got == [0, 1, 2, 100, 101, 102, 200, 201, 202]
    assert joined.image_ids() == list("abc") * 3 and joined.targets().tolist() == [0, 1, 0] * 3
    with pytest.raises(InputError, match=r"set-200 has no copy of 1 of 3 images"):
        with_copies(set_of("abc", 0), set_of("cab", 100), set_of("bc", 200))
    alone = set_of("abc", 0)
    assert with_copies(alone) is alone


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


def test_one_set_of_copies_is_mixed_as_ever() -> None:
    """The same showings, to the bit; those of several sets are the same showings, too."""
    rows = np.arange(600)
    plan = plan_epoch(Sampling(), rows, rows % 3, num_classes=3, batch=50, seed=4, epoch=2)
    drawn = keyed_uniform(600, 4, 2).reshape(plan.rows.shape)
    for share in (0.0, 0.3, 2 / 3, 1.0):
        one = mix_copies(plan, share, 600, seed=4, epoch=2)
        assert (one.rows == plan.rows + 600 * (drawn < share)).all()
        assert one.rows.dtype == plan.rows.dtype
        three = mix_copies(plan, share, 600, seed=4, epoch=2, sets=3)
        assert ((three.rows >= 600) == (one.rows >= 600)).all()
        assert (three.rows % 600 == plan.rows).all() and three.rows.max() < 4 * 600


def test_every_set_has_the_same_part_of_the_share() -> None:
    rows = np.arange(6000)
    plan = plan_epoch(Sampling(), rows, rows % 3, num_classes=3, batch=50, seed=1, epoch=0)
    found = mix_copies(plan, 2 / 3, 6000, seed=1, epoch=0, sets=2)
    parts = np.bincount(found.rows.ravel() // 6000) / found.rows.size
    assert len(parts) == 3 and np.abs(parts - 1 / 3).max() < 0.02
    only = mix_copies(plan, 1.0, 6000, seed=1, epoch=0, sets=2)
    assert np.bincount(only.rows.ravel() // 6000)[0] == 0
    # Over the epochs every image is seen in all versions.
    seen = {k: set() for k in range(3)}
    for epoch in range(40):
        for row in mix_copies(plan, 2 / 3, 6000, seed=1, epoch=epoch, sets=2).rows.ravel().tolist():
            seen[row // 6000].add(row % 6000)
    assert all(len(those) == 6000 for those in seen.values())


def test_settings_name_several_sets() -> None:
    assert Data().mixed == () and Data(mix="/a").mixed == ("/a",)
    assert Data(mix="/a, /b").mixed == ("/a", "/b")
    for bad in ("/a,", ",", "/a,/b,/a"):
        with pytest.raises(InputError, match=r"data\.mix: different folders with commas"):
            Data(mix=bad)
    recipe = override(Recipe(), {"data.mix": "a,b", "data.mix_share": 2 / 3})
    settled = with_absolute_places(recipe, submitted=False)
    assert settled.data.mixed == (f"{os.getcwd()}/a", f"{os.getcwd()}/b")
    assert with_places(settled, lambda place: place[-1:]).data.mix == "a,b"
    with pytest.raises(InputError, match=r"data\.mix=b: a submitted job"):
        with_absolute_places(override(Recipe(), {"data.mix": "/a,b"}), submitted=True)


def test_an_epoch_goes_over_all_sets() -> None:
    own = set_of("abcdefghij" * 6, 0)
    changes = {"data.mix": "/a,/b", "data.mix_share": 1.0, "train.batch": 10}
    plan = epoch_plan(override(Recipe(), changes), own, np.arange(60), 3)
    assert plan.rows.size == 60 and set((plan.rows // 60).ravel().tolist()) == {1, 2}

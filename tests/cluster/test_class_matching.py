"""A set judged by a network whose classes are called otherwise, or are more."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from fundusray.cluster.class_matching import in_classes_of, order_known
from fundusray.cluster.prediction_rows import predictions_of
from fundusray.config import Recipe
from fundusray.data.manifest.contract import GRADES
from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.data.prepared.stored import Stored
from fundusray.errors import InputError
from fundusray.metrics import figure_summary, is_ordered
from fundusray.tasks import Classification
from fundusray.tasks.classification import with_logits


def prepared(classes: tuple[str, ...], targets: list[int], ordered: bool = True) -> PreparedSet:
    ids = [f"i{n}" for n in range(len(targets))]
    columns = {"image_id": ids, "patient_id": ids, "target": pa.array(targets, pa.int32())}
    info = {"classes": list(classes), "ordered": ordered, "manifest": "m"}
    return PreparedSet(
        "folder", info, pa.table(columns), Stored([], np.zeros((len(ids), 3), np.int64))
    )


def network(*classes: str, **info) -> SimpleNamespace:
    return SimpleNamespace(classes=classes, info=info, recipe=Recipe())


@pytest.mark.parametrize(
    ("classes", "targets", "expected"),
    [
        (("0", "1", "2", "3"), [0, 3, 1, 2], [0, 3, 1, 2]),
        (("No DR", "Mild", "Severe"), [0, 2, 1, 2], [0, 3, 1, 3]),
        (("anodr", "eproliferativedr"), [1, 0, 1, 0], [4, 0, 4, 0]),
        # As an earlier version had them, by the alphabet.
        (("Mild", "Moderate", "No_DR", "Proliferate_DR", "Severe"), [2, 0, 3, 4], [0, 1, 4, 3]),
    ],
)
def test_a_set_is_judged_in_the_classes_of_the_network(classes, targets, expected) -> None:
    data = prepared(classes, targets, ordered=False)
    matched = in_classes_of(data, "x/bundle", network(*GRADES))
    assert matched.classes == GRADES and matched.ordered
    assert matched.targets().tolist() == expected and data.targets().tolist() == targets
    columns = with_logits({"target": np.array(expected)}, np.eye(5)[expected])
    task = Classification(Recipe(), matched.classes, matched.ordered)
    table = predictions_of(matched, np.arange(4), columns, task)
    assert is_ordered(table) and figure_summary(table)["accuracy"] == 1.0


def test_the_same_classes_are_the_same_set() -> None:
    data = prepared(("x", "y", "z"), [0, 1], ordered=False)
    assert in_classes_of(data, "x/bundle", network("x", "y", "z")) is data


def test_a_class_that_the_network_does_not_know_is_named() -> None:
    data = prepared(("none", "mild", "glaucoma"), [0, 1, 2, 2])
    with pytest.raises(InputError, match=r"have 'glaucoma' \(2 photographs\).*data\.map\.<label"):
        in_classes_of(data, "x/bundle", network(*GRADES, "ungraded"))
    # Without a photograph it is in nobody's way.
    few = in_classes_of(
        prepared(("none", "mild", "glaucoma"), [1, 0]), "b", network("mild", "none")
    )
    assert few.targets().tolist() == [0, 1]
    with pytest.raises(InputError, match=r"have '0' \(1 photographs\), '1' \(1 photographs\)"):
        in_classes_of(prepared(("0", "1"), [0, 1]), "b", network(*GRADES))


def test_a_network_knows_the_order_it_was_trained_with() -> None:
    assert order_known(network("thin", "thick", "x", ordered=True))
    assert not order_known(network("thin", "thick", "x"))
    # One from an earlier version, whose classes were sorted by name.
    assert not order_known(network("Mild", "Moderate", "No_DR", "Proliferate_DR", "Severe"))
    assert order_known(network(*GRADES)) and order_known(network(*"01234"))

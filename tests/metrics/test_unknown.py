"""Figures where the order of the classes, or whose eye it is, is not known."""

import numpy as np
import pyarrow as pa
import pytest

from fundusray import files
from fundusray.metrics import (
    figure_summary,
    from_confusion,
    is_ordered,
    paired_differences,
    predictions_table,
)
from tests.metrics.drawn_predictions import drawn, table


class TestOrder:
    """Where the order of the classes is not known, what needs one is None, and the rest is as it
    was; of two classes kappa and AUC need none."""

    def unordered(self, classes):
        given = table(*drawn(3, classes=classes))
        return given, given.replace_schema_metadata({"ordered": "false"})

    @pytest.mark.parametrize("classes", [2, 3, 5])
    def test_summary(self, classes):
        known, unknown = (figure_summary(t) for t in self.unordered(classes))
        none = {"sensitivity", "specificity"} | (
            {"kappa", "auc_referable"} if classes > 2 else set()
        )
        ends = ("", "_low", "_high", "_why")
        hidden = {f"{name}{end}" for name in none for end in ends}
        assert {key: known[key] for key in known.keys() - hidden} == {
            key: unknown[key] for key in unknown.keys() - hidden
        }
        assert all(unknown[name] is unknown[f"{name}_low"] is None for name in none)
        assert all(known[name] is not None for name in none)

    def test_two_classes_the_other_way_round_have_the_same_kappa_and_auc(self):
        """This is why nothing needs to be known to give them."""
        targets, logits = drawn(4, classes=2)
        there, back = (
            figure_summary(table(targets, logits)),
            figure_summary(table(1 - targets, logits[:, ::-1])),
        )
        for name in ("kappa", "auc_referable", "cohen_kappa", "accuracy"):
            assert there[name] == pytest.approx(back[name], abs=1e-12)
        assert there["sensitivity"] == back["specificity"] != there["specificity"]

    def test_three_classes_in_another_order_have_another_kappa(self):
        counts = np.array([[8, 2, 0], [2, 8, 0], [0, 0, 10]])
        turned = counts[np.ix_([0, 2, 1], [0, 2, 1])]
        # Misses by one step, and the same misses by two.
        kappas = [from_confusion(c)["kappa"] for c in (counts, turned)]
        assert kappas == pytest.approx([0.9, 0.6])

    def test_pairs(self):
        known, unknown = self.unordered(5)
        worse = table(known["target"].to_numpy(), drawn(3)[1] * 0.1 + drawn(9)[1])
        found = paired_differences(unknown, worse)
        assert found["kappa"]["difference"] is None and found["kappa"]["verdict"] == "undecided"
        same = paired_differences(known, worse)
        assert found["accuracy"] == same["accuracy"] and same["kappa"]["difference"] is not None

    def test_a_table_carries_it_through_a_file(self, tmp_path):
        targets, logits = drawn(3)
        ids = [str(i) for i in range(len(targets))]
        kept = predictions_table(ids, ids, targets, logits, ordered=False)
        files.write_table(str(tmp_path / "p.parquet"), kept)
        again = files.read_table(str(tmp_path / "p.parquet"))
        assert not is_ordered(again) and not is_ordered(pa.concat_tables([again, again]))
        assert is_ordered(table(targets, logits))
        assert is_ordered(table(targets, logits).replace_schema_metadata(None))


def test_an_image_without_a_patient_is_counted_alone():
    """As if each had a patient of its own, whose name no other image has; nobody is claimed."""
    targets, logits = drawn(6, n=60)
    ids = [f"image{i:05d}" for i in range(60)]
    own = predictions_table(ids, ids, targets, logits)
    nobody = predictions_table(ids, [""] * 60, targets, logits)
    alone, claimed = (figure_summary(rows) for rows in (nobody, own))
    assert (alone["num_patients"], alone["num_unknown"]) == (0, 60)
    assert (claimed["num_patients"], claimed["num_unknown"]) == (60, 0)
    counted = {"num_patients", "num_unknown"}
    assert {k: v for k, v in alone.items() if k not in counted} == {
        k: v for k, v in claimed.items() if k not in counted
    }
    # A patient who is called as an image is another one.
    mixed = predictions_table(["a", "b", "c"], ["b", "", "b"], targets[:3], logits[:3])
    told = figure_summary(mixed)
    assert (told["num_patients"], told["num_unknown"]) == (1, 1)

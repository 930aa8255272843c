"""What the job writes of an attacked segmentation: a CSV, a page, printed baselines."""

import csv
from pathlib import Path

import numpy as np
import pytest

from fundusray.command import parse_command
from fundusray.errors import InputError
from fundusray.jobs.attacking import attack
from fundusray.jobs.segmentation_attacking import write_segmentation_attack
from fundusray.tasks.column_tables import column_table
from tests.attacks.coloured_squares import squares
from tests.training.test_attacked_segmentation import CLASSES, attacked


def test_figures_are_written_and_said_beside_the_baselines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = attacked("background_pgd(eps=1/100|2/100, steps=3)", [12])
    num = len(columns["row"])
    order = np.lexsort((columns["eps"], columns["row"]))
    columns = {name: values[order] for name, values in columns.items()}
    names = {
        "image_id": np.array([f"eye{row}" for row in columns.pop("row")], dtype=object),
        "patient_id": np.full(num, "", dtype=object),
        "condition": np.full(num, "clean", dtype=object),
        "attack": np.full(num, "background_pgd(steps=3)", dtype=object),
    }
    told = write_segmentation_attack(
        str(tmp_path), column_table(names | columns), CLASSES, "eyes", ["a note"], "python x"
    )
    with open(told["table"], newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["case"], float(row["eps"])) for row in rows] == [
        ("clean", 0), ("attacked", 0.01), ("attacked", 0.02),
    ]  # fmt: skip
    for name in ("n", "pixel_accuracy", "miou", "dice", "maupr", "background_accuracy"):
        assert name in rows[0]
        assert name[0] == "n" or name[:4] == "back" or f"{name}_low" in rows[0]
    assert told["robust_miou"] == pytest.approx(float(rows[-1]["miou"]))
    assert told["robust_miou"] < told["clean_miou"]
    _, target = squares(12)
    own = target[[k for k in range(12) if k not in (3, 7)]]
    share = (own == 0).double().mean().item()
    assert told["background_accuracy"] == pytest.approx(share)
    assert told["background_miou"] == pytest.approx(share / 3)
    said = capsys.readouterr().out
    assert f"alike: pixel accuracy {share:.3f}" in said and "  1/100: pixel" in said
    # Scores at random have each class's share of the pixels.
    chance = [(own == k).double().mean().item() for k in (1, 2)]
    assert f"Dice 0.000, mAUPR {np.mean(chance):.3f}" in said
    assert "a note" in said and Path(told["report"]).exists()


@pytest.mark.parametrize(
    "condition",
    [
        "layered(eps=1/100)", "selective(eps=1/100)", "segpgd(eps=1/255)", "pgd(eps=1/255)",
        "worst_case(of=light_leakage, level=2)",
    ],
)  # fmt: skip
def test_photographs_are_attacked_as_a_camera_takes_them(condition: str) -> None:
    """What a camera does not do to them would be left out, and named all the same."""
    asked = ["nowhere", "attack=segpgd(eps=1/255)", f"condition={condition}"]
    with pytest.raises(InputError, match="are clean or damaged"):
        attack(parse_command(asked))

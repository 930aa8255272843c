"""What a network marks lands on the right pixels of the photograph, whatever it is prepared to."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor, nn

from fundusray import files
from fundusray.cluster.segment import (
    REFUSED,
    SEGMENTED,
    Drawing,
    OpenNetwork,
    photograph_files,
    segmented_part,
)
from fundusray.config import Data
from fundusray.data.photographs.decode import BadImage
from fundusray.data.prepared.class_map_files import read_class_map
from fundusray.errors import InputError
from fundusray.jobs.segmenting import area_rows, palette, sheet_of
from fundusray.models.tiles import TilePlan
from fundusray.training.segmented_photograph import SegmentPlan, segment_photograph
from tests.conftest import draw_fundus, jpeg

SPOT = (0, 255, 255)
CLASSES = ("background", "spots")
DRAWING = Drawing(palette(CLASSES), sheet_of)


def with_spot(height: int, width: int, top: int, left: int, side: int) -> np.ndarray:
    """A drawn photograph on which a square is cyan, which nothing else of it is."""
    pixels = draw_fundus(height, width)
    pixels[top : top + side, left : left + side] = SPOT
    return pixels


class Cyan(nn.Module):
    """Class 1 where a pixel has more blue than red."""

    def forward(self, image: Tensor) -> Tensor:
        score = 20 * (image[:, 2:] - image[:, :1])
        return torch.cat([-score, score], dim=1)


def plan(side: int = 64, scale: str = "network") -> SegmentPlan:
    return SegmentPlan(TilePlan(side, 0.25), scale, batch=3)


def spot_of(classes: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero((classes == 1).any(1)), np.flatnonzero((classes == 1).any(0))
    return rows[0], columns[0], rows[-1] + 1, columns[-1] + 1


@pytest.mark.parametrize("preprocess", ["resize", "contour", "center_crop"])
@pytest.mark.parametrize("side", [48, 400])
def test_a_spot_is_marked_where_it_is_at_the_photographs_own_scale(
    preprocess: str, side: int
) -> None:
    pixels = with_spot(240, 330, 90, 150, 20)
    data = Data(size=64, preprocess=preprocess)
    made = segment_photograph(Cyan(), data, jpeg(pixels, quality=100), plan(side, "photograph"))
    assert made.classes.shape == (240, 330) and 200 < made.size < 260
    assert np.abs(np.array(spot_of(made.classes)) - [90, 150, 110, 170]).max() <= 1
    assert abs(made.areas[1] - 400) <= 80


def test_at_the_networks_scale_it_is_marked_to_a_pixel_of_the_prepared_image() -> None:
    pixels = with_spot(240, 330, 90, 150, 40)
    data = Data(size=64, preprocess="resize")
    made = segment_photograph(Cyan(), data, jpeg(pixels, quality=100), plan(64))
    assert made.size == 64
    step = 240 / 64
    assert np.abs(np.array(spot_of(made.classes)) - [90, 150, 130, 190]).max() <= 1.5 * step


def test_a_large_photograph_is_read_at_a_smaller_scale_for_a_small_network() -> None:
    pixels = with_spot(960, 1280, 400, 500, 160)
    made = segment_photograph(Cyan(), Data(size=64, preprocess="resize"), jpeg(pixels), plan(64))
    assert made.pixels.shape[0] < 960 and made.classes.shape == (960, 1280)
    assert np.abs(np.array(spot_of(made.classes)) - [400, 500, 560, 660]).max() <= 1.5 * 960 / 64


def test_areas_are_of_the_fundus_and_sum_to_it() -> None:
    pixels = with_spot(240, 330, 90, 150, 20)
    # In the black surround, where there is no retina.
    pixels[5:15, 5:15] = SPOT
    data = Data(size=64, preprocess="resize")
    made = segment_photograph(Cyan(), data, jpeg(pixels, quality=100), plan(64, "photograph"))
    y, x = np.mgrid[:240, :330] + 0.5
    disc = np.hypot(y - 120, x - 165) <= 0.48 * 240
    assert abs(made.areas.sum() - disc.sum()) < 0.01 * disc.sum()
    assert not made.classes[:20, :20].any()
    assert made.areas[1] == (made.classes == 1).sum()


@pytest.mark.parametrize("content", [b"no photograph", jpeg(np.full((90, 90, 3), 90, np.uint8))])
def test_what_is_no_fundus_is_refused_even_where_preparing_takes_it(content: bytes) -> None:
    with pytest.raises(BadImage):
        segment_photograph(Cyan(), Data(size=64, preprocess="center_crop"), content, plan())


def test_a_plan_that_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'photograph'"):
        SegmentPlan(TilePlan(64), "photograf")
    texts = {plan().text, plan(32).text, plan(64, "photograph").text}
    assert len(texts) == 3
    # The batch decides nothing of what comes out.
    assert SegmentPlan(TilePlan(64), batch=1).text == SegmentPlan(TilePlan(64), batch=9).text


def test_a_workers_row_and_files(tmp_path: Path) -> None:
    (tmp_path / "eye.jpg").write_bytes(jpeg(with_spot(240, 330, 90, 150, 20)))
    (tmp_path / "bad.jpg").write_bytes(b"no photograph")
    network = OpenNetwork(
        Cyan().eval(), Data(size=64, preprocess="resize"), CLASSES, torch.device("cpu")
    )
    places = [(str(tmp_path), name) for name in ("eye.jpg", "bad.jpg")]
    eye, bad = photograph_files(places)
    folder = str(tmp_path / "out")
    rows = pa.concat_tables(
        [segmented_part(folder, plan(), DRAWING, network, one) for one in (eye, bad)]
    ).to_pylist()
    assert [row["status"] for row in rows] == [SEGMENTED, REFUSED]
    first = read_class_map(files.join(folder, rows[0]["class_map"]))
    assert first.shape == (240, 330) and (first == 1).sum() == rows[0]["areas"][1] > 100
    assert files.read_bytes(files.join(folder, rows[0]["sheet"])).startswith(b"\x89PNG")
    assert "not" in rows[1]["reason"] or "neither" in rows[1]["reason"], rows[1]["reason"]
    named = [{"image": one.path} | row for one, row in zip((eye, bad), rows, strict=True)]
    lines = area_rows(named, CLASSES)
    assert lines[0]["pixels_spots"] == rows[0]["areas"][1]
    assert lines[0]["share_background"] + lines[0]["share_spots"] == pytest.approx(1)
    assert lines[1]["pixels_spots"] is None and lines[1]["reason"]


def test_a_file_that_changes_after_it_was_listed_is_not_taken_for_what_it_was(
    tmp_path: Path,
) -> None:
    place = tmp_path / "eye.jpg"
    place.write_bytes(jpeg(draw_fundus()))
    (one,) = photograph_files([(str(tmp_path), "eye.jpg")])
    place.write_bytes(jpeg(draw_fundus(seed=1)))
    network = OpenNetwork(Cyan().eval(), Data(size=32), CLASSES, torch.device("cpu"))
    (row,) = segmented_part(str(tmp_path / "out"), plan(), DRAWING, network, one).to_pylist()
    assert row["status"] == REFUSED and "changed" in row["reason"]

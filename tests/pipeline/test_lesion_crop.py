"""Windows about lesions: where they are looked for, how often, and what is refused."""

import numpy as np
import pytest

from fundusray.config import Data, Recipe, override
from fundusray.data.prepared.lesion_points import MOST, marked_points
from fundusray.data.prepared.masks import lesion_kinds
from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.errors import InputError
from fundusray.pipeline.augment.augmentation import parse_augmentation, view_text
from fundusray.pipeline.augment.draws import mask_matrix
from fundusray.pipeline.loader import make_loader
from fundusray.runs.check import check

SIZE = 96


def shown(planes: np.ndarray, matrix: np.ndarray, out: int) -> np.ndarray:
    """The planes [S, S] of a window, [out, out], pixel by pixel; nothing beyond the border."""
    x, y = np.meshgrid(np.arange(out) + 0.5, np.arange(out) + 0.5)
    places = np.floor(np.stack([x, y, np.ones_like(x)], -1) @ matrix.astype(np.float64).T)
    inside = ((places >= 0) & (places < len(planes))).all(-1)
    x, y = places.astype(int).clip(0, len(planes) - 1).transpose(2, 0, 1)
    return np.where(inside, planes[y, x], 0)


def windows(
    planes: np.ndarray, text: str, num: int = 400, kinds: tuple[int, ...] = (0, 1), **keys: int
) -> np.ndarray:
    """What is seen of an image's plane, uint8 [S, S], in many windows, each a row of its own."""
    points = marked_points(planes[..., None], kinds)
    rows = np.arange(num)
    given = {"seed": 5, "epoch": 2, "rows": rows, "repeat": 0 * rows} | keys
    draws = parse_augmentation(text).draw(len(planes), **given, lesions=[points] * len(rows))
    return np.stack([shown(planes, matrix, draws.size) for matrix in mask_matrix(draws)])


def planted() -> np.ndarray:
    """Bit 0 a large lesion, bit 1 two pixels far from it."""
    planes = np.zeros((SIZE, SIZE), np.uint8)
    planes[5:30, 5:30] |= 1
    planes[80, 70:72] |= 2
    return planes


def test_points_are_the_middles_of_marked_stretches() -> None:
    rng = np.random.default_rng(0)
    planes = np.zeros((40, 40, 2), np.uint8)
    masks = rng.random((11, 40, 40)) < 0.3
    masks[4] = False
    for kind, mask in enumerate(masks):
        planes[..., kind // 8] |= mask.astype(np.uint8) << (kind % 8)
    kinds = [9, 4, 0]
    found = marked_points(planes, kinds)
    for points, mask in zip(found, masks[[9, 0]], strict=True):
        expected = []
        for y in range(40):
            x = 0
            while x < 40:
                end = x
                while end < 40 and mask[y, end]:
                    end += 1
                expected += [((x + end - 1) // 2, y)] if end > x else []
                x = max(end, x + 1)
        assert len(expected) > MOST == len(points)
        listed = list(map(tuple, points.tolist()))
        assert listed == sorted(set(listed) & set(expected), key=lambda p: p[::-1])
        assert listed[0] == expected[0] and listed[-1] == expected[-1]
    assert marked_points(planes[:, :6], [0])[0].shape[1] == 2
    few = np.zeros((40, 40, 1), np.uint8)
    few[3, 38:], few[4, :3] = 1, 1
    assert marked_points(few, [0])[0].tolist() == [[38, 3], [1, 4]]


def test_lesions_are_all_kinds_that_not_every_eye_has() -> None:
    assert lesion_kinds(("microaneurysms", "optic_disc", "drusen", "vessels")) == [0, 2]
    assert lesion_kinds(("optic_disc", "vessels_1")) == [0, 1]


def test_a_share_of_the_windows_shows_a_lesion_and_rare_kinds_as_often() -> None:
    planes = planted()
    seen = windows(planes, "lesion_crop(12, 1)", 600)
    assert (seen > 0).any(axis=(1, 2)).all()
    small = (seen & 2 > 0).any(axis=(1, 2)).mean()
    assert abs(small - 0.5) < 0.08  # four standard deviations of 600 windows
    anywhere = windows(planes, "lesion_crop(12, 0)", 600)
    share = (anywhere > 0).any(axis=(1, 2)).mean()
    met = sum(
        (planes[y : y + 12, x : x + 12] > 0).any() for y in range(85) for x in range(85)
    ) / 85**2  # fmt: skip
    assert abs(share - met) < 0.08
    half = (windows(planes, "lesion_crop(12)", 600) > 0).any(axis=(1, 2)).mean()
    assert abs(half - (0.5 + 0.5 * met)) < 0.08


def test_a_lesion_lies_anywhere_in_its_window() -> None:
    planes = np.zeros((SIZE, SIZE), np.uint8)
    planes[50, 40] = 1
    seen = windows(planes, "lesion_crop(8, 1)", 2000)
    assert (seen.sum(axis=(1, 2)) == 1).all()
    times = seen.sum(axis=0)
    assert times.min() > 0 and abs(times - 2000 / 64).max() < 5 * np.sqrt(2000 / 64)
    corner = np.zeros((SIZE, SIZE), np.uint8)
    corner[0, SIZE - 1] = 1
    assert windows(corner, "lesion_crop(8, 1)", 50)[:, 0, 7].all()


def test_without_a_lesion_the_window_is_anywhere() -> None:
    rows = np.arange(500)
    keys = {"seed": 1, "epoch": 0, "rows": rows, "repeat": 0 * rows}
    draws = parse_augmentation("lesion_crop(60, 1)").draw(64, **keys, lesions=[[]] * 500)
    corners = draws.matrix[:, :, 2]
    assert not draws.geometric.any() and set(np.unique(corners)) == {0, 1, 2, 3, 4}
    whole = parse_augmentation("lesion_crop(64, 1)").draw(
        64, **keys, lesions=[[np.array([[3, 60]], np.int16)]] * 500
    )
    assert (whole.matrix == np.eye(3)[:2]).all()


WHOLE = ["hflip(1)", "vflip() + hflip()", "pad(9)", "crop(70, 4, 20)"]
WARPED = ["resize(150)", "rotate(70)", "affine(scale=0.2, translate=0.1, rotate=30, shear=20)"]


@pytest.mark.parametrize("text", [*WHOLE, *WARPED])
def test_lesions_are_followed_through_what_comes_before(text: str) -> None:
    """After a warp a lesion of which a corner alone is in the window may fall between pixels."""
    planes = np.zeros((SIZE, SIZE), np.uint8)
    planes[40:47, 30:37] = 1
    planes[70:74, 50:54] |= 2
    for whole in (
        f"{text} + lesion_crop(20, 1)",
        f"choice({text} + lesion_crop(20, 1), lesion_crop(20, 1))",
    ):
        met = (windows(planes, whole, 200) > 0).any(axis=(1, 2)).mean()
        assert met == 1 if text in WHOLE else met > 0.97


def test_numbers_are_of_the_row_alone() -> None:
    text = "hflip() + lesion_crop(12)"
    rows = np.array([3, 9, 4, 3])
    points = {
        row: [np.random.default_rng(row).integers(0, SIZE, (5, 2)).astype(np.int16)] for row in rows
    }

    def drawn(rows: np.ndarray, repeat: np.ndarray, **keys: int) -> np.ndarray:
        lesions = [points[row] for row in rows.tolist()]
        given = {"seed": 7, "epoch": 1, "rows": rows, "repeat": repeat} | keys
        return parse_augmentation(text).draw(SIZE, **given, lesions=lesions).matrix

    repeat = np.array([0, 0, 0, 1])
    together = drawn(rows, repeat)
    for i in range(4):
        assert np.array_equal(together[i : i + 1], drawn(rows[i : i + 1], repeat[i : i + 1]))
    assert not np.array_equal(together[0], together[3])
    assert not np.array_equal(together, drawn(rows, repeat, epoch=2))
    assert not np.array_equal(together, drawn(rows, repeat, seed=8))


def test_a_set_without_masks_is_refused(raw: PreparedSet, prepared: PreparedSet) -> None:
    for kept, engine in ((raw, "memory"), (raw, "plain"), (prepared, "plain")):
        with pytest.raises(InputError, match=r"no masks say where they are; give data\.masks"):
            make_loader(kept, batch=4, augment="choice(lesion_crop(40))", engine=engine)
    rows = np.zeros(3, np.int64)
    with pytest.raises(InputError, match="no masks say where they are"):
        parse_augmentation("lesion_crop(40)").draw(64, seed=0, epoch=0, rows=rows, repeat=rows)
    recipe = override(Recipe(), {"data.augment": "lesion_crop(96)", "model.name": "resnet18"})
    with pytest.raises(InputError, match=r"data\.augment=lesion_crop\(96\): lesion_crop looks for"):
        check(recipe)
    check(override(recipe, {"data.masks": ("any",)}))


def test_what_is_judged_is_whole() -> None:
    assert view_text(Data(augment="lesion_crop(96) + hflip()")) == "none"
    assert view_text(Data(augment="lesion_crop(96)", view="resize(128)")) == "resize(128)"
    with pytest.raises(InputError, match=r"data\.view=lesion_crop\(96\): where lesions are"):
        view_text(Data(augment="hflip()", view="lesion_crop(96)"))
    assert parse_augmentation("lesion_crop(96) + hflip()").side(256) == 96
    with pytest.raises(InputError, match="97 pixels are more than the picture's 96"):
        parse_augmentation("lesion_crop(97)").side(96)
    with pytest.raises(InputError, match="share: needs a number from 0 to 1"):
        parse_augmentation("lesion_crop(40, 1.5)").side(96)

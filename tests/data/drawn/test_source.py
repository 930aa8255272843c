"""Drawn photographs: repeatable, with exact masks, graded as the clinical scale has it."""

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from fundusray import files
from fundusray.config import Data
from fundusray.data.drawn.anatomy import draw_eye
from fundusray.data.drawn.lesions import LESIONS
from fundusray.data.drawn.painting import draw_camera
from fundusray.data.drawn.source import SHARES, _generator, draw_grades, draw_photograph, draw_sex
from fundusray.data.manifest.build import SCHEMA, build_manifest
from fundusray.data.manifest.contract import GRADES, SEXES, SOURCES
from fundusray.data.manifest.patients import with_patients
from fundusray.data.photographs.read import read_mask
from fundusray.data.prepared.masks import mask_kinds
from fundusray.errors import InputError

BLEEDING = ("microaneurysm", "haemorrhage")


def mean_grey(pixels: np.ndarray) -> float:
    return float(pixels.astype(float).mean())


def grown(mask: np.ndarray, pixels: int) -> np.ndarray:
    return np.asarray(Image.fromarray(mask).convert("L").filter(ImageFilter.MaxFilter(pixels))) > 0


def test_a_photograph_depends_on_its_key_alone():
    first = draw_photograph(3, 7, 3, 128)
    draw_photograph(3, 8, 1, 128)
    again = draw_photograph(3, 7, 3, 128)
    assert np.array_equal(first.image, again.image)
    assert all(np.array_equal(first.masks[kind], again.masks[kind]) for kind in LESIONS)
    for seed, index in [(4, 7), (3, 9)]:
        assert not np.array_equal(first.image, draw_photograph(seed, index, 3, 128).image)


def test_what_it_is():
    drawn = draw_photograph(0, 5, 2, 200)
    assert drawn.image.shape == (200, 200, 3) and drawn.image.dtype == np.uint8
    assert (drawn.eye, drawn.patient) == ("right", "0-3")
    assert (
        draw_photograph(0, 4, 2, 64).eye == "left" and draw_photograph(0, 4, 2, 64).patient == "0-3"
    )
    assert tuple(drawn.masks) == LESIONS
    assert all(m.shape == (200, 200) and m.dtype == bool for m in drawn.masks.values())


@pytest.mark.parametrize("index", range(6))
def test_a_circle_on_black_with_the_disc_on_the_nasal_side(index):
    image = draw_photograph(0, index, 0, 256).image.astype(float)
    for corner in (image[:12, :12], image[:12, -12:], image[-12:, :12], image[-12:, -12:]):
        assert corner.max() < 8
    red, green, blue = image[64:192, 64:192].mean((0, 1))
    assert red > green > blue
    eye = draw_eye(_generator(0, index // 2, index % 2))
    radius = draw_camera(_generator(0, index // 2, 2)).radius * 256
    side = 1 if index % 2 else -1
    row = int(128 + radius * eye.disc[1])

    def brightness(x: float) -> float:
        column = int(128 + side * radius * x)
        return mean_grey(image[row - 12 : row + 12, column - 12 : column + 12])

    assert brightness(eye.disc[0]) > 1.1 * brightness(-eye.disc[0])


@pytest.mark.parametrize("index", range(4))
def test_grades_show_what_the_scale_says(index):
    masks = [
        {k for k, m in draw_photograph(1, index, g, 256).masks.items() if m.any()} for g in range(5)
    ]
    assert masks[0] == set()
    assert masks[1] == {"microaneurysm"}
    assert masks[2] == {"microaneurysm", "haemorrhage", "hard_exudate"}
    assert masks[3] >= {"microaneurysm", "haemorrhage", "cotton_wool"}
    assert masks[4] >= {"microaneurysm", "haemorrhage", "neovessel"}
    assert masks[4] & {"preretinal", "laser_scar"}
    for grade in range(4):
        assert not masks[grade] & {"neovessel", "preretinal", "laser_scar"}


def test_severe_bleeds_in_all_quadrants_and_more_than_moderate():
    for index in range(4):
        severe = draw_photograph(2, index, 3, 256).masks["haemorrhage"]
        halves = [half for band in np.array_split(severe, 2) for half in np.array_split(band, 2, 1)]
        assert min(half.sum() for half in halves) > 40
        assert severe.sum() > 2 * draw_photograph(2, index, 2, 256).masks["haemorrhage"].sum()


@pytest.mark.parametrize("index", [0, 3, 8, 11])
def test_masks_are_exact(index):
    """The same eye with and without disease differs where the masks say, and nowhere else."""
    healthy, ill = draw_photograph(0, index, 0, 256), draw_photograph(0, index, 2, 256)
    change = np.abs(healthy.image.astype(int) - ill.image).max(2)
    marked = np.logical_or.reduce(list(ill.masks.values()))
    assert change[~grown(marked, 7)].max() == 0
    dark = np.logical_or.reduce([ill.masks[kind] for kind in BLEEDING])
    lit = healthy.image[..., 1] > 30
    assert (change[dark & lit] > 3).mean() > 0.9


def test_no_lesion_on_the_disc():
    for index in range(10):
        drawn = draw_photograph(5, index, 3 + index % 2, 256)
        eye = draw_eye(_generator(5, index // 2, index % 2))
        radius = draw_camera(_generator(5, index // 2, 2)).radius * 256
        x = (np.arange(256) + 0.5 - 128) / radius * (1 if index % 2 else -1)
        y = (np.arange(256) + 0.5 - 128) / radius
        distance = np.hypot(x[None] - eye.disc[0], y[:, None] - eye.disc[1])
        for mask in drawn.masks.values():
            assert not (mask & (distance < eye.disc_radius)).any()


def test_the_smallest_lesion_is_a_pixel_at_96():
    for index in range(4):
        mask = draw_photograph(6, index, 1).masks["microaneurysm"]
        small = np.asarray(
            Image.fromarray(mask).convert("L").resize((96, 96), Image.Resampling.BOX)
        )
        assert small.max() > 0.5 * 255


def test_grades_of_two_eyes():
    pairs = np.array([draw_grades(0, patient) for patient in range(2000)])
    apart = np.abs(pairs[:, 0] - pairs[:, 1])
    assert apart.max() == 1
    assert 0.75 < (apart == 0).mean() < 0.85
    shares = np.bincount(pairs.ravel()) / 4000
    assert np.abs(shares - SHARES).max() < 0.04
    assert shares.argmax() == 0


@pytest.mark.parametrize("seed", range(20))
def test_a_demo_has_enough_of_every_grade(seed):
    pairs = np.array([draw_grades(seed, patient) for patient in range(200)])
    assert np.bincount(pairs.ravel(), minlength=5).min() >= 16
    few = np.array([draw_grades(seed, patient) for patient in range(20)])
    assert np.bincount(few.ravel(), minlength=5).min() >= 1


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = str(tmp_path_factory.mktemp("drawn") / "not" / "there" / "yet")
    return root, SOURCES["synthetic"](Data(num_images=20), root, 4)


def test_source_columns(source):
    root, found = source
    assert set(found.columns) <= set(SCHEMA.names)
    assert {len(column) for column in found.columns.values()} == {20}
    assert found.problems == [] and found.labels == {"grade": GRADES, "sex": SEXES}
    assert found.columns["image_id"][:2] == ["4-1_left", "4-1_right"]
    assert found.columns["eye"] == ["left", "right"] * 10
    for path, num_bytes in zip(found.columns["path"], found.columns["num_bytes"], strict=True):
        assert files.size(files.join(root, path)) == num_bytes


def test_source_files(source):
    root, found = source
    lines = files.read_bytes(files.join(root, "trainLabels.csv")).decode().splitlines()
    assert lines[0] == "image,level" and len(lines) == 21
    assert lines[1:] == [
        f"{name},{grade}"
        for name, grade in zip(found.columns["image_id"], found.columns["grade"], strict=True)
    ]
    for index in (0, 13):
        drawn = draw_photograph(4, index, found.columns["grade"][index])
        stored = Image.open(
            io.BytesIO(files.read_bytes(files.join(root, found.columns["path"][index])))
        )
        assert stored.size == (512, 512) and not stored.getexif()
        assert np.abs(np.asarray(stored, float) - drawn.image).mean() < 5
        name = found.columns["image_id"][index]
        for folder, masks in (("masks", drawn.masks), ("landmarks", drawn.landmarks)):
            mask = files.read_bytes(files.join(root, folder, f"{name}.png"))
            bits = np.asarray(Image.open(io.BytesIO(mask)))
            for bit, own in enumerate(masks.values()):
                assert np.array_equal(bits >> bit & 1 == 1, own)


def test_masks_bear_the_words_of_the_field(source):
    root, found = source
    drawn_as = {
        "microaneurysms": ["microaneurysm"],
        "haemorrhages": ["haemorrhage", "preretinal"],
        "hard_exudates": ["hard_exudate"],
        "soft_exudates": ["cotton_wool"],
        "neovascularization": ["neovessel"],
        "laser_scars": ["laser_scar"],
        "optic_disc": ["disc"],
        "vessels": ["vessel"],
    }
    met = set()
    for index, grade in enumerate(found.columns["grade"]):
        drawn = draw_photograph(4, index, grade)
        layers = drawn.masks | drawn.landmarks
        assert [kind for kind, _ in found.columns["masks"][index]] == list(drawn_as)
        for kind, path in found.columns["masks"][index]:
            mask = read_mask(root, path)
            assert np.array_equal(mask, np.any([layers[n] for n in drawn_as[kind]], axis=0))
            met |= {kind} if mask.any() else set()
    assert met >= set(drawn_as) - {"laser_scars"}


@pytest.mark.parametrize(
    ("target", "kinds"),
    [
        (
            "lesions",
            ("microaneurysms", "haemorrhages", "hard_exudates", "soft_exudates", "optic_disc"),
        ),
        ("vessels", ("vessels",)),
    ],
)
def test_masks_are_learned(source, target, kinds):
    """Every drawn eye takes part, also a healthy one, and new vessels are background."""
    data = Data(num_images=20, target=target)
    manifest = build_manifest(data, source[0], 4)
    assert manifest.table.num_rows == 20 and manifest.unlabelled == 0
    assert manifest.classes == ("background", *kinds)
    assert mask_kinds(data, manifest.table) == kinds


def test_landmarks_of_an_earlier_version_are_drawn(tmp_path, capsys):
    """Photographs that an earlier version drew had no landmarks: they are the same ones, and get
    them without a word."""
    root, data = str(tmp_path), Data(num_images=20)
    first = SOURCES["synthetic"](data, root, 0)
    known = files.read_json(str(tmp_path / "drawn.json"))
    whole = {place.name: place.read_bytes() for place in (tmp_path / "landmarks").iterdir()}
    for name in whole:
        (tmp_path / "landmarks" / name).unlink()
    earlier = {name: held[:2] for name, held in known.items() if isinstance(held, list)}
    files.write_json(str(tmp_path / "drawn.json"), earlier)
    assert SOURCES["synthetic"](data, root, 0) == first
    assert {p.name: p.read_bytes() for p in (tmp_path / "landmarks").iterdir()} == whole
    assert capsys.readouterr().err == ""
    (tmp_path / "landmarks" / "0-1_left.png").write_bytes(b"other")
    assert SOURCES["synthetic"](data, root, 0) == first
    assert (tmp_path / "landmarks" / "0-1_left.png").read_bytes() == whole["0-1_left.png"]
    assert "or a mask is not what was drawn" in capsys.readouterr().err


def test_source_reads_as_eyepacs(source):
    root, found = source
    eyepacs = with_patients(SOURCES["eyepacs"](Data(source="eyepacs"), root, 0), "", secret=False)
    assert eyepacs.problems == []
    for key in ("image_id", "path", "patient_id", "eye", "grade", "num_bytes"):
        assert sorted(map(str, eyepacs.columns[key])) == sorted(map(str, found.columns[key]))


def test_source_goes_on_where_it_stood(tmp_path):
    root = str(tmp_path)
    data = Data(num_images=20)
    first = SOURCES["synthetic"](data, root, 0)
    kept, lost = (tmp_path / path for path in first.columns["path"][:2])
    content = lost.read_bytes()
    lost.unlink()
    before = kept.stat().st_mtime_ns
    assert SOURCES["synthetic"](data, root, 0) == first
    assert lost.read_bytes() == content
    assert kept.stat().st_mtime_ns == before
    more = SOURCES["synthetic"](Data(num_images=24), root, 0)
    assert more.columns["image_id"][:20] == first.columns["image_id"]
    assert more.columns["grade"][:20] == first.columns["grade"]


def test_source_leaves_the_photographs_of_others_alone(tmp_path):
    labels = tmp_path / "trainLabels.csv"
    labels.write_text("image,level\n10_left,0\n10_right,0\n")
    with pytest.raises(InputError, match=r"data\.source=eyepacs"):
        SOURCES["synthetic"](Data(), str(tmp_path), 0)
    assert [path.name for path in tmp_path.iterdir()] == ["trainLabels.csv"]


def test_sexes_are_drawn_per_patient_and_even() -> None:
    drawn = [draw_sex(3, patient) for patient in range(2000)]
    assert set(drawn) == {0, 1} and abs(np.mean(drawn) - 0.5) < 0.04
    assert drawn == [draw_sex(3, patient) for patient in range(2000)]
    assert drawn != [draw_sex(4, patient) for patient in range(2000)]

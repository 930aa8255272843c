"""The fundus is found however it was taken, and Graham's formula is what is computed."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter1d

from fundusray.data.images import BadImage, decode
from fundusray.data.preprocess import GREY, PREPROCESS, even_light, find_fundus, graham, resize


def drawn(
    height: int = 400,
    width: int = 600,
    radius: float = 180.0,
    centre: tuple[float, float] | None = None,
    light: float = 1.0,
    surround: float = 0.0,
) -> np.ndarray:
    """A disc with texture and a vignette, uint8 [H, W, 3]; `centre` is (x, y) in pixels."""
    x0, y0 = centre or (width / 2, height / 2)
    y, x = np.mgrid[:height, :width] + 0.5
    distance = np.hypot(x - x0, y - y0) / radius
    waves = np.sin(25 * (x - x0) / radius) * np.cos(20 * (y - y0) / radius)
    shade = 1 - 0.4 * distance**2 + 0.15 * waves
    shade += 0.3 * (np.hypot(x - x0 - 0.5 * radius, y - y0) < 0.15 * radius)
    image = light * shade[..., None] * np.array([170, 90, 50])
    image[distance > 1] = surround
    noise = np.random.default_rng(0).normal(0, 1, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    "case",
    [
        {},
        {"radius": 150, "centre": (220.0, 180.0)},
        {"radius": 260},  # cut above and below
        {"radius": 195, "centre": (300.0, 150.0)},  # cut above only
        {"radius": 190, "centre": (130.0, 200.0)},  # cut at the left
        {"light": 0.12},  # dark
        {"surround": 6.0},  # a surround that is not black
        {"height": 1600, "width": 2400, "radius": 720},
        {"height": 60, "width": 80, "radius": 27},
    ],
)
def test_finds_the_circle(case: dict) -> None:
    image = drawn(**case)
    height, width = image.shape[:2]
    radius = case.get("radius", 180.0)
    x, y = case.get("centre", (width / 2, height / 2))
    found = find_fundus(image)
    tolerance = max(0.01 * radius, 0.7)
    assert found.radius == pytest.approx(radius, abs=tolerance)
    assert (found.x, found.y) == pytest.approx((x, y), abs=tolerance)


def test_a_label_and_dust_beside_the_fundus_change_nothing() -> None:
    image = drawn()
    image[8:14, 10:60] = 230
    image[350:353, 20:23] = 120
    assert find_fundus(image).radius == pytest.approx(180, abs=2)


def test_rows_missing_from_a_truncated_file_change_nothing() -> None:
    image = drawn()
    image[260:] = 0
    found = find_fundus(image)
    assert (found.x, found.y, found.radius) == pytest.approx((300, 200, 180), abs=3)


def test_a_picture_inside_the_circle_is_taken_whole() -> None:
    found = find_fundus(drawn(radius=900))
    assert (found.x, found.y, found.radius) == pytest.approx((300, 200, 300), abs=1)


@pytest.mark.parametrize("name", PREPROCESS)
@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.zeros((100, 120, 3), np.uint8), "blank"),
        (np.full((100, 120, 3), 255, np.uint8), "blank"),
        (np.full((100, 120, 3), 90, np.uint8), "blank"),
        (np.tile(np.arange(1000, dtype=np.uint8)[:, None] % 200 + 40, (1, 20))[..., None], "disc"),
        (np.pad(np.full((9, 9, 3), 200, np.uint8), ((90, 91), (90, 91), (0, 0))), "blank"),
    ],
)
def test_without_a_fundus_it_is_a_bad_image(name: str, image: np.ndarray, reason: str) -> None:
    with pytest.raises(BadImage, match=reason):
        PREPROCESS[name].function(np.broadcast_to(image, (*image.shape[:2], 3)).copy(), 64)


@pytest.mark.parametrize("name", PREPROCESS)
@pytest.mark.parametrize("size", [32, 65, 128])
def test_results_are_squares_of_the_size(name: str, size: int) -> None:
    for image in (drawn(), drawn(radius=260), drawn(radius=900), drawn(height=20, width=17)):
        result = PREPROCESS[name].function(image, size)
        assert result.shape == (size, size, 3) and result.dtype == np.uint8


def formula(image: np.ndarray, sigma: float) -> np.ndarray:
    """4 a - 4 blur(a) + 128 in float64."""
    blurred = image.astype(np.float64)
    for axis in (0, 1):
        blurred = gaussian_filter1d(blurred, sigma, axis=axis, mode="mirror")
    return np.clip(np.round(4 * image.astype(np.float64) - 4 * blurred + 128), 0, 255)


def retina() -> np.ndarray:
    """The photograph that comes with scikit-image, uint8 [1411, 1411, 3]."""
    data = pytest.importorskip("skimage.data", reason="scikit-image (extra dev) has the photograph")
    try:
        return data.retina()
    except (OSError, ModuleNotFoundError) as error:
        pytest.skip(f"scikit-image has no retina photograph here: {error}")


def test_graham_is_the_formula_on_a_real_retina() -> None:
    image, size = retina(), 256
    found = find_fundus(image)
    x0, y0, diameter = found.x - found.radius, found.y - found.radius, 2 * found.radius
    box = (x0, y0, x0 + diameter, y0 + diameter)
    scaled = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR, box=box)
    expected = formula(np.asarray(scaled), size / 2 / 30)
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    expected[np.hypot(y, x) > 0.95 * size / 2] = 128
    # Values that lie on a half may round either way in float32.
    difference = np.abs(graham(image, size) - expected)
    assert difference.max() <= 1 and (difference > 0).mean() < 0.005


def test_even_light_is_the_formula_on_a_rectangle() -> None:
    image = drawn(90, 130, 40)
    difference = np.abs(even_light(image, 6.0) - formula(image, 6.0))
    assert difference.max() <= 1 and (difference > 0).mean() < 0.005


def test_outside_95_percent_of_the_radius_is_exactly_128() -> None:
    result = graham(drawn(), 128)
    y, x = np.mgrid[:128, :128] - 63.5
    outside = np.hypot(y, x) > 0.95 * 64
    assert (result[outside] == GREY).all()
    assert result[~outside].std() > 5
    assert PREPROCESS["graham"].fill == 128 / 255


def test_what_a_cut_leaves_missing_is_grey_and_has_no_false_edge() -> None:
    whole, cut = graham(drawn(700, 700, 260.0), 128), graham(drawn(400, 700, 260.0), 128)
    missing = round(64 * (1 - 200 / 260))
    assert (cut[: missing - 1] == GREY).all() and (cut[-missing + 1 :] == GREY).all()
    inside = slice(missing + 2, 128 - missing - 2)
    difference = np.abs(whole[inside].astype(int) - cut[inside])
    assert np.percentile(difference, 99) < 40 and difference.mean() < 5


@pytest.mark.parametrize("name", PREPROCESS)
def test_turning_the_photograph_turns_the_result(name: str) -> None:
    function = PREPROCESS[name].function
    for image in (drawn(), drawn(radius=260)):
        upright = function(image, 128).astype(int)
        for turns in (1, 2, 3):
            turned = function(np.rot90(image, turns).copy(), 128)
            assert np.abs(np.rot90(upright, turns) - turned).mean() < 1.5


def test_resize_crops_the_border_and_keeps_the_colours() -> None:
    result = resize(drawn(radius=150), 100)
    lit = result.max(axis=2) > 20
    assert lit.any(axis=0).sum() >= 98 and lit.any(axis=1).sum() >= 98
    assert (result[:8, :8] < 5).all()
    centre = drawn(radius=150)[195:205, 295:305].mean(axis=(0, 1))
    assert result[48:52, 48:52].mean(axis=(0, 1)) == pytest.approx(centre, abs=15)


@pytest.mark.parametrize(("name", "mean"), [("resize", 0.8), ("graham", 2.0)])
def test_a_scaled_decode_gives_the_same_picture(name: str, mean: float) -> None:
    sink = io.BytesIO()
    Image.fromarray(drawn(768, 1152, 350.0)).save(sink, "JPEG", quality=92)
    step, size = PREPROCESS[name], 128
    scaled = decode(sink.getvalue(), step.min_side(size)).pixels
    assert size <= min(scaled.shape[:2]) < 768 / 2
    full = step.function(decode(sink.getvalue()).pixels, size).astype(int)
    assert np.abs(full - step.function(scaled, size)).mean() < mean


def test_real_photographs_are_circles(real_data) -> None:
    paths = sorted((real_data / "eyepacs" / "train").glob("*.jpeg"))
    if not paths:
        pytest.skip(f"no EyePACS photographs in {real_data}")
    for path in paths[:6]:
        photograph = decode(path.read_bytes(), 320)
        found = find_fundus(photograph.pixels)
        height, width = photograph.pixels.shape[:2]
        assert 0.9 < 2 * found.radius / min(height, width) < 1.5
        assert abs(found.x / width - 0.5) < 0.03 and abs(found.y / height - 0.5) < 0.05

"""Every preprocessing is its author's formula, whatever the photograph looks like."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter, gaussian_filter1d, map_coordinates
from torchvision import transforms

from fundusray.config import Data
from fundusray.data.photographs.decode import BadImage, decode_photograph
from fundusray.data.photographs.find_fundus import Fundus, find_fundus
from fundusray.data.prepared import preprocess
from fundusray.data.prepared.preprocess import (
    GREY,
    PREPROCESS,
    RANGES,
    center_crop,
    check_preprocess_args,
    contour,
    diameter,
    even_light,
    graham,
    preprocess_photograph,
    resize,
)
from fundusray.errors import InputError

Draw = Callable[..., np.ndarray]
FINDING = [name for name in PREPROCESS if name != "center_crop"]
CASES = {
    "upright": {},
    "cut above and below": {"radius": 260},
    "cut above": {"radius": 190, "centre": (300.0, 130.0)},
    "cut at the left": {"radius": 190, "centre": (130.0, 200.0)},
    "off-centre": {"radius": 130, "centre": (190.0, 160.0)},
    "under-exposed": {"light": 0.3},
    "over-exposed": {"light": 2.0},
}


@pytest.mark.parametrize("name", FINDING)
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
def test_results_are_squares_of_the_size(drawn: Draw, name: str, size: int) -> None:
    for image in (drawn(), drawn(radius=260), drawn(radius=900), drawn(height=20, width=17)):
        result = PREPROCESS[name].function(image, size).pixels
        assert result.shape == (size, size, 3) and result.dtype == np.uint8
        assert result.flags.c_contiguous and result.flags.writeable


@pytest.mark.parametrize("name", PREPROCESS)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_turning_the_photograph_turns_the_result(drawn: Draw, name: str, case: dict) -> None:
    function, image = PREPROCESS[name].function, drawn(**case)
    upright = function(image, 128).pixels.astype(int)
    for turns in (1, 2, 3):
        turned = function(np.rot90(image, turns).copy(), 128).pixels
        assert np.abs(np.rot90(upright, turns) - turned).mean() < 1.5


@pytest.mark.parametrize("name", FINDING)
def test_where_the_circle_lies_in_the_photograph_does_not_matter(drawn: Draw, name: str) -> None:
    function = PREPROCESS[name].function
    middle = function(drawn(radius=130), 128).pixels.astype(int)
    beside = function(drawn(radius=130, centre=(190.0, 160.0)), 128).pixels
    difference = np.abs(middle - beside)
    # The noise is another one, and Graham's gain multiplies it.
    assert difference.mean() < 3


@pytest.mark.parametrize("name", PREPROCESS)
def test_a_greyscale_photograph_stays_grey(drawn: Draw, name: str) -> None:
    image = np.repeat(drawn()[..., :1], 3, axis=2)
    result = PREPROCESS[name].function(image, 96).pixels
    assert (result == result[..., :1]).all()
    colour = PREPROCESS[name].function(drawn(), 96).pixels
    assert np.abs(result[..., 0].astype(int) - colour[..., 0]).mean() < 1


@pytest.mark.parametrize(
    ("name", "mean"),
    [("resize", 0.8), ("graham", 2.0), ("diameter", 2.0), ("contour", 2.0), ("center_crop", 0.8)],
)
def test_a_scaled_decode_gives_the_same_picture(drawn: Draw, name: str, mean: float) -> None:
    sink = io.BytesIO()
    Image.fromarray(drawn(768, 1152, 350.0)).save(sink, "JPEG", quality=92)
    step, size = PREPROCESS[name], 128
    scaled = decode_photograph(sink.getvalue(), step.min_side(size)).pixels
    assert size <= min(scaled.shape[:2]) < 768 / 2
    full = step.function(decode_photograph(sink.getvalue()).pixels, size).pixels.astype(int)
    assert np.abs(full - step.function(scaled, size).pixels).mean() < mean


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


@pytest.mark.parametrize(("args", "clip"), [({}, 0.95), ({"clip": 0.9}, 0.9)])
def test_graham_is_the_formula_on_a_real_retina(args: dict, clip: float) -> None:
    image, size = retina(), 256
    found = find_fundus(image)
    x0, y0, width = found.x - found.radius, found.y - found.radius, 2 * found.radius
    box = (x0, y0, x0 + width, y0 + width)
    scaled = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR, box=box)
    expected = formula(np.asarray(scaled), size / 2 / 30)
    expected[outside(size, clip)] = 128
    # Values that lie on a half may round either way in float32.
    difference = np.abs(graham(image, size, **args).pixels - expected)
    assert difference.max() <= 1 and (difference > 0).mean() < 0.005


def test_even_light_is_the_formula_on_a_rectangle(drawn: Draw) -> None:
    image = drawn(90, 130, 40)
    difference = np.abs(even_light(image, 6.0) - formula(image, 6.0))
    assert difference.max() <= 1 and (difference > 0).mean() < 0.005


def outside(size: int, share: float) -> np.ndarray:
    """Which pixels lie beyond a share of the half side from the middle."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return np.hypot(y, x) > share * size / 2


@pytest.mark.parametrize(("name", "share"), [("graham", 0.95), ("diameter", 0.9)])
@pytest.mark.parametrize("size", [128, 101])
def test_the_outer_retina_and_what_is_blank_are_exactly_128(
    drawn: Draw, name: str, share: float, size: int
) -> None:
    for image in (drawn(), drawn(surround=9.0)):
        result = PREPROCESS[name].function(image, size).pixels
        assert (result[outside(size, share)] == GREY).all()
        assert result[~outside(size, share)].std() > 5
    assert PREPROCESS[name].fill == 128 / 255


@pytest.mark.parametrize("function", [graham, diameter])
def test_gain_and_divisor_are_the_formula_s(drawn: Draw, function: Callable) -> None:
    image = drawn()
    four, one = (
        function(image, 128).pixels.astype(int),
        function(image, 128, gain=1.0).pixels.astype(int),
    )
    unclipped = (four > 0) & (four < 255)
    assert np.abs((four - 128) / 4 - (one - 128))[unclipped].max() <= 0.75
    # The wider the blur, the more is left of what is coarse.
    stds = [function(image, 128, divisor=divisor).pixels.std() for divisor in (60, 30, 10)]
    assert stds == sorted(stds)


@pytest.mark.parametrize("function", [graham, diameter])
def test_what_a_cut_leaves_missing_is_grey_and_has_no_false_edge(
    drawn: Draw, function: Callable
) -> None:
    whole, cut = (
        function(drawn(700, 700, 260.0), 128).pixels,
        function(drawn(400, 700, 260.0), 128).pixels,
    )
    missing = round(64 * (1 - 200 / 260))
    assert (cut[: missing - 1] == GREY).all() and (cut[-missing + 1 :] == GREY).all()
    inside = slice(missing + 2, 128 - missing - 2)
    difference = np.abs(whole[inside].astype(int) - cut[inside])
    assert np.percentile(difference, 99) < 40 and difference.mean() < 5


@pytest.mark.parametrize("function", [graham, diameter])
def test_rows_that_a_truncated_file_lacks_make_no_false_edge(
    drawn: Draw, function: Callable
) -> None:
    whole, image = function(drawn(), 128).pixels.astype(int), drawn()
    image[260:] = 0
    end = round((260 - 20) / 360 * 128)
    result = function(image, 128).pixels.astype(int)
    assert (result[end + 2 :] == GREY).all()
    assert np.abs(result - whole)[: end - 2].max() < 60  # an edge to black is worth 250
    assert np.abs(result - whole)[: end - 12].mean() < 3


def test_diameter_is_li_s_steps(drawn: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 3 pixels per pixel of the result, its centres are centres of the photograph's."""
    image, size, sigma = drawn(radius=96.0), 64, 0.5 * 3
    monkeypatch.setattr(preprocess, "find_fundus", lambda image: Fundus(300.0, 200.0, 96.2))
    monkeypatch.setattr(preprocess, "count_diameter", lambda image: 192)
    channels = np.moveaxis(image.astype(np.float64), 2, 0)
    denoised = [gaussian_filter(channel, sigma, truncate=6) for channel in channels]
    rows = np.arange(200 - 96 + 1, 200 + 96, 3)
    columns = np.arange(300 - 96 + 1, 300 + 96, 3)
    grid = np.meshgrid(rows, columns, indexing="ij")
    scaled = np.stack([map_coordinates(c, grid, order=1) for c in denoised], axis=2)
    expected = formula(scaled, size / 2 / 30)
    expected[outside(size, 0.9)] = GREY
    difference = np.abs(diameter(image, size).pixels - expected)
    assert difference.max() <= 1 and (difference > 0).mean() < 0.02


@pytest.mark.parametrize(
    ("counted", "taken"),
    [(358, 179.0), (363, 181.5), (340, 180.0), (600, 180.0), (0, 180.0)],
)
def test_the_middle_row_is_counted_where_it_is_the_diameter(
    drawn: Draw, monkeypatch: pytest.MonkeyPatch, counted: int, taken: float
) -> None:
    monkeypatch.setattr(preprocess, "find_fundus", lambda image: Fundus(300.0, 200.0, 180.0))
    monkeypatch.setattr(preprocess, "count_diameter", lambda image: counted)
    result = diameter(drawn(), 128).pixels
    monkeypatch.setattr(preprocess, "find_fundus", lambda image: Fundus(300.0, 200.0, taken))
    monkeypatch.setattr(preprocess, "count_diameter", lambda image: round(2 * taken))
    assert (result == diameter(drawn(), 128).pixels).all()


def test_resize_crops_the_border_and_keeps_the_colours(drawn: Draw) -> None:
    result = resize(drawn(radius=150), 100).pixels
    lit = result.max(axis=2) > 20
    assert lit.any(axis=0).sum() >= 98 and lit.any(axis=1).sum() >= 98
    assert (result[:8, :8] < 5).all()
    centre = drawn(radius=150)[195:205, 295:305].mean(axis=(0, 1))
    assert result[48:52, 48:52].mean(axis=(0, 1)) == pytest.approx(centre, abs=15)


def by_area(image: np.ndarray, size: int) -> np.ndarray:
    """INTER_AREA by brute force: every pixel `size` times, then means of whole groups."""
    for axis in (0, 1):
        image = np.moveaxis(image, axis, 0)
        groups = np.repeat(image, size, axis=0).reshape(size, -1, *image.shape[1:])
        image = np.moveaxis(groups.mean(axis=1), 0, axis)
    return image


@pytest.mark.parametrize("size", [30, 64, 150])
@pytest.mark.parametrize("speck", [False, True])
def test_contour_is_the_box_by_area(size: int, speck: bool) -> None:
    y, x = np.mgrid[:200, :260] + 0.5
    disc = np.hypot(x - 140, y - 95) <= 60
    noise = np.random.default_rng(0).integers(50, 255, (200, 260, 3), np.uint8)
    image = np.where(disc[..., None], noise, np.uint8(12))
    if speck:
        image[180:190, 5:60] = 255
        image[20, 250] = 200
    expected = by_area(image[35:155, 80:200].astype(np.float64), size)
    assert np.abs(contour(image, size).pixels - expected).max() <= 0.51


def test_contour_stretches_the_box_of_a_cut_circle(drawn: Draw) -> None:
    result = contour(drawn(radius=260, light=1.5), 120).pixels
    lit = result.max(axis=2) >= 50
    assert lit[60].all() and lit[0, 40:80].all() and lit[-1, 40:80].all()
    assert not lit[0, :10].any()


@pytest.mark.parametrize(
    "case", [{"light": 0.25}, {"light": 0.12}, {"surround": 52.0, "light": 3.0}]
)
def test_contour_takes_the_circle_where_the_threshold_is_no_contour(
    drawn: Draw, case: dict
) -> None:
    image = drawn(**case)
    found = find_fundus(image)
    box = [found.x - found.radius, found.y - found.radius]
    box = [round(edge) for edge in (*box, *(low + 2 * found.radius for low in box))]
    expected = by_area(image[box[1] : box[3], box[0] : box[2]].astype(np.float64), 64)
    assert np.abs(contour(image, 64).pixels - expected).max() <= 0.51


@pytest.mark.parametrize("sides", [(400, 600), (333, 517), (700, 301), (96, 96), (40, 600)])
@pytest.mark.parametrize("size", [64, 97, 256])
def test_center_crop_is_torchvision_s(sides: tuple[int, int], size: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*sides, 3), np.uint8)
    peer = transforms.Compose([transforms.Resize(size), transforms.CenterCrop(size)])
    assert (center_crop(image, size).pixels == np.asarray(peer(Image.fromarray(image)))).all()


def test_center_crop_of_a_strip_needs_little_memory() -> None:
    strip = np.full((16, 65_000, 3), 7, np.uint8)
    assert (center_crop(strip, 512).pixels == 7).all()


def test_apply_is_the_recipe_s_preprocessing(drawn: Draw) -> None:
    data = Data(preprocess="graham", preprocess_args={"clip": 0.5, "gain": 2}, size=64)
    assert (
        preprocess_photograph(data, drawn()).pixels == graham(drawn(), 64, clip=0.5, gain=2).pixels
    ).all()
    assert (
        preprocess_photograph(Data(preprocess="contour", size=50), drawn()).pixels
        == contour(drawn(), 50).pixels
    ).all()


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("graham", {}),
        ("graham", {"clip": 0.9, "gain": 1, "divisor": 10.5}),
        ("diameter", {"denoise": 0.5, "clip": 1}),
        ("contour", {"value": 30}),
        ("resize", {}),
    ],
)
def test_good_arguments_pass(drawn: Draw, name: str, args: dict) -> None:
    check_preprocess_args(name, args)
    assert PREPROCESS[name].function(drawn(), 32, **args).pixels.shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("grahm", {}, "did you mean 'graham'"),
        ("graham", {"clipp": 0.9}, "argument of preprocessing graham named 'clipp'.*mean 'clip'"),
        ("graham", {"size": 10}, "named 'size'.*clip, divisor, gain"),
        ("graham", {"value": 10}, "named 'value'"),
        ("resize", {"clip": 0.9}, "resize takes none, got 'clip'"),
        ("graham", {"clip": 95}, r"preprocess_args.clip: needs a number in \[0.1, 1\], got 95"),
        ("graham", {"clip": "0.9"}, "clip: .* got '0.9'"),
        ("graham", {"gain": True}, "gain: .* got True"),
        ("graham", {"gain": float("nan")}, "gain: .* got nan"),
        ("diameter", {"divisor": 0}, "divisor"),
        ("diameter", {"denoise": 0}, "denoise"),
        ("contour", {"value": 0}, "value"),
    ],
)
def test_bad_arguments_are_named(name: str, args: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_preprocess_args(name, args)


@pytest.mark.parametrize("name", FINDING)
def test_every_keyword_works_over_its_range(drawn: Draw, name: str) -> None:
    defaults = PREPROCESS[name].function.__kwdefaults__ or {}
    check_preprocess_args(name, defaults)
    for key, given in [(each, end) for each in defaults for end in RANGES[each]]:
        assert PREPROCESS[name].function(drawn(), 64, **{key: given}).pixels.shape == (64, 64, 3)

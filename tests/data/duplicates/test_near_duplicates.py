"""Altered copies are found, different photographs are not, in any order and number."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fundusray.data.drawn.source import draw_photograph
from fundusray.data.duplicates import near_duplicates
from fundusray.data.duplicates.fingerprint import LENGTH, SIDE, fingerprint
from fundusray.data.duplicates.near_duplicates import (
    ALL,
    BATCH,
    MIRRORED,
    MISSES,
    SHIFT,
    SIMILAR,
    DuplicatePair,
    _among_best,
    _correlate,
    _spectra,
    duplicate_groups,
    find_pairs,
)
from fundusray.data.photographs.decode import decode_photograph
from tests.conftest import jpeg

NUM = 60


def recoded(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg(pixels, quality=30))))


def halved(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    small = Image.fromarray(pixels).resize((width // 2, height // 2), Image.Resampling.BICUBIC)
    return np.asarray(small)


def shifted(pixels: np.ndarray, mode: str = "constant") -> np.ndarray:
    """Eight pixels to the right and down."""
    padded = np.pad(pixels, ((8, 0), (8, 0), (0, 0)), mode=mode)
    return padded[: len(pixels), : pixels.shape[1]]


def brightened(pixels: np.ndarray) -> np.ndarray:
    return np.clip(1.1 * pixels.astype(float) + 6, 0, 255).astype(np.uint8)


def cropped(pixels: np.ndarray) -> np.ndarray:
    lit = pixels.max(axis=2) > 16
    rows, columns = (np.flatnonzero(lit.sum(axis=axis) > 4) for axis in (1, 0))
    return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


FORMS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "re-encoded": (recoded, "same picture"),
    "half size": (halved, "same picture"),
    "shifted, black": (shifted, "same picture"),
    "shifted, edge": (lambda pixels: shifted(pixels, "edge"), "same picture"),
    "brightened": (brightened, "same picture"),
    "cropped": (cropped, "same picture"),
    "mirrored": (lambda pixels: pixels[:, ::-1], "mirrored left to right"),
    "upside down": (lambda pixels: pixels[::-1], "upside down"),
    "turned": (lambda pixels: pixels[::-1, ::-1], "turned by 180 degrees"),
    "all": (lambda pixels: recoded(halved(shifted(pixels[:, ::-1]))), "mirrored left to right"),
}


@pytest.fixture(scope="module")
def photographs() -> list[np.ndarray]:
    """Both eyes of thirty drawn patients, uint8 [256, 256, 3]."""
    return [draw_photograph(5, index, index % 5, side=256).image for index in range(NUM)]


@pytest.fixture(scope="module")
def prints(photographs: list[np.ndarray]) -> np.ndarray:
    """Of the photographs, int8 [NUM, LENGTH]."""
    return np.stack([fingerprint(pixels) for pixels in photographs])


def unknown(num: int) -> list[str]:
    return [""] * num


def invented(num: int, seed: int = 0) -> np.ndarray:
    """Prints of nothing real: smoothed noise in the circle, int8 [num, LENGTH]."""
    rng = np.random.default_rng(seed)
    noise = torch.from_numpy(rng.standard_normal((num, 1, SIDE, SIDE), np.float32))
    smooth = torch.nn.functional.avg_pool2d(noise, 3, 1, 1)
    axis = np.arange(SIDE) - (SIDE - 1) / 2
    smooth *= torch.from_numpy(np.hypot(axis[:, None], axis) < 28)
    return (180 * smooth).clamp(-127, 127).to(torch.int8).numpy().reshape(num, LENGTH)


def members(found: np.ndarray) -> set[frozenset[int]]:
    """The rows of each group."""
    heads = set(found[found >= 0].tolist())
    return {frozenset(np.flatnonzero(found == head).tolist()) for head in heads}


def test_different_photographs_are_no_twins(prints: np.ndarray) -> None:
    assert find_pairs(prints, unknown(NUM)) == []


@pytest.mark.parametrize("form", FORMS)
def test_altered_copies_are_found(
    form: str, photographs: list[np.ndarray], prints: np.ndarray
) -> None:
    alter, how = FORMS[form]
    copies = [fingerprint(np.ascontiguousarray(alter(pixels))) for pixels in photographs[:20]]
    found = find_pairs(np.concatenate([prints, copies]), unknown(NUM + 20))
    assert [(pair.first, pair.second) for pair in found] == [(i, NUM + i) for i in range(20)]
    assert {pair.how for pair in found} == {how}
    assert all(SIMILAR <= pair.similarity < 1.001 for pair in found)


def test_the_order_of_rows_does_not_matter() -> None:
    prints = invented(1500)
    copies = np.roll(prints[:100].reshape(-1, SIDE, SIDE), 2, axis=2).reshape(100, LENGTH)
    prints = np.concatenate([prints, copies, copies[:10]])
    assert len(prints) > ALL, "hashes are to be used"
    order = np.random.default_rng(1).permutation(len(prints))
    found = duplicate_groups(len(prints), find_pairs(prints, unknown(len(prints))))
    again = duplicate_groups(len(prints), find_pairs(prints[order], unknown(len(prints))))
    assert len(members(found)) == 100
    assert members(found) == {frozenset(order[list(group)].tolist()) for group in members(again)}


def test_hashes_find_what_comparing_all_finds() -> None:
    prints = invented(2 * ALL, seed=2)
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 30, (300, LENGTH)) * (prints[:300] != 0)
    copies = np.clip(prints[:300] + noise, -127, 127).reshape(-1, SIDE, SIDE)[:, :, ::-1]
    prints = np.concatenate([prints, copies.reshape(300, LENGTH).astype(np.int8)])
    found = find_pairs(prints, unknown(len(prints)))
    assert [(p.first, p.second) for p in found] == [(i, 2 * ALL + i) for i in range(300)]
    assert {pair.how for pair in found} == {"mirrored left to right"}


@pytest.mark.parametrize("num", [0, 1])
def test_none_and_one_have_no_twin(num: int) -> None:
    assert find_pairs(invented(num), unknown(num)) == []
    assert duplicate_groups(num, []).tolist() == [-1] * num


def test_two_are_compared() -> None:
    one = invented(1)
    other = one.reshape(SIDE, SIDE)[::-1].reshape(1, LENGTH)
    (pair,) = find_pairs(np.concatenate([one, other]), unknown(2))
    assert pair[:2] == (0, 1) and pair.how == "upside down"
    assert pair.similarity == pytest.approx(1, abs=1e-4)
    assert find_pairs(invented(2), unknown(2)) == []


def test_prints_that_show_nothing_are_alike_only_by_their_bytes() -> None:
    nothing = np.zeros((4, LENGTH), np.int8)
    assert find_pairs(nothing, unknown(4)) == []
    assert find_pairs(nothing, ["a", "b", "", "a"]) == [DuplicatePair(0, 3, 1.0, "same bytes")]


def test_exact_copies_are_linked_to_the_first() -> None:
    prints = np.repeat(invented(2), 1000, axis=0)
    found = find_pairs(prints, ["a"] * 1000 + unknown(1000))
    assert found[:999] == [DuplicatePair(0, i, 1.0, "same bytes") for i in range(1, 1000)]
    assert found[999:] == [DuplicatePair(1000, i, 1.0, "same picture") for i in range(1001, 2000)]


def test_another_file_of_the_same_pixels_is_the_same_picture() -> None:
    found = find_pairs(np.repeat(invented(1), 4, axis=0), ["a", "b", "a", "b"])
    assert found == [
        DuplicatePair(0, 1, 1.0, "same picture"),
        DuplicatePair(0, 2, 1.0, "same bytes"),
        DuplicatePair(1, 3, 1.0, "same bytes"),
    ]


def test_many_altered_copies_make_one_group_by_few_pairs() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 10, (500, LENGTH)).round().astype(np.int16)
    prints = np.clip(invented(1) + noise, -127, 127).astype(np.int8)
    found = find_pairs(prints, unknown(500))
    assert duplicate_groups(500, found).tolist() == [0] * 500
    assert len(found) < 500 * 10


def test_a_burst_of_nearly_equal_photographs_is_compared_with_a_few_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Among others, more of them than are compared all with all."""
    compared = []

    def count(one: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        compared.append(len(other))
        return _correlate(one, other)

    monkeypatch.setattr(near_duplicates, "_correlate", count)
    burst, others = 2 * ALL, 300
    noise = np.random.default_rng(0).normal(0, 12, (burst, LENGTH))
    shots = np.clip(invented(1) + noise, -127, 127).astype(np.int8)
    prints = np.concatenate([invented(others, seed=1), shots])
    order = np.random.default_rng(2).permutation(len(prints))
    place = np.argsort(order)
    found = duplicate_groups(len(prints), find_pairs(prints[order], unknown(len(prints))))
    assert members(found) == {frozenset(place[others:].tolist())}
    assert sum(compared) < 4 * len(prints)


def test_many_that_are_near_but_not_alike_end_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def count(one: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        compared.append(len(one))
        return _correlate(one, other)

    monkeypatch.setattr(near_duplicates, "_correlate", count)
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 60, (200, LENGTH)).round().astype(np.int16)
    prints = np.clip(invented(1) + noise, -127, 127).astype(np.int8)
    assert find_pairs(prints, unknown(200)) == []
    assert 0 < sum(compared) <= 200 * MISSES + BATCH < 200 * 199 / 2


def test_groups_are_connected_components() -> None:
    pairs = [
        DuplicatePair(4, 6, 1.0, "same bytes"),
        DuplicatePair(1, 3, 0.9, ""),
        DuplicatePair(3, 6, 0.8, ""),
    ]
    assert duplicate_groups(8, pairs).tolist() == [-1, 1, -1, 1, 1, -1, 1, -1]
    chain = [DuplicatePair(i, i + 1, 1.0, "") for i in reversed(range(4999))]
    found = duplicate_groups(5000, chain)
    assert found.dtype == np.int64 and not found.any()


def test_correlation_is_the_best_over_shifts_and_mirrored_forms() -> None:
    one, other = invented(2).reshape(2, SIDE, SIDE).astype(np.float64)
    other = 0.5 * np.roll(one, (4, -2), (0, 1))[::-1] + 0.5 * other
    best = (-1.0, 0)
    for form, axes in enumerate(((), (1,), (0,), (0, 1))):
        padded = np.pad(np.flip(other, axes), SHIFT)
        for down in range(2 * SHIFT + 1):
            for across in range(2 * SHIFT + 1):
                product = one * padded[down : down + SIDE, across : across + SIDE]
                best = max(best, (float(product.sum()), form))
    expected = best[0] / np.sqrt((one**2).sum() * (other**2).sum())
    pictures = [torch.from_numpy(picture)[None].float() for picture in (one, other)]
    highest, form = _correlate(*pictures)
    assert float(highest) == pytest.approx(expected, abs=1e-5) and expected > SIMILAR
    assert MIRRORED[int(form)] == "upside down" == MIRRORED[best[1]]
    highest, form = _correlate(*reversed(pictures))
    assert float(highest) == pytest.approx(expected, abs=1e-5)


def test_a_farther_shift_is_another_picture() -> None:
    one = torch.from_numpy(invented(1)).reshape(1, SIDE, SIDE).float()
    assert float(_correlate(one, torch.roll(one, 3 * SHIFT, 1))[0]) < SIMILAR


def test_spectra_know_neither_shift_nor_mirroring() -> None:
    one = invented(1).reshape(SIDE, SIDE)
    moved = np.roll(one, (1, -2), (0, 1))
    forms = np.stack([one, moved, one[:, ::-1], one[::-1], one[::-1, ::-1]]).reshape(5, LENGTH)
    spectra = _spectra(forms, np.arange(5))
    assert (spectra @ spectra[0]).min() > 0.9999


def test_spectra_are_amplitudes_over_the_mean_of_their_ring() -> None:
    prints = invented(3)
    waves = np.abs(np.fft.fft2(prints.reshape(3, SIDE, SIDE), (80, 80)))  # 0.8 cycles apart
    strength = (waves + waves[:, -np.arange(80)])[:, :16, :16]
    length = 0.8 * np.hypot(np.arange(16)[:, None], np.arange(16))
    used = (length > 0) & (length <= 12)
    ring, strength = np.rint(length[used]), strength[:, used]
    mean = np.stack([strength[:, ring == one].mean(axis=1) for one in ring], axis=1)
    expected = strength / mean - 1
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.abs(_spectra(prints, np.arange(3)).numpy() - expected).max() < 1e-4


def test_the_best_candidates_of_either_row_stay() -> None:
    pairs = np.array([[0, i] for i in range(1, 300)] + [[298, 299]]).T
    kept = _among_best(pairs)
    assert kept.all(), "each is the first of its second row"
    assert _among_best(np.array([[0, 1]] * 200).T).sum() == 128


def test_real_twins_are_found(real_data: Path) -> None:
    folder = next(real_data.glob("IDRiD/B*/1*/*Training*"))
    files = sorted(folder.glob("*.jpg"))[::4]
    files = sorted({*files, folder / "IDRiD_028.jpg", folder / "IDRiD_327.jpg"})
    files += sorted(real_data.glob("odir_graded_256/train/*.jpeg"))[:40]
    decoded = [decode_photograph(file.read_bytes(), 320).pixels for file in files]
    prints = [fingerprint(pixels) for pixels in decoded]
    for alter in (recoded, halved, lambda pixels: shifted(pixels[:, ::-1])):
        prints += [fingerprint(np.ascontiguousarray(alter(pixels))) for pixels in decoded]
    found = duplicate_groups(len(prints), find_pairs(np.stack(prints), unknown(len(prints))))
    names, own = [file.stem for file in files], np.arange(len(files))
    own[names.index("IDRiD_327")] = names.index("IDRiD_028")
    assert found.tolist() == np.tile(own, 4).tolist()

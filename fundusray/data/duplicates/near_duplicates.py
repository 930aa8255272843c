"""Near duplicates: photographs that are the same picture, however encoded, scaled or mirrored.

Two prints (fingerprint.py) are compared by their highest correlation over small shifts and mirrored
forms. Comparing all with all grows with the square of their number, so candidates come first from
hashes: random hyperplanes (Charikar 2002) cut the space of the prints' spectra, which know neither
shift nor mirroring, and only those that fall on the same side of all planes of a table meet.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from fundusray.data.duplicates.fingerprint import LENGTH, SIDE

SIMILAR = 0.6
"""Correlation from which on two photographs are one. Measured on 3,448 of ODIR, EyePACS, IDRiD,
APTOS and CHASE: of 2,200 altered copies (JPEG 30, half size, mirrored, shifted, brightened,
cropped, grey, several at once) all but one lie above 0.61 and 99 % above 0.78; of 5.9 million pairs
of different eyes the most alike, with the same reflexes of one camera, reach 0.574, and a tenth as
many every 0.05. Two shots of one eye with the same gaze, 0.58 to 0.86, are mostly taken for one."""
SHIFT = 5
"""Farthest shift that is tried, pixels of a print: 8 % of the diameter."""
MIRRORED = ("same picture", "mirrored left to right", "upside down", "turned by 180 degrees")
REACH, STEP = 12.0, 0.8
"""Highest wave of a spectrum and distance between waves, cycles across the fundus."""
NEAR = 0.5
"""Cosine of two spectra from which on their prints are compared. The least of those altered copies
reach 0.51 and 0.59; of other pairs 1 in 14,000 gets so far."""
TABLES, TOGETHER, WORDS = 256, 16, 8
"""Tables of hashes, how many of them are made at a time, and 64-bit words of a sketch."""
ALL = 1024
"""Up to so many prints are all compared with all."""
NEIGHBOURS = 32
"""In one place of a table a print meets so many others at most."""
MOST = 128
"""So many of a print's candidates, the nearest, are kept."""
CLOSED = 16
"""A group of more photographs than this is held by some of its pairs, not all are looked for."""
MISSES = 16
"""Comparisons without success after which a print is compared only with those of fewer."""
CROWD, CROWDED_TABLES, LEADERS = 64, 8, 16
"""A place of a table with more prints than this holds nearly equal ones (a video, a burst); tables
that are searched for such places, and prints of a place that all its others are compared with."""
EQUAL = 0.8
"""Correlation from which on one print of a crowd stands for another."""
BATCH = 512
"""Pairs of prints compared at a time."""


class DuplicatePair(NamedTuple):
    """Two photographs that are one picture."""

    first: int
    """Row of the one that comes first."""
    second: int
    similarity: float
    """Correlation of their details, 1 for the same bytes."""
    how: str
    """same bytes, or one of MIRRORED."""


def find_pairs(prints: np.ndarray, digests: Sequence[str]) -> list[DuplicatePair]:
    """The near duplicates among photographs, in the order of their rows.

    Copies are linked to the first of them, and a large group by enough pairs to hold it together;
    else all pairs are given. Prints that show nothing are like no other. The same photographs in
    another order give the same groups. Memory: 2 KB for a print, and about 300 MB.

    Args:
        prints: int8 [N, LENGTH].
        digests: of the photographs' files; "" where it is not known.
    """
    prints = np.ascontiguousarray(prints, np.int8).reshape(-1, LENGTH)
    assert len(prints) == len(digests), (len(prints), len(digests))
    rows, pairs = _distinct(prints, digests)
    if len(rows) > 1:
        spectra = _spectra(prints, rows)
        alone, copies = _collapse(prints, rows, spectra)
        rows, pairs = rows[alone], pairs + copies
        pairs += _compare(prints, rows[_candidates(spectra[torch.from_numpy(alone)])])
    return sorted(pairs)


def duplicate_groups(num: int, pairs: Iterable[DuplicatePair]) -> np.ndarray:
    """The smallest row of each row's connected group, int64 [num]; -1 for a row alone."""
    parent, size = list(range(num)), [1] * num
    for pair in pairs:
        _join(parent, size, pair.first, pair.second)
    found = np.array([_root(parent, row) for row in range(num)], np.int64)
    return np.where(np.array(size, np.int64)[found] > 1, found, -1)


def _root(parent: list[int], row: int) -> int:
    """The head of a row's group; the way there is halved (Tarjan and van Leeuwen 1984)."""
    while parent[row] != row:
        parent[row] = parent[parent[row]]
        row = parent[row]
    return row


def _join(parent: list[int], size: list[int], one: int, other: int) -> None:
    """Makes one group of two rows' groups, headed by its smallest row; heads know the size."""
    low, high = sorted((_root(parent, one), _root(parent, other)))
    if low != high:
        parent[high] = low
        size[low] += size[high]


def _distinct(prints: np.ndarray, digests: Sequence[str]) -> tuple[np.ndarray, list[DuplicatePair]]:
    """(the first row of each different print, in an order that only the prints decide; a pair for
    each copy of the same bytes or of the same print, with its first)."""
    pairs, of_bytes = [], {}
    for row, digest in enumerate(digests):
        first = of_bytes.setdefault(digest, row) if digest else row
        if first < row:
            pairs.append(DuplicatePair(first, row, 1.0, "same bytes"))
    of_print: dict[bytes, list[int]] = defaultdict(list)
    for row in np.flatnonzero(prints.any(axis=1)).tolist():
        of_print[hashlib.sha256(prints[row]).digest()].append(row)
    for first, *others in of_print.values():
        for row in others:
            if of_bytes.get(digests[row], row) == row:
                pairs.append(DuplicatePair(first, row, 1.0, MIRRORED[0]))
    rows = [of_print[digest][0] for digest in sorted(of_print)]
    return np.array(rows, np.int64), pairs


def _spectra(prints: np.ndarray, rows: np.ndarray) -> torch.Tensor:
    """How strongly each wave is present in the prints of some rows, float32 [N, W] of length 1.

    Of the Fourier transform only amplitudes: a shift changes phases alone. Mirrored waves are
    averaged, so no mirroring changes them either. Each wave is relative to those of its length,
    whose strength is common to all fundi.
    """
    num = int(REACH / STEP) + 1
    angles = np.arange(num)[:, None] * (np.arange(SIDE) - (SIDE - 1) / 2)
    angles *= 2 * np.pi * STEP / SIDE
    waves = torch.from_numpy(np.concatenate([np.cos(angles), np.sin(angles)])).float()
    length = np.hypot(np.arange(num)[:, None], np.arange(num)) * STEP
    used = torch.from_numpy((length > 0) & (length <= REACH))
    ring = torch.from_numpy(np.rint(length).astype(np.int64))[used]
    members = torch.bincount(ring).clamp_min(1)
    parts = []
    for start in range(0, len(rows), BATCH):
        part = torch.from_numpy(prints[rows[start : start + BATCH]]).reshape(-1, SIDE, SIDE)
        products = waves @ (part.float() @ waves.T)
        (cc, cs), (sc, ss) = (half.split(num, 2) for half in products.split(num, 1))
        strength = torch.hypot(cc - ss, cs + sc) + torch.hypot(cc + ss, cs - sc)
        strength = strength[:, used]
        mean = torch.zeros(len(part), len(members)).index_add_(1, ring, strength) / members
        parts.append(strength / mean[:, ring].clamp_min(1e-6) - 1)
    return torch.nn.functional.normalize(torch.cat(parts))


def _collapse(
    prints: np.ndarray, rows: np.ndarray, spectra: torch.Tensor
) -> tuple[np.ndarray, list[DuplicatePair]]:
    """(which of some rows stand for themselves, bool [N]; a pair for each that another stands for).

    Thousands of nearly equal photographs fall into the same place of every table, where each would
    meet the others again and again. In a crowded place all are compared with a few of them, and
    those that are EQUAL to one go on as that one.
    """
    num = len(rows)
    alone, pairs = np.ones(num, bool), []
    if num <= ALL:
        return alone, pairs
    bits, rng = _bits(num), np.random.default_rng(1)
    for _ in range(CROWDED_TABLES):
        left = np.flatnonzero(alone)
        keys = _sides(spectra[torch.from_numpy(left)], rng, bits) @ (1 << np.arange(bits))
        left = left[np.argsort(keys, kind="stable")]
        _, sizes = np.unique(keys, return_counts=True)
        for place in np.split(left, np.cumsum(sizes)[:-1]):
            for _ in range(LEADERS):
                if len(place) <= CROWD:
                    break
                leader, place = place[0], place[1:]
                near = _cosines(spectra, np.full(len(place), leader), place) >= NEAR
                for other, value, form in _alike(prints, rows, leader, place[near]):
                    first, second = sorted((int(rows[leader]), int(rows[other])))
                    pairs.append(DuplicatePair(first, second, value, MIRRORED[form]))
                    alone[other] = False
                place = place[alone[place]]
    return alone, pairs


def _alike(
    prints: np.ndarray, rows: np.ndarray, leader: int, others: np.ndarray
) -> Iterator[tuple[int, float, int]]:
    """(place, correlation, form in MIRRORED) of the others that are EQUAL to a leader."""
    picture = torch.from_numpy(prints[rows[leader]]).reshape(1, SIDE, SIDE).float()
    for start in range(0, len(others), BATCH):
        part = others[start : start + BATCH]
        pictures = torch.from_numpy(prints[rows[part]]).reshape(-1, SIDE, SIDE).float()
        values, forms = _correlate(picture, pictures)
        for other, value, form in zip(part, values.tolist(), forms.tolist(), strict=True):
            if value >= EQUAL:
                yield other, value, form


def _bits(num: int) -> int:
    """Of so many spectra's hashes."""
    return 0 if num <= ALL else round(np.log2(num)) - 2


def _candidates(spectra: torch.Tensor) -> np.ndarray:
    """Pairs int64 [P, 2] of spectra that meet in a table and are NEAR, the nearest first.

    Of N spectra a hash has log2(N) - 2 bits, so that a print meets about as many others in a table
    however many there are. The planes are always the same.
    """
    num = len(spectra)
    bits = _bits(num)
    tables, neighbours = (TABLES, NEIGHBOURS) if bits else (1, num)
    rng = np.random.default_rng(0)
    sketches = np.packbits(_sides(spectra, rng, 64 * WORDS), axis=1).view(np.uint64)
    codes, cosines = np.empty(0, np.int64), np.empty(0, np.float32)
    for start in range(0, tables, TOGETHER):
        together = min(TOGETHER, tables - start)
        sides = _sides(spectra, rng, together * bits).reshape(num, together, bits)
        met = [_meet(keys, sketches, neighbours) for keys in (sides @ (1 << np.arange(bits))).T]
        fresh = np.sort(np.concatenate(met))
        fresh = fresh[np.diff(fresh, prepend=-1) > 0]
        fresh = fresh[~np.isin(fresh, codes, assume_unique=True, kind="sort")]
        cosine = _cosines(spectra, *np.divmod(fresh, num))
        codes = np.concatenate([codes, fresh[cosine >= NEAR]])
        cosines = np.concatenate([cosines, cosine[cosine >= NEAR]])
        order = np.lexsort((codes, -cosines))
        order = order[_among_best(np.stack(np.divmod(codes[order], num)))]
        codes, cosines = codes[order], cosines[order]
    return np.stack(np.divmod(codes, num), axis=1)


def _sides(spectra: torch.Tensor, rng: np.random.Generator, planes: int) -> np.ndarray:
    """On which side of so many random planes each spectrum lies, bool [N, planes]."""
    normals = rng.standard_normal((spectra.shape[1], planes), np.float32)
    return (spectra @ torch.from_numpy(normals) > 0).numpy()


def _meet(keys: np.ndarray, sketches: np.ndarray, neighbours: int) -> np.ndarray:
    """Pairs of rows of equal keys [N] whose sketches do not rule out NEAR, as smaller * N + larger.

    Sorted, equal keys lie side by side: each is compared with the next, the one after that, ...
    """
    # A plane separates with probability angle / pi; two standard deviations are left to chance.
    share = np.arccos(NEAR) / np.pi
    most = 64 * WORDS * share + 2 * np.sqrt(64 * WORDS * share * (1 - share))
    order = np.argsort(keys, kind="stable")
    keys, at, codes = keys[order], np.arange(len(keys)), [np.empty(0, np.int64)]
    for distance in range(1, neighbours + 1):
        at = at[at + distance < len(keys)]
        at = at[keys[at] == keys[at + distance]]  # what differs here differs farther on
        if not len(at):
            break
        first, second = order[at], order[at + distance]
        differ = np.bitwise_count(sketches[first] ^ sketches[second]).sum(axis=1)
        codes.append((first * len(keys) + second)[differ <= most])
    return np.concatenate(codes)


def _cosines(spectra: torch.Tensor, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Of the angles between pairs of spectra, float32 [P]."""
    found = np.empty(len(first), np.float32)
    for start in range(0, len(first), 65536):
        part = slice(start, start + 65536)
        found[part] = (spectra[first[part]] * spectra[second[part]]).sum(1).numpy()
    return found


def _among_best(pairs: np.ndarray) -> np.ndarray:
    """Which pairs [2, P] are among the first MOST of one of their two rows, bool [P]."""
    ends, places = pairs.ravel(), np.tile(np.arange(pairs.shape[1]), 2)
    order = np.lexsort((places, ends))
    rank = np.arange(len(ends)) - np.searchsorted(ends[order], ends[order])
    best = np.zeros(len(ends), bool)
    best[order] = rank < MOST
    return best.reshape(2, -1).any(axis=0)


def _compare(prints: np.ndarray, candidates: np.ndarray) -> list[DuplicatePair]:
    """Those of the candidates int64 [P, 2], rows of prints, that are SIMILAR.

    A thousand altered copies of one photograph are half a million pairs: inside a group that has
    grown beyond CLOSED no more are compared, nor two prints that both were unlike MISSES others.
    """
    pictures = torch.from_numpy(prints).reshape(-1, SIDE, SIDE)
    parent, size, missed = list(range(len(prints))), [1] * len(prints), [0] * len(prints)
    found = []
    for start in range(0, len(candidates), BATCH):
        pairs = []
        for a, b in candidates[start : start + BATCH].tolist():
            root = _root(parent, a)
            joined = root == _root(parent, b)
            if (size[root] <= CLOSED) if joined else (min(missed[a], missed[b]) < MISSES):
                pairs.append((a, b))
        if not pairs:
            continue
        one, other = torch.tensor(pairs).T
        highest, form = _correlate(pictures[one].float(), pictures[other].float())
        for (a, b), value, place in zip(pairs, highest.tolist(), form.tolist(), strict=True):
            if value >= SIMILAR:
                found.append(DuplicatePair(min(a, b), max(a, b), value, MIRRORED[place]))
                _join(parent, size, a, b)
            else:
                missed[a] += 1
                missed[b] += 1
    return found


def _correlate(one: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(highest correlation [P], its form in MIRRORED [P]) of pictures [P, S, S] over all shifts up
    to SHIFT, by the Fourier transform in a frame with room for the shift."""
    frame = (SIDE + 8, SIDE + 8)
    shifts = torch.arange(-SHIFT, SHIFT + 1)
    spectrum = torch.fft.rfft2(one, frame)
    best = []
    for axes in ((), (2,), (1,), (1, 2)):
        turned = torch.fft.rfft2(other.flip(axes), frame)
        products = torch.fft.irfft2(spectrum * turned.conj(), frame)
        best.append(products[:, shifts[:, None], shifts].amax((1, 2)))
    highest, form = torch.stack(best).max(0)
    norms = one.square().sum((1, 2)) * other.square().sum((1, 2))
    return highest / norms.sqrt().clamp_min(1e-6), form

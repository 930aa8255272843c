"""What the classes of a set are called, and which order their names have.

An order is needed where a miss by two grades is worse than by one. It is known of names that say
it themselves (the grades of retinopathy in the spellings of public sets, screening grades R0 to
R3A, no and yes); of others it must be said (data.classes). Names are compared without case and
punctuation: No_DR, "no dr" and No-DR are one name.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from fundusray.data.manifest.contract import EDEMA, GRADES

SEVERITY = ("none", "mild", "moderate", "severe")
"""Words that order any disease's stages; in a set of retinopathy they are its grades."""
UNGRADABLE = {
    "ungradable", "ungraded", "ungradeable", "not gradable", "non gradable", "nongradable",
    "not graded", "unreadable", "not assessable", "unassessable", "poor quality", "bad quality",
    "low quality", "insufficient quality", "reject", "rejected", "unusable", "r6",
}  # fmt: skip
"""Names of what was looked at and could not be graded."""
NO_LABEL = {"nan", "na", "n a", "null", "unlabelled", "unlabeled", "unknown"}
"""What stands in a column of labels where there is none; so does -1."""
NEGATIVE = {
    "0", "no", "none", "normal", "healthy", "negative", "neg", "n", "false", "absent", "control",
    "normal control", "normal fundus", "no disease", "non", "nodr", "no dr", "r0", "m0",
}  # fmt: skip
"""Names of the class without the disease, where there are two."""
AFFIRMED = {"yes": "no", "y": "n", "true": "false", "positive": "negative", "pos": "neg"}
AFFIRMED |= {"rdr": "nrdr", "rg": "nrg"}  # referable retinopathy, referable glaucoma
DENIALS = ("no", "non", "not", "without")
ODD = re.compile(r"[+-]?[0-9.]+(e[+-]?[0-9]+)?|nan|null|n/a|inf|", re.IGNORECASE)
"""What is no class's name among names."""
DECIMAL = re.compile(r"[+-]?[0-9]*[.,]?[0-9]+")
NUMBER = re.compile(r"[0-9]{1,3}")
COUNTED = re.compile(r"(?:grade|level|stage|dr|icdr) ?([0-9]{1,3})")
"""Names that count grades: Grade 2, DR2."""


def name_key(name: str) -> str:
    """A name without case, punctuation and double spaces, by which names are compared.

    A number is itself: -1 is not 1, and 1.5 not 15.
    """
    folded = unicodedata.normalize("NFKC", name).casefold().strip()
    if DECIMAL.fullmatch(folded):
        return folded
    return " ".join(re.sub(r"[^\w+]|_", " ", folded).split())


def natural_sort_key(name: str) -> list:
    """A key that sorts 2 before 10."""
    parts = re.split(r"([0-9]+)", name)
    return [*[int(p) if i % 2 else p.casefold() for i, p in enumerate(parts)], name]


class Vocabulary(NamedTuple):
    """Names that go together, in the order of their meaning."""

    meaning: str
    """Vocabularies of the same meaning share the positions of their names."""
    classes: tuple[str, ...]
    spellings: dict[str, int]
    """Key of a name -> its position."""


class ArrangedClasses(NamedTuple):
    """The classes that some names come to."""

    classes: tuple[str, ...]
    ordered: bool
    """Whether their order is known; of two, whether it is known that the second is the positive."""
    places: dict[str, int]
    """Each name -> its position in the classes."""
    doubtful: tuple[str, ...] = ()
    """Numbers beyond a known scale, which may be a class or a code for ungradable."""


def _retinopathy() -> dict[str, int]:
    """Spellings of the grades that name retinopathy, as public sets have them."""
    diseases = ("dr", "retinopathy", "diabetic retinopathy")
    kinds = ("npdr", "nonproliferative", "non proliferative")
    kinds += tuple(f"{kind} {of}" for kind in kinds[1:] for of in diseases)
    found = {f"{no} {of}": 0 for no in ("no", "no apparent", "without", "non") for of in diseases}
    found |= {name: 0 for name in ("nodr", "anodr", "no npdr")}
    for grade, word in enumerate(("mild", "moderate", "severe"), 1):
        for kind in (*kinds, *diseases):
            found |= {f"{word} {kind}": grade, f"{kind} {word}": grade}
        found |= {f"{word}{kind}": grade for kind in ("dr", "npdr")}
        found["abcd"[grade] + word + "dr"] = grade
    for word in ("proliferative", "proliferate"):
        found |= {word: 4, f"{word}dr": 4} | {f"{word} {of}": 4 for of in diseases}
    return found | {"pdr": 4, "eproliferativedr": 4}


def _glaucoma() -> dict[str, int]:
    """Spellings of glaucoma, of a suspicion of it, and of eyes that have neither."""
    found = dict.fromkeys(NEGATIVE, 0) | {
        f"{no}{s}glaucoma": 0 for no in DENIALS for s in ("", " ")
    }
    words = ("suspect", "suspected", "suspicious")
    found |= dict.fromkeys([*words, *(f"{word} glaucoma" for word in words)], 1)
    return found | {"glaucoma suspect": 1, "glaucoma": 2, "glaucomatous": 2}


def _vocabulary(meaning: str, *names: str) -> Vocabulary:
    """One of `name=other spelling=...`, in order."""
    each = [name.split("=") for name in names]
    spellings = {name_key(word): place for place, words in enumerate(each) for word in words}
    return Vocabulary(meaning, tuple(words[0] for words in each), spellings)


_WORDS = {word: 0 for word in ("none", "no", "normal", "healthy", "absent", "negative")}
_WORDS |= {word: place for place, word in enumerate(SEVERITY)}
VOCABULARIES = (
    Vocabulary("retinopathy", GRADES, _WORDS | _retinopathy()),
    _vocabulary(
        "edema", "none=no=no dme=no edema=no apparent dme", "possible", f"{EDEMA[2]}=csme=csdme"
    ),
    _vocabulary(
        "stages of retinopathy",
        "no DR=nodr=no retinopathy=no diabetic retinopathy=normal=healthy=none",
        "NPDR=nonproliferative=non proliferative=nonproliferative dr=non proliferative dr",
        "PDR=proliferative=proliferative dr",
    ),
    # R3S is stable after treatment, R3A active (NHS Diabetic Eye Screening Programme).
    _vocabulary("screening", "R0", "R1", "R2", "R3S", "R3A"),
    _vocabulary("screening of grades", "R0", "R1", "R2", "R3", "R4"),
    _vocabulary("maculopathy", "M0", "M1", "M2"),
    _vocabulary(
        "glaucoma",
        "normal=normal control=anormal control=control=healthy=no glaucoma=non glaucoma",
        "early glaucoma=bearly glaucoma=early",
        "advanced glaucoma=cadvanced glaucoma=advanced",
    ),
    Vocabulary("suspicion of glaucoma", ("healthy", "suspect", "glaucoma"), _glaucoma()),
)
"""The first that has all names of a set is meant."""
OF_THE_EYE = _retinopathy()
"""Spellings after which a set is one of retinopathy: it then has all five grades."""


def number_of(name: str) -> int | None:
    """The number a name is or counts (2, Grade 2, DR2); None of any other."""
    spelled = name_key(name)
    match = NUMBER.fullmatch(spelled) or COUNTED.fullmatch(spelled)
    return int(match[match.lastindex or 0]) if match else None


def arrange_classes(names: Iterable[str], scale: tuple[str, ...] = GRADES) -> ArrangedClasses:
    """The classes of a set whose labels have these names, in the order of their meaning.

    Grades of retinopathy, as words or as numbers of the scale, are all five, also those that no
    photograph has. Classes whose order is not known are in natural order.

    Args:
        names: different ones; of no class that is set aside.
        scale: what the numbers from 0 on stand for, where the names are numbers.
    """
    names = sorted(set(names), key=natural_sort_key)
    numbers = [number_of(name) for name in names]
    counted = [number for number in numbers if number is not None]
    if names and len(counted) == len(names):
        return _numbered(names, counted, scale)
    for vocabulary in VOCABULARIES:
        places = _spoken(names, vocabulary)
        if places is not None:
            return _by(vocabulary, names, places)
    pair = _pair(names)
    if pair:
        return ArrangedClasses(pair, True, {name: place for place, name in enumerate(pair)})
    return ArrangedClasses(tuple(names), False, {name: place for place, name in enumerate(names)})


def _numbered(names: list[str], numbers: list[int], scale: tuple[str, ...]) -> ArrangedClasses:
    held = set(numbers)
    most = len(scale) - 1
    inside, beyond = {n for n in held if n <= most}, {n for n in held if n > most}
    scaled = bool(inside) and (max(inside) == most or (0 in inside and max(inside) >= 2))
    # Next to no and yes a third number is more often a class than a code.
    if scaled and len(beyond) <= (len(scale) > 2):
        places = {name: n for name, n in zip(names, numbers, strict=True) if n <= most}
        odd = tuple(n for n in names if n not in places)
        return ArrangedClasses(scale, True, places, odd)
    # "Grade 7" says that it is one of an order, 7 alone may be any code; 0 and 1 are no and yes.
    counted = not any(NUMBER.fullmatch(name_key(name)) for name in names)
    ordered = counted or held == {0, 1}
    return ArrangedClasses(tuple(names), ordered, {name: place for place, name in enumerate(names)})


def _spoken(names: Sequence[str], vocabulary: Vocabulary) -> list[int] | None:
    """Positions of the names in a vocabulary that has all of them, two at least."""
    found = [_place(name, vocabulary) for name in names]
    places = [place for place in found if place is not None]
    return places if len(places) == len(names) and len(set(places)) > 1 else None


def _place(name: str, vocabulary: Vocabulary) -> int | None:
    """Where a vocabulary has a name, also one with its number or letter before it: 1_Mild."""
    spelled = name_key(name)
    if spelled in vocabulary.spellings:
        return vocabulary.spellings[spelled]
    number, _, rest = spelled.partition(" ")
    place = vocabulary.spellings.get(rest)
    if place is None or not re.fullmatch(r"[0-9]|[a-f]", number):
        return None
    counted = int(number) if number.isdigit() else ord(number) - ord("a")
    return place if counted - place in (0, 1) else None


def _by(vocabulary: Vocabulary, names: list[str], places: list[int]) -> ArrangedClasses:
    """The classes in a vocabulary's words where it is retinopathy's, else in the set's own."""
    if vocabulary.meaning in ("retinopathy", "edema") and (
        vocabulary.classes == EDEMA or any(_of_the_eye(name) for name in names)
    ):
        return ArrangedClasses(vocabulary.classes, True, dict(zip(names, places, strict=True)))
    if set(names) <= set(vocabulary.classes) or len(set(places)) == len(places):
        pairs = sorted(zip(places, names, strict=True))
        classes = tuple(name for _, name in pairs)
        return ArrangedClasses(classes, True, {name: place for place, name in enumerate(classes)})
    held = sorted(set(places))
    classes = tuple(vocabulary.classes[place] for place in held)
    found = {name: held.index(place) for name, place in zip(names, places, strict=True)}
    return ArrangedClasses(classes, True, found)


def _of_the_eye(name: str) -> bool:
    spelled = name_key(name)
    return spelled in OF_THE_EYE or spelled.partition(" ")[2] in OF_THE_EYE


def _pair(names: Sequence[str]) -> tuple[str, str] | None:
    """(negative, positive) of two names one of which denies the other, or is healthy."""
    if len(names) != 2:
        return None
    for negative, positive in (names, names[::-1]):
        without, having = name_key(negative), name_key(positive)
        denied = any(without in (f"{no} {having}", f"{no}{having}") for no in DENIALS)
        if denied or AFFIRMED.get(having) == without or having == f"ab{without}":
            return negative, positive
        healthy = without in NEGATIVE or without.split(" ")[0] in DENIALS
        if healthy and having not in NEGATIVE and having.split(" ")[0] not in DENIALS:
            return negative, positive
    return None


def is_ordered(classes: Sequence[str], scale: tuple[str, ...] = GRADES) -> bool:
    """Whether the names of some classes say that they stand in the order of their meaning.

    Args:
        scale: what numbers from 0 on stand for, where the names are numbers.
    """
    found = arrange_classes(classes, scale)
    places = [found.places.get(name, -1) for name in classes]
    return found.ordered and not found.doubtful and places == sorted(set(places))


def order_unknown(classes: Sequence[str]) -> str:
    """What is not known of classes without an order, and what follows, in a sentence."""
    if len(classes) == 2:
        return (
            f"Which of {classes[0]} and {classes[1]} is the positive class is not known, so "
            "sensitivity and specificity are not given; data.classes=<negative>,<positive> says it"
        )
    return (
        f"The order of the classes {', '.join(classes)} is not known, so quadratic kappa, the AUC "
        "of referable eyes, sensitivity and specificity are not given: they need one. "
        "data.classes=<all of them, the worst last> says it"
    )


def class_positions(names: Sequence[str], classes: Sequence[str]) -> list[int | None]:
    """Where each of some set's class names is among other classes, by name or by meaning.

    Args:
        names: all classes of one set: what one means depends on the others.
    """
    if tuple(names) == tuple(classes):
        return list(range(len(names)))
    theirs, ours = _meanings(classes), _meanings(names)
    keys = {name_key(name): place for place, name in enumerate(classes) if number_of(name) is None}
    known = {meaning: place for place, meaning in enumerate(theirs) if meaning}
    return [
        keys.get(name_key(name), known.get(meaning) if meaning else None)
        for name, meaning in zip(names, ours, strict=True)
    ]


def _meanings(classes: Sequence[str]) -> list[tuple[str, int] | None]:
    """What each class means among the others; None where that is not known."""
    numbers = [number_of(name) for name in classes]
    if None not in numbers:
        # 0 and 1 alone may be no and yes of anything.
        scaled = arrange_classes(classes).classes == GRADES
        return [("retinopathy", n) if scaled and n is not None else None for n in numbers]
    for vocabulary in VOCABULARIES:
        places = _spoken(classes, vocabulary)
        if places is not None:
            return [(vocabulary.meaning, place) for place in places]
    pair = _pair(classes)
    if pair:
        return [(f"pair of {name_key(pair[1])}", pair.index(name)) for name in classes]
    return [None] * len(classes)


def place_in(name: str, classes: Sequence[str]) -> int | None:
    """Where a label is among classes that were given by hand: by its name, its meaning as a grade
    of retinopathy, or its number, which counts the classes from 0."""
    for place, one in enumerate(classes):
        if name_key(one) == name_key(name):
            return place
    number = number_of(name)
    if number is not None:
        counted = not any(number_of(one) is not None for one in classes)
        return number if counted and number < len(classes) else None
    for vocabulary in VOCABULARIES:
        places = _spoken(classes, vocabulary)
        meant = _place(name, vocabulary)
        if places is not None and meant in places:
            return places.index(meant)
    return None


def by_hand(name: str, mapping: Mapping[str, str]) -> str:
    """The name that data.map gives a label, its own where it gives none."""
    wanted = name_key(name)
    return next((new.strip() for old, new in mapping.items() if name_key(old) == wanted), name)


def is_ungradable(name: str, codes: Iterable[str]) -> bool:
    """Whether a label says by its name, or is said (data.ungradable), to be no grade."""
    spelled = name_key(name)
    return spelled in UNGRADABLE or spelled in {name_key(code) for code in codes}


def no_label(cell: str) -> bool:
    """Whether a cell of a column of labels holds none."""
    text = cell.strip()
    # Dashes and question marks are no words that anything writes for nothing.
    return not text or name_key(text) in NO_LABEL or re.fullmatch(r"-1(\.0*)?", text) is not None

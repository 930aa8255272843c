"""What is learned from: photographs, and how they are shown."""

import re
from dataclasses import dataclass, field
from typing import Any

from fundusray.errors import InputError
from fundusray.registry import unknown_name
from fundusray.settings.choices import registry, require_choice
from fundusray.settings.deciding import SILENT, deciding_where
from fundusray.settings.need import require

LONGEST = 300
"""Characters of a pattern for names."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """Which photographs, prepared how, split how."""

    source: str = "synthetic"
    """A registered source (synthetic, eyepacs, folder, csv, ...), or several with commas."""
    root: str = field(default="", metadata=SILENT)
    """Folder or URI of the photographs, one per source; empty for synthetic."""
    target: str = "grade"
    """The label that is learned: grade, edema, sex, whatever the source has; or what every pixel
    is: lesions, vessels (data/labels/mask_targets.py)."""
    classes: tuple[str, ...] = ()
    """The classes of the label in their order, e.g. No DR,Mild,Moderate,Severe,Proliferative, of
    two the positive one last; empty: as their names say."""
    map: dict[str, str] = field(default_factory=dict)
    """Which class a label of the data is, e.g. data.map.R1=mild."""
    ungradable: tuple[str, ...] = ()
    """Labels that stand for "could not be graded", e.g. 5; names such as ungradable are known."""
    judge: str = field(default="graded", metadata=SILENT)
    """Which photographs a trained network is asked about: graded; ungradable, whose answers
    jobs/evaluate.py lists without a figure, as there is no label to hold them against; or any, with
    a label or without, which jobs/explain.py looks at."""
    permute_labels: bool = False
    """Whether the training side learns permuted labels: each patient bears those of another, so
    that there is nothing to learn. Validation and test keep their own. What such a network reaches,
    and what a map of it shows, is the null of a real one; recipe.seed decides the permutation."""
    keywords: str = ""
    """Keep only eyes whose diagnostic keywords hold this text, e.g. "normal fundus"."""
    table: str = ""
    """Of source csv: the table, seen from the root, or several with commas; train:a.csv,test:b.csv
    tells their sides."""
    columns: dict[str, str] = field(default_factory=dict)
    """Of source csv: what its columns are called, e.g. {"image": "file", "grade": "dx"}, or their
    numbers from 0 on where it has no header."""
    images: str = ""
    """Of source csv: the folder of the photographs, seen from the root; several with commas."""
    patient_pattern: str = ""
    """A regular expression with a group `patient`, perhaps also `eye`, that reads both from file
    names, e.g. "(?P<patient>[^_]+)_(?P<eye>OS|OD)"; names that do not match count on their own."""
    id_key: str = field(default="", metadata=SILENT)
    """A file with a secret: ids of photographs and patients are replaced by hashes keyed by it."""
    num_images: int = 400
    """How many photographs the synthetic source draws; other sources ignore it."""
    size: int = 256
    """Side of a prepared image, pixels."""
    preprocess: str = "graham"
    """A registered preprocessing: graham, diameter, contour, resize, center_crop."""
    preprocess_args: dict[str, Any] = field(default_factory=dict)
    """Its keywords, e.g. {"clip": 0.9}."""
    masks: tuple[str, ...] = ()
    """Kinds of masks that are kept beside the images, e.g. microaneurysms,hard_exudates; all; or
    any, which is all where there are some; empty: none."""
    encoding: str = "jpeg"
    """How prepared images are kept: jpeg (quality 95; small) or raw (uint8; fast, about 9 times as
    large)."""
    split: str = "patient"
    """patient: patients and near-duplicates stay on one side; image: eyes of a patient may
    straddle, as in the papers; given: the publisher's own."""
    split_file: str = field(default="", metadata=SILENT)
    """A CSV (image_id,split) that says where each image goes; wins over data.split. What it says
    decides."""
    split_seed: int = field(
        default=-1, metadata=deciding_where(lambda recipe: recipe.split_seed != recipe.seed)
    )
    """Seed of the split; -1: the recipe's seed. It is that of drawn photographs, too."""
    allow_leak: bool = field(default=False, metadata=SILENT)
    """Go on although a patient or near-duplicate is on two sides; every table then says so."""
    fractions: tuple[float, ...] = (0.7, 0.1, 0.2)
    """Shares of train, val, test; a test share of 0 reports on val, and says so."""
    augment: str = "wu"
    """What is done to training images: a preset (wu, yu, ngc, kon, none) or a composition of
    operations, e.g. "random_crop(224) + hflip(0.5)"."""
    view: str = ""
    """What is done to images that are judged, e.g. "resize(224)"; empty: as the preset has it."""
    mix: str = field(default="", metadata=SILENT)
    """A prepared set of corrupted or attacked copies of the same images, to train on both; or
    several with commas. What is in them decides."""
    mix_share: float = field(
        default=0.5, metadata=deciding_where(lambda recipe: bool(recipe.data.mix))
    )
    """Share of showings that are of copies; of several sets each has the same part of it."""
    corrupt: str = ""
    """Damage that training photographs are shown with, before data.preprocess evens their light,
    e.g. "wu(level=1-4)" or "motion_blur(level=2)"; empty: none. What becomes of a photograph is a
    function of (seed, row, which time it is shown in an epoch), as in a stored set of copies."""
    corrupt_share: float = field(
        default=1.0, metadata=deciding_where(lambda recipe: bool(recipe.data.corrupt))
    )
    """Share of showings that are damaged; the rest is clean."""
    corrupt_fresh: bool = field(
        default=False, metadata=deciding_where(lambda recipe: bool(recipe.data.corrupt))
    )
    """Whether every epoch damages anew."""
    judge_corrupt: str = ""
    """Damage under which the validation photographs are looked at after every epoch, too, e.g.
    "wu(level=1-4)"; a photograph's is the same in every epoch, whatever the seed. Empty: none."""
    max_bad: float = field(default=0.01, metadata=SILENT)
    """Share of unusable rows and images above which the job stops."""
    pipeline: str = "dali"
    """dali; plain (torch and numpy, the slow reference); memory (raw sets, held in memory)."""

    @property
    def mixed(self) -> tuple[str, ...]:
        """The folders that `mix` names, in their order."""
        return tuple(part.strip() for part in self.mix.split(",")) if self.mix else ()

    def __post_init__(self) -> None:
        require(self.size >= 16, "data.size", "needs at least 16 pixels", self.size)
        require(self.num_images >= 20, "data.num_images", "needs at least 20", self.num_images)
        need = "-1 (the recipe's seed) or a whole number below 2^63"
        require(-1 <= self.split_seed < 2**63, "data.split_seed", need, self.split_seed)
        require_choice("data.pipeline", self.pipeline)
        for key, choices in {
            "judge": ("graded", "ungradable", "any"),
            "split": ("patient", "image", "given"),
            "encoding": ("jpeg", "raw"),
        }.items():
            if getattr(self, key) not in choices:
                raise unknown_name(f"data.{key}", getattr(self, key), choices)
        good = len(set(self.masks)) == len(self.masks)
        good = good and (len(self.masks) == 1 or not {"all", "any"} & set(self.masks))
        require(good, "data.masks", "different kinds of masks, or all or any alone", self.masks)
        names = {name.strip().casefold() for name in self.classes}
        good = len(names) == len(self.classes) != 1 and all(map(str.isprintable, names))
        require(good, "data.classes", "two or more different, printable names", self.classes)
        read = registry("data.pipeline").facts(self.pipeline).encodings
        need = f"data.encoding={' or '.join(read)}"
        require(self.encoding in read, f"data.pipeline={self.pipeline}", need, self.encoding)
        good = len(self.fractions) == 3 and min(self.fractions) >= 0 and self.fractions[0] > 0
        good = good and abs(sum(self.fractions) - 1) < 1e-6 and self.fractions[1] > 0
        need = "three shares (train, val, test) that sum to 1, train and val above 0"
        require(good, "data.fractions", need, self.fractions)
        if self.patient_pattern:
            _check_pattern(self.patient_pattern)
        good = all(self.mixed) and len(set(self.mixed)) == len(self.mixed)
        require(good, "data.mix", "different folders with commas between them", self.mix)
        require(0 <= self.mix_share <= 1, "data.mix_share", "a share in [0, 1]", self.mix_share)
        share = self.corrupt_share
        require(0 < share <= 1, "data.corrupt_share", "a share in (0, 1]", share)
        both = bool(self.corrupt and self.mix)
        need = "not together: data.mix brings damaged copies, data.corrupt damages on the way"
        require(not both, "data.corrupt/mix", need, (self.corrupt, self.mix))
        apart = not (self.permute_labels and self.mix)
        need = "not together: the copies of data.mix bear their own labels"
        require(apart, "data.permute_labels/mix", need, (self.permute_labels, self.mix))
        require(0 <= self.max_bad <= 1, "data.max_bad", "a share in [0, 1]", self.max_bad)


def _check_pattern(pattern: str) -> None:
    """Refuses what reads no patient from a name."""
    key = "data.patient_pattern"
    need = f"at most {LONGEST} characters"
    require(len(pattern) <= LONGEST, key, need, f"{len(pattern):,} characters")
    try:
        groups = re.compile(pattern).groupindex
    except (re.error, OverflowError, RecursionError) as error:
        raise InputError(f"{key}={pattern}: no regular expression: {error}") from error
    need = "needs a group (?P<patient>...), perhaps also (?P<eye>...), and no other named one"
    require("patient" in groups and set(groups) <= {"patient", "eye"}, key, need, pattern)

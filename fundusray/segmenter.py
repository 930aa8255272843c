"""Segmentation in four words, without files of settings and without a cluster.

    segmenter = Segmenter(classes=("background", "exudates"), size=256, epochs=50)
    segmenter.fit(photographs, class_maps)
    segmenter.predict(photograph)                 # the class of every pixel, uint8 [H, W]
    segmenter.evaluate(others, their_class_maps)  # {"dice": ..., "dice_exudates": ..., ...}
    segmenter.save("bundle")                      # Segmenter.load("bundle"), or jobs/segment.py

Photographs are uint8 [H, W, 3] in RGB, or paths; class maps are [H, W] of class numbers, or paths
of PNGs with one byte a pixel. It is the package's own trainer with the recipe that
`Segmenter.recipe` shows; what it saves is a bundle as any other.
"""

import copy
import os
import tempfile
from collections.abc import Sequence

import numpy as np
import torch

from fundusray import files
from fundusray.conditions import Clean
from fundusray.config import Data, Model, Recipe, Train, override, to_json
from fundusray.config import Segmentation as SegmentationSettings
from fundusray.data.labels.mask_targets import BACKGROUND
from fundusray.data.photographs.decode import BadImage, DecodedPhotograph
from fundusray.data.prepared.class_map_files import read_class_map
from fundusray.data.prepared.geometry import photograph_mask, prepared_mask
from fundusray.data.prepared.memory_set import HeldImage, memory_set
from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.errors import InputError
from fundusray.models.bundle import Bundle, load_bundle, save_bundle
from fundusray.models.segmenters import check_network, encoder_name
from fundusray.models.tiles import TilePlan, tiled_bands
from fundusray.pipeline.augment.augmentation import view_text
from fundusray.runs.check_segmentation import check_segmentation
from fundusray.tasks import is_segmentation, task_of
from fundusray.training.evaluator import Evaluator
from fundusray.training.examples import PreparedExamples
from fundusray.training.job import Job
from fundusray.training.ranks import Ranks
from fundusray.training.segmented_photograph import (
    decoded_photograph,
    fundus_columns,
    geometry_in_photograph,
    prepared_at,
)
from fundusray.training.trainer import Trainer

Photograph = np.ndarray | str | os.PathLike
"""uint8 [H, W, 3] in RGB, or the path of a file in any format that is read."""
ClassMap = np.ndarray | str | os.PathLike
"""[H, W] of class numbers, or the path of a PNG with one byte a pixel."""

HELD_OUT = 0.2
"""Share of the photographs that choose the epoch; of fewer than five all that are learned do."""
SHOWINGS = 16
"""Photographs of an epoch at least: of fewer each is shown several times, augmented anew."""
BATCH = 4
RATE, GENTLE_RATE = 3e-3, 1e-3
"""Of a network that starts at random, and of one whose encoder has learned already."""
AUGMENT = "hflip(0.5) + vflip(0.5)"
PLAIN = {"data.pipeline": "plain"}
"""What is in memory already needs no pipeline that starts threads."""


class Segmenter:
    """A network of pixels: fit, predict, evaluate, save and load.

    Args:
        classes: names, the background first; a class map holds positions in it.
        network: unet, which starts at random, or unet/<classifier>, e.g. unet/efficientnet_lite0,
            whose encoder starts from ImageNet.
        size: side of the square that a photograph is prepared to, pixels.
        epochs: passes over the photographs.
        loss: of pixels, see `losses.pixel_losses`.
        seed: decides the start, the order and what is augmented.

    Raises:
        InputError: classes without the background first, or what no network or loss can be.
    """

    def __init__(
        self,
        classes: Sequence[str] = (BACKGROUND, "lesion"),
        network: str = "unet",
        size: int = 256,
        epochs: int = 50,
        loss: str = "cross_entropy + dice",
        seed: int = 0,
    ) -> None:
        self.classes = _checked_classes(classes)
        encoder = encoder_name(network)
        self.recipe = Recipe(
            name="segmenter",
            seed=seed,
            data=Data(
                source="folder", target="lesions", classes=self.classes, size=size,
                preprocess="resize", encoding="raw", augment=AUGMENT,
            ),
            model=Model(name=network, weights="imagenet" if encoder else ""),
            segmentation=SegmentationSettings(loss=loss),
            train=Train(
                epochs=epochs, batch=BATCH, lr=GENTLE_RATE if encoder else RATE, optimizer="adam",
                precision="fp32", layout="contiguous", select="dice", report="selected",
            ),
        )  # fmt: skip
        check_network(self.recipe.model, size)
        check_segmentation(self.recipe)
        self.bundle: Bundle | None = None
        """The trained network; None before `fit`."""

    def fit(self, images: Sequence[Photograph], masks: Sequence[ClassMap]) -> "Segmenter":
        """Learns photographs and their class maps, from the beginning; itself.

        A fifth of them, the last ones, choose the best epoch and are not learned from; of fewer
        than five photographs the learned ones choose it, and only new ones tell how good it is.

        Raises:
            InputError: none, not as many of both, or one that cannot be read; names it.
            DivergedError: the loss is no number.
        """
        recipe = override(self.recipe, PLAIN)
        prepared = self._prepared(images, masks)
        held = int(HELD_OUT * len(prepared))
        rows = np.arange(len(prepared))
        learned, chosen = (rows[:-held], rows[-held:]) if held else (rows, rows)
        learned = np.resize(learned, max(SHOWINGS, len(learned)))
        sides = {"train": learned, "val": chosen, "test": rows[:0]}
        task = task_of(recipe, self.classes, False)
        with tempfile.TemporaryDirectory(prefix="fundusray-") as folder:
            run = files.join(folder, "segmenter")
            key = files.hash_json([to_json(recipe), prepared.info["manifest"]], 16)
            job = Job(to_json(recipe), "memory", run, key, folder, torch.get_num_threads(), key)
            Trainer(job, PreparedExamples(prepared, recipe, sides, Ranks()), task).run()
            self.bundle = load_bundle(files.join(run, "bundle"))
        return self

    def predict(self, image: Photograph) -> np.ndarray:
        """The class of every pixel of a photograph, uint8 [H, W]; outside its fundus 0.

        Raises:
            InputError: it cannot be read or shows no fundus, or nothing was learned yet.
        """
        return self.predict_probabilities(image).argmax(axis=0).astype(np.uint8)

    def predict_probabilities(self, image: Photograph) -> np.ndarray:
        """The probability of each class at every pixel, float32 [C, H, W]: that of the prepared
        pixel which its centre falls on; outside the fundus the background's is 1.

        Raises:
            InputError: as `predict`.
        """
        bundle, data = self._trained(), self.recipe.data
        try:
            decoded = _decoded(image, data, "image")
            prepared = prepared_at(data, decoded, "network")
            begin, end = fundus_columns(decoded)
        except BadImage as error:
            raise InputError(f"image: {error}") from error
        own = self.recipe.segmentation
        plan = TilePlan(own.tile or data.size, own.overlap)
        bands = [band for _, band in tiled_bands(bundle.model, prepared.pixels, plan)]
        geometry = geometry_in_photograph(decoded, prepared)
        square = np.concatenate(bands, axis=1)
        found = np.stack([photograph_mask(geometry, each) for each in square])
        columns = np.arange(decoded.width)
        outside = (columns < begin[:, None]) | (columns >= end[:, None])
        outside |= found.sum(axis=0) == 0
        found[:, outside] = 0
        found[0, outside] = 1
        return found

    def evaluate(
        self, images: Sequence[Photograph], masks: Sequence[ClassMap]
    ) -> dict[str, float | None]:
        """The figures of photographs with known class maps: loss, pixel_accuracy, dice, miou,
        dice_<class> and what else `metrics.segmentation` has, pooled over all of them, in prepared
        pixels; None where they do not define one.

        Raises:
            InputError: as `fit`, or nothing was learned yet.
        """
        bundle = self._trained()
        prepared = self._prepared(images, masks)
        task = task_of(self.recipe, self.classes, False)
        # An evaluator lays a network's weights out anew, which moves the last bits of its answers.
        model = copy.deepcopy(bundle.model)
        plain = Bundle(model, override(self.recipe, PLAIN), self.classes, bundle.info)
        evaluator = Evaluator(plain, task, prepared, torch.get_num_threads(), False)
        _, columns = evaluator.predictions(np.arange(len(prepared)), Clean())
        return task.figures(columns)

    def save(self, folder: str | os.PathLike) -> None:
        """Writes the network as a bundle, whole.

        Raises:
            InputError: nothing was learned yet.
        """
        bundle = self._trained()
        state = bundle.model.state_dict()
        save_bundle(os.fspath(folder), state, self.recipe, self.classes, bundle.info)

    @classmethod
    def load(cls, folder: str | os.PathLike) -> "Segmenter":
        """The segmenter in a bundle, be it of `save` or of a training by jobs/train.py.

        Raises:
            InputError: no bundle, or of a network that gives one label of a photograph, or that
                sees prepared photographs cut or scaled (data.view).
            DamagedError: a file is not what was written.
        """
        bundle = load_bundle(os.fspath(folder))
        if not is_segmentation(bundle.recipe):
            raise InputError(
                f"{folder}: its network gives one label of a photograph "
                f"({bundle.recipe.data.target}), not the class of every pixel"
            )
        if (view := view_text(bundle.recipe.data)) != "none":
            raise InputError(
                f"{folder} is judged with data.view={view}, so what it sees is not where the "
                "photograph has it; give a network that sees whole prepared photographs"
            )
        made = cls(bundle.classes)
        made.recipe, made.bundle = bundle.recipe, bundle
        return made

    def _trained(self) -> Bundle:
        if self.bundle is None:
            raise InputError("nothing was learned yet; call fit(images, masks), or Segmenter.load")
        return self.bundle

    def _prepared(self, images: Sequence[Photograph], masks: Sequence[ClassMap]) -> PreparedSet:
        """The photographs with their class maps, prepared."""
        if len(images) != len(masks) or not len(images):
            raise InputError(
                f"{len(images):,} images and {len(masks):,} masks; give as many of both, and one "
                "at least"
            )
        pairs = enumerate(zip(images, masks, strict=True))
        held = [self._held(number, image, mask) for number, (image, mask) in pairs]
        return memory_set(self.recipe.data, held, self.classes)

    def _held(self, number: int, image: Photograph, mask: ClassMap) -> HeldImage:
        name, data = f"images[{number}]", self.recipe.data
        try:
            decoded = _decoded(image, data, name)
            prepared = prepared_at(data, decoded, "network")
        except BadImage as error:
            raise InputError(f"{name}: {error}") from error
        classes = _class_map(mask, self.classes, f"masks[{number}]")
        geometry = geometry_in_photograph(decoded, prepared)
        try:
            small = prepared_mask(geometry, classes)
        except ValueError as error:
            raise InputError(f"masks[{number}]: {error}, {name}") from error
        return HeldImage(f"{number:05d}", prepared, geometry, small)


def _checked_classes(classes: Sequence[str]) -> tuple[str, ...]:
    named = tuple(classes)
    if isinstance(classes, str) or len(named) < 2 or named[0] != BACKGROUND:
        raise InputError(
            f"classes={classes!r}: names of two classes or more, {BACKGROUND!r} first, e.g. "
            f'("{BACKGROUND}", "lesion")'
        )
    if len(set(named)) < len(named) or len(named) > 256:
        raise InputError(f"classes={classes!r}: different names, 256 at most")
    return named


def _decoded(image: Photograph, data: Data, name: str) -> DecodedPhotograph:
    """The photograph.

    Raises:
        BadImage: its file does not decode.
        InputError: it is no such array, or there is no such file.
    """
    if isinstance(image, (str, os.PathLike)):
        if not files.exists(os.fspath(image)):
            raise InputError(f"{name}: there is no file {os.fspath(image)}")
        return decoded_photograph(data, files.read_bytes(os.fspath(image)), "network")
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise InputError(
            f"{name}: {pixels.dtype} {pixels.shape}; give a path, or uint8 [H, W, 3] in RGB"
        )
    height, width = pixels.shape[:2]
    return DecodedPhotograph(np.ascontiguousarray(pixels), False, "", width, height)


def _class_map(mask: ClassMap, classes: tuple[str, ...], name: str) -> np.ndarray:
    """The class map, uint8 [H, W].

    Raises:
        InputError: no such array or file, or a number that is no class.
    """
    if isinstance(mask, (str, os.PathLike)):
        if not files.exists(os.fspath(mask)):
            raise InputError(f"{name}: there is no file {os.fspath(mask)}")
        mask = read_class_map(os.fspath(mask))
    numbers = np.asarray(mask)
    if numbers.ndim != 2 or numbers.dtype.kind not in "bui":
        raise InputError(
            f"{name}: {numbers.dtype} {numbers.shape}; give a path, or whole numbers [H, W], the "
            "class of each pixel"
        )
    if numbers.size and not 0 <= numbers.min() <= numbers.max() < len(classes):
        wrong = np.setdiff1d(numbers, np.arange(len(classes)))[:3].tolist()
        raise InputError(
            f"{name}: {', '.join(map(str, wrong))} stands for no class; 0 to {len(classes) - 1} "
            f"are {', '.join(classes)}"
        )
    return numbers.astype(np.uint8)

"""Tasks: what is learned of a photograph, and how it is judged."""

from fundusray.config import Recipe
from fundusray.data.labels.mask_targets import is_mask_target
from fundusray.tasks.classification import Classification
from fundusray.tasks.grades_and_masks import GradesAndMasks
from fundusray.tasks.segmentation import Segmentation, class_map
from fundusray.tasks.task import TASKS, Columns, SampleLosses, Task

__all__ = [
    "TASKS",
    "Classification",
    "Columns",
    "GradesAndMasks",
    "SampleLosses",
    "Segmentation",
    "Task",
    "class_map",
    "is_segmentation",
    "task_of",
]


def is_segmentation(recipe: Recipe) -> bool:
    """Whether a recipe learns what every pixel is."""
    return is_mask_target(recipe.data.target)


def task_of(recipe: Recipe, classes: tuple[str, ...], ordered: bool) -> Task:
    """The task of a recipe on a set with these classes, by what `data.target` is: a label of the
    photograph, or what every pixel of it is."""
    name = "segmentation" if is_segmentation(recipe) else "classification"
    return TASKS.find(name)(recipe, classes, ordered)

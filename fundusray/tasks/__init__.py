"""Tasks: what is learned of a photograph, and how it is judged."""

from fundusray.config import Recipe
from fundusray.tasks.classification import Classification
from fundusray.tasks.grades_and_masks import GradesAndMasks
from fundusray.tasks.task import TASKS, Columns, SampleLosses, Task

__all__ = [
    "TASKS",
    "Classification",
    "Columns",
    "GradesAndMasks",
    "SampleLosses",
    "Task",
    "task_of",
]


def task_of(recipe: Recipe, classes: tuple[str, ...], ordered: bool) -> Task:
    """The task of a recipe on a set with these classes, by what `data.target` is: a label."""
    return TASKS.find("classification")(recipe, classes, ordered)

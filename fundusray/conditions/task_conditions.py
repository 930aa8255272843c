"""Which conditions a network can be asked under, by whether it answers of images or of pixels."""

from fundusray.conditions.condition import Condition
from fundusray.conditions.enhancement import Enhancement
from fundusray.conditions.segmentation_attack import require_attack_of_task
from fundusray.conditions.worst_case import WorstCase
from fundusray.errors import InputError


def require_condition_of_task(condition: Condition, segmentation: bool) -> None:
    """Refuses conditions that the other kind of network is asked under.

    Raises:
        InputError: an attack as `require_attack_of_task` says, the worst damage of a segmentation,
            or layered and selective examples where there is none.
    """
    require_attack_of_task(condition, segmentation)
    if segmentation and isinstance(condition, WorstCase):
        raise InputError(
            f"{condition}: the worst of several damages is looked for by the class of a whole "
            f"image, this network gives a class to each pixel; give the damage itself, "
            f"{condition.corruption}"
        )
    if not segmentation and isinstance(condition, Enhancement):
        raise InputError(
            f"{condition}: is made along the classes of pixels, this network gives one class to a "
            "whole image; give a network of data.target=lesions or vessels, or another condition"
        )

"""Photographs under an attack: its name, its budget, its draws."""

from dataclasses import dataclass

from torch import Tensor

from fundusray.attacks import Budget, Success, pgd_until_fooled, random_offset
from fundusray.attacks.budget import LEVELS, MOVES, NORMS, parse_eps
from fundusray.conditions.condition import CONDITIONS, Arguments, Predict

STEPS = 20
"""Of pgd where none are given."""
DIGITS = 17
"""That tell one float from the next."""


@dataclass(frozen=True)
class AttackCondition:
    """Each image is attacked until the network is wrong of it, or the steps are used up."""

    name: str
    """pgd or fgsm."""
    budget: Budget
    seed: int = 0
    """Of random starts; an image's is a function of (seed, row)."""

    @property
    def passes(self) -> int:
        """A gradient costs about three forward passes; two more see whether it succeeded."""
        return 2 + 3 * self.budget.steps

    def changed(
        self, predict: Predict, image: Tensor, target: Tensor, row: Tensor, success: Success
    ) -> Tensor:
        """The attacked images, measured to be within the budget and in [0, 1]; those of which the
        network is wrong from the beginning stay as they are (`attacks.pgd_until_fooled`)."""
        budget = self.budget
        offset = random_offset(image, row, self.seed, budget) if budget.random_start else None
        return pgd_until_fooled(predict, image, target, budget, success, offset)

    def __str__(self) -> str:
        budget = self.budget
        said = {"eps": length_text(budget.eps, budget.norm)}
        if budget.norm != "linf":
            said["norm"] = budget.norm
        if self.name == "pgd":
            said["steps"] = str(budget.steps)
            if budget.step != MOVES * budget.eps / budget.steps:
                said["step"] = length_text(budget.step, budget.norm)
            if not budget.random_start:
                said["start"] = "image"
            if self.seed:
                said["seed"] = str(self.seed)
        return f"{self.name}({', '.join(f'{key}={value}' for key, value in said.items())})"


@CONDITIONS.register("pgd")
def pgd(given: Arguments) -> AttackCondition:
    """`pgd(eps=2/255, norm=linf, steps=20, step=<2.5 eps / steps>, start=random, seed=0)`

    Projected gradient descent (Madry et al. 2018, section 2.1) on the cross entropy.
    """
    norm = given.choice("norm", NORMS, "linf")
    eps, steps = given.length("eps", norm), given.whole("steps", STEPS)
    # A step may be longer than any change that is allowed.
    step = given.length("step", "l2", MOVES * eps / steps)
    random_start = given.choice("start", ("random", "image"), "random") == "random"
    budget = Budget(norm, eps, step, steps, random_start)
    return AttackCondition("pgd", budget, given.whole("seed", 0, least=0))


@CONDITIONS.register("fgsm")
def fgsm(given: Arguments) -> AttackCondition:
    """`fgsm(eps=2/255, norm=linf)`: one step of eps from the image (Goodfellow et al. 2015)."""
    norm = given.choice("norm", NORMS, "linf")
    eps = given.length("eps", norm)
    return AttackCondition("fgsm", Budget(norm, eps, eps, 1, random_start=False))


def length_text(length: float, norm: str) -> str:
    """The shortest text that gives a length again: 2/255 for linf, 0.5unit01 for l2."""
    scale, unit = (LEVELS, f"/{LEVELS}") if norm == "linf" else (1, "unit01")
    texts = [f"{length * scale:.{digits}g}{unit}" for digits in range(1, DIGITS + 1)]
    texts = [text for text in texts if "e" not in text]
    exact = (text for text in texts if parse_eps(text, "l2") == length)
    return next(exact, f"{length!r}unit01")

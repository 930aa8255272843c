"""The worst that a bad camera can do within a level: a physical attack."""

from dataclasses import dataclass

from fundusray.conditions.condition import CONDITIONS, Arguments
from fundusray.conditions.corruption import CorruptionCondition
from fundusray.corruptions import parse_corruption
from fundusray.errors import InputError

DRAWS = 8


@dataclass(frozen=True)
class WorstCase(CorruptionCondition):
    """Of several draws of a corruption the one that costs each photograph most, then steps along
    the gradient of its parameters, within their level."""

    draws: int = DRAWS
    """Damages that are tried of each photograph."""
    steps: int = 0
    """Along the gradient from the worst of them; 0: none."""

    def drawn(self, number: int) -> CorruptionCondition:
        """The draw of that number, from 0, by itself."""
        return CorruptionCondition(self.corruption, self.seed + number)

    @property
    def passes(self) -> int:
        """A draw is one; a step about three and one that sees what came of it."""
        return self.draws + 4 * self.steps

    def __str__(self) -> str:
        name, _, rest = str(self.corruption).partition("(")
        said = [f"of={name}", rest.removesuffix(")"), f"draws={self.draws}"]
        said += [f"steps={self.steps}"] if self.steps else []
        said += [f"seed={self.seed}"] if self.seed else []
        return f"worst_case({', '.join(said)})"


@CONDITIONS.register("worst_case")
def worst_case(given: Arguments) -> WorstCase:
    """`worst_case(of=light_leakage, level=2, draws=8, steps=0, seed=0)`"""
    kind, level = given.text("of"), given.text("level")
    if kind is None:
        raise InputError(
            "worst_case needs of=, a corruption: worst_case(of=light_leakage, level=2, draws=8)"
        )
    corruption = parse_corruption(f"{kind}(level={level})" if level else kind)
    draws, steps = given.whole("draws", DRAWS), given.whole("steps", 0, least=0)
    return WorstCase(corruption, given.whole("seed", 0, least=0), draws, steps)

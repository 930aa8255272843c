"""The phases of a run laid out over its steps: who learns when, and at which rate."""

from dataclasses import dataclass, replace

from torch import nn

from fundusray.config import Recipe, Train
from fundusray.models import head_parameters
from fundusray.phases import Phase, parse_phases, stretched_phases
from fundusray.training.optimizers import rate_at_step


def passes_over_rows(recipe: Recipe) -> Train:
    """How a recipe learns, counted in passes over the rows.

    Free adversarial training shows every batch `adversarial.replays` times in a row, so it goes
    over the rows as many times less often, rounded up (Shafahi et al. 2019, alg. 1: N_ep / m): as
    many updates as any other method makes in `train.epochs`.
    """
    train, replays = recipe.train, recipe.adversarial.replays
    if recipe.adversarial.method != "free" or replays == 1:
        return train

    def fewer(length: int) -> int:
        return -(-length // replays)

    lengths = {key: fewer(getattr(train, key)) for key in ("epochs", "mixup_epochs", "step_epochs")}
    return replace(train, **lengths, phases=stretched_phases(train.phases, fewer, fewer))


@dataclass(frozen=True)
class PhaseSpan:
    """A phase in steps of the run: start <= step < stop."""

    phase: Phase
    start: int
    stop: int
    stage: int
    """Spans of one stage share an optimiser."""


class Timetable:
    """The phases of a run laid out over its steps."""

    def __init__(self, train: Train, steps_per_epoch: int) -> None:
        self._train, self.steps_per_epoch = train, steps_per_epoch
        self.spans: list[PhaseSpan] = []
        """In order, without gaps."""
        start = stage = 0
        before: Phase | None = None
        for phase in parse_phases(train.phases, train.epochs):
            length = phase.steps or phase.epochs * steps_per_epoch
            if before and (before.trainable, before.norm) != (phase.trainable, phase.norm):
                stage += 1
            self.spans.append(PhaseSpan(phase, start, start + length, stage))
            start, before = start + length, phase

    @property
    def steps(self) -> int:
        """Of the whole run."""
        return self.spans[-1].stop

    @property
    def epochs(self) -> int:
        """Of the whole run; the last one may be cut short."""
        return -(-self.steps // self.steps_per_epoch)

    def steps_of(self, epoch: int) -> int:
        """Steps of an epoch, counted from 0."""
        return min(self.steps_per_epoch, self.steps - epoch * self.steps_per_epoch)

    def span(self, step: int) -> PhaseSpan:
        """The phase a step belongs to; the last one where all are done."""
        return next((span for span in self.spans if step < span.stop), self.spans[-1])

    def rate(self, step: int) -> float:
        """The learning rate of a step: a function of nothing else."""
        span = self.span(step)
        length = span.stop - span.start
        return span.phase.lr * rate_at_step(
            step - span.start, length, self.steps_per_epoch, self._train
        )


def enter_phase(model: nn.Module, phase: Phase) -> int:
    """Sets which parameters learn; how many numbers that are."""
    heads = set(head_parameters(model)) if phase.trainable == "head" else None
    count = 0
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(heads is None or name in heads)
        count += parameter.numel() * parameter.requires_grad
    return count


def train_mode(network: nn.Module, phase: Phase) -> None:
    """Puts a network into training mode, batch norms as the phase has them."""
    network.train()
    if phase.norm == "frozen":
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()

"""Signs that a network hides its gradients instead of being robust (Athalye et al. 2018; Croce and
Hein 2020, whose code warns of the same)."""

from collections.abc import Iterable, Sequence

from fundusray.attacks.registry import ATTACKS

NOTABLE = 0.02
"""Share of images from which on a sign is told (the authors' code)."""


def masking_warnings(
    stages: Sequence[str],
    broken_by: Sequence[str],
    zero_gradients: Sequence[int],
    probabilities: Sequence[bool] = (),
) -> list[str]:
    """Sentences on attacked images that a robust network does not explain; none where all is well.

    Args:
        stages: the attacks that were run (`AttackOutcome.stages`).
        broken_by: of each image the attack that broke it, "" where none did
            (`AttackOutcome.broken_by`), over any number of batches.
        zero_gradients: of each image how many of its gradients were 0 in every pixel.
        probabilities: of each image whether the outputs were probabilities.
    """
    warnings, num = [], len(broken_by)
    flat = sum(count > 0 for count in zero_gradients)
    if num and flat / num > NOTABLE:
        warnings.append(
            f"gradients were 0 in every pixel for {flat:,} of {num:,} images: outputs are rounded, "
            "or so large that the loss is 0; what attacks along gradients did not break may not "
            "be robust"
        )
    blind = sum(1 for name in broken_by if name and not ATTACKS.facts(name).gradient)
    if num and blind / num > NOTABLE and any(ATTACKS.facts(name).gradient for name in stages):
        warnings.append(
            f"attacks without gradients broke {blind:,} of {num:,} images that attacks along "
            "gradients had not: gradients are masked, and more queries or an attack made for this "
            "network will break more"
        )
    alike = sum(probabilities)
    if num and alike == num:
        warnings.append(
            "the network's outputs look like probabilities: losses of them are flat where it is "
            "sure; attack the logits before the softmax"
        )
    return warnings


def rising_robustness(fewer: Iterable[bool], more: Iterable[bool]) -> str:
    """A sentence where an attack with more steps fails where one with fewer succeeded, which a
    search that follows true gradients seldom does; "" where that is not notable.

    Args:
        fewer, more: success of each image with few and with many steps, the same images.
    """
    pairs = list(zip(fewer, more, strict=True))
    lost = sum(few and not many for few, many in pairs)
    gained = sum(many and not few for few, many in pairs)
    if not pairs or (lost - gained) / len(pairs) <= NOTABLE:
        return ""
    return (
        f"robust accuracy rises with more steps: of {len(pairs):,} images {lost:,} were broken "
        f"with fewer steps alone, {gained:,} with more alone; gradients are misleading"
    )

"""The seven combinations of Shen et al. (cofe-Net), of which each image draws one.

Uneven light is colour, halo and hole, one after the other; with spots and defocus there are seven
ways in which one, two or three of these are in a photograph (their types 001 to 111).
"""

from fundusray.corruptions.registry import CORRUPTIONS, MIXTURES, chain
from fundusray.corruptions.shen import SOURCE

LIGHT = ("shen_colour", "halo", "hole")
COMBINATIONS = {
    "cofe_light": LIGHT,
    "cofe_spots": ("spots",),
    "cofe_light_spots": (*LIGHT, "spots"),
    "cofe_defocus": ("defocus",),
    "cofe_light_defocus": (*LIGHT, "defocus"),
    "cofe_spots_defocus": ("spots", "defocus"),
    "cofe_light_spots_defocus": (*LIGHT, "spots", "defocus"),
}
"""In the order of the published types 001, 010, 011, ..., 111."""


def _register(name: str, parts: tuple[str, ...]) -> None:
    corrupt, draw = chain(*parts)
    title = " + ".join(part.removeprefix("shen_") for part in parts) + " (cofe-Net)"
    levels = tuple({"level": (level, level)} for level in range(1, 5))
    CORRUPTIONS.register(name, title=title, source=SOURCE, levels=levels, draw=draw)(corrupt)


for _name, _parts in COMBINATIONS.items():
    _register(_name, _parts)

MIXTURES.register("cofe", title="one of cofe-Net's seven combinations", source=SOURCE)(
    tuple(COMBINATIONS)
)

"""What is left of an attack in a file; rounding that keeps an 8-bit budget to the level."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from fundusray.attacks.survival import rounded_within, survival
from fundusray.errors import InputError
from tests.attacks.linear_networks import wrong_class


def in_levels(num: int = 4, side: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randint(0, 256, (num, 3, side, side), generator=generator) / 255


def test_rounding_keeps_the_budget_to_the_level() -> None:
    image = in_levels()
    noise = torch.rand(image.shape, generator=torch.Generator().manual_seed(3)) * 2 - 1
    for levels in (1, 2, 7):
        offset = noise * levels / 255
        # Many pixels at the end of the budget, where float32 is on either side of a level.
        offset[..., ::2] = offset[..., ::2].sign() * levels / 255
        attacked = (image + offset).clamp(0, 1)
        rounded = rounded_within(image, attacked, levels)
        whole = rounded.double() * 255
        torch.testing.assert_close(whole, whole.round(), atol=1e-4, rtol=0)
        steps = whole.round().long() - (image.double() * 255).round().long()
        assert steps.abs().max() == levels
        # A pixel that was moved by the whole budget is still moved by it.
        moved = (attacked - image).abs() * 255
        assert (steps.abs()[moved > levels - 5e-4] == levels).all()
        assert (steps.abs() <= moved + 0.01).all()
        assert (steps * (attacked - image) >= 0).all()


def test_rounding_stays_inside_a_budget_that_is_no_whole_number() -> None:
    """Moved by 1.6 of 1.9 levels: to the nearest level it would be 2."""
    image = in_levels()
    attacked = (image + 1.6 / 255).clamp(0, 1)
    assert ((attacked * 255).round() - (image * 255).round()).max() == 2
    assert ((rounded_within(image, attacked, 1) - image) * 255).max().item() == pytest.approx(
        1, abs=1e-3
    )


def test_images_between_levels_are_refused() -> None:
    image = in_levels() * 0.999
    with pytest.raises(InputError, match="whole 8-bit levels, got pixels in between"):
        rounded_within(image, image, 2)


def test_columns_say_which_file_an_attack_survives() -> None:
    """The network's answer hangs on differences of 0.3, 3 and 100 levels, one image each."""
    image = torch.full((3, 3, 16, 16), 128 / 255)
    moved = torch.tensor([0.3, 3.0, 100.0]) / 255
    attacked = image.clone()
    # One pixel in each block of 8 x 8: a JPEG takes small ones for noise.
    attacked[:, :, ::8, ::8] += moved[:, None, None, None]
    sizes = []

    def predict(shown: torch.Tensor) -> torch.Tensor:
        sizes.append(tuple(shown.shape))
        change = (shown - 128 / 255)[:, 1, ::8, ::8].mean(dim=(1, 2)) * 255
        return torch.stack([torch.zeros(3), change - torch.tensor([0.1, 1.0, 50.0])], dim=1)

    target = torch.zeros(3, dtype=torch.long)
    columns = survival(predict, image, attacked, target, wrong_class, quality=30)
    assert {name: column.tolist() for name, column in columns.items()} == {
        "clean": [False, False, False],
        "attacked": [True, True, True],
        "rounded": [False, True, True],
        "png": [False, True, True],
        "jpeg_30": [False, False, True],
    }
    assert set(sizes) == {(3, 3, 16, 16)}


def test_files_hold_what_pillow_writes() -> None:
    image = in_levels(1, 24)
    seen: list[torch.Tensor] = []

    def predict(shown: torch.Tensor) -> torch.Tensor:
        seen.append(shown)
        return torch.zeros(1, 2)

    survival(predict, image, image, torch.zeros(1, dtype=torch.long), wrong_class, quality=75)
    _, _, rounded, png, jpeg = seen
    assert torch.equal(rounded, png)
    torch.testing.assert_close(rounded, image)
    file = BytesIO()
    pixels = (image[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    Image.fromarray(pixels).save(file, "JPEG", quality=75)
    expected = np.asarray(Image.open(file)).astype(np.float32) / 255
    torch.testing.assert_close(jpeg[0].permute(1, 2, 0), torch.from_numpy(expected))
    assert not torch.equal(jpeg, png)


def test_no_such_quality() -> None:
    image = in_levels(1)
    with pytest.raises(InputError, match="quality from 1 to 95, got 0"):
        survival(lambda shown: shown, image, image, torch.zeros(1), wrong_class, quality=0)

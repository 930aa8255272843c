"""The probe measures without touching; every mode computes the same thing."""

import pytest
import torch
from torch import nn

from fundusray import config
from fundusray.config import Train
from fundusray.errors import InputError
from fundusray.models import build_model
from fundusray.training import numeric_precision
from fundusray.training.numeric_precision import (
    Precision,
    autocast,
    fastest_precision_mode,
    memory_format,
    open_precisions,
    prepare_model,
    probe_precisions,
)

ALL = [
    Precision(p, layout)
    for p in numeric_precision.PRECISIONS
    for layout in numeric_precision.LAYOUTS
]
SHAPE = (2, 3, 80, 80)


def network(name="resnet18", **settings):
    return build_model(config.Model(name=name, **settings), 5, 0)


@pytest.mark.parametrize("name", ["resnet18", "inception_v3"])
def test_probe_leaves_everything_as_it_was(name):
    model = network(name, dropout=0.5)
    model.eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    strides = {key: value.stride() for key, value in model.state_dict().items()}
    random = torch.get_rng_state()
    chosen, seconds = probe_precisions(model, SHAPE, "cpu", Train(), steps=1)
    assert chosen in ALL and set(seconds) == {str(way) for way in ALL}
    assert all(value > 0 for value in seconds.values())
    assert torch.equal(torch.get_rng_state(), random)
    assert not model.training
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]) and value.stride() == strides[key]
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("precision", ["auto", "fp32", "bf16"])
@pytest.mark.parametrize("layout", ["auto", "contiguous", "channels_last"])
def test_what_the_recipe_pins_is_kept(precision, layout):
    train = Train(precision=precision, layout=layout)
    left = open_precisions(train)
    assert all(precision in ("auto", way.precision) for way in left)
    assert all(layout in ("auto", way.layout) for way in left)
    assert len(left) == (1 + (precision == "auto")) * (1 + (layout == "auto"))
    small = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(2))
    small(torch.rand(2, 3, 8, 8))
    chosen, seconds = probe_precisions(small, (2, 3, 8, 8), "cpu", train)
    assert chosen in left
    assert set(seconds) == ({str(way) for way in left} if len(left) > 1 else set())


def test_the_fastest_wins_and_a_tie_goes_to_fp32():
    def times(*seconds):
        return dict(zip(ALL, seconds, strict=True))

    assert fastest_precision_mode(times(1.0, 0.9, 2.0, 2.0)) == Precision("fp32", "channels_last")
    assert fastest_precision_mode(times(1.0, 0.9, 0.9, 0.88)) == Precision("fp32", "channels_last")
    assert fastest_precision_mode(times(1.0, 0.9, 0.9, 0.5)) == Precision("bf16", "channels_last")
    assert fastest_precision_mode({ALL[2]: 1.0, ALL[3]: 2.0}) == Precision("bf16", "contiguous")


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "inception_v3"])
def test_every_mode_gives_the_loss_of_fp32(name):
    image = torch.rand(4, 3, 80, 80, generator=torch.Generator().manual_seed(0))
    target = torch.tensor([0, 1, 2, 3])
    losses = {}
    for way in ALL:
        model = prepare_model(network(name).eval(), way)
        placed = image.contiguous(memory_format=memory_format(way))
        with autocast(way, "cpu"):
            logits = model(placed)
        assert logits.dtype == (torch.bfloat16 if way.precision == "bf16" else torch.float32)
        losses[way] = nn.functional.cross_entropy(logits.float(), target).item()
    plain = losses[ALL[0]]
    for way, value in losses.items():
        assert value == pytest.approx(plain, rel=0.05 if way.precision == "bf16" else 1e-3), way


def test_layout_and_precision_reach_the_network():
    way = Precision("bf16", "channels_last")
    model = prepare_model(network(), way)
    assert model.net.conv1.weight.is_contiguous(memory_format=torch.channels_last)
    assert model.net.conv1.weight.dtype == torch.float32
    context = autocast(way, torch.device("cpu"))
    for _ in range(2):  # one context serves every step
        with context:
            assert torch.is_autocast_enabled("cpu")
        assert not torch.is_autocast_enabled("cpu")


def refusing(refused):
    """In place of the timing: memory holds no step of these ways."""

    def timed(model, shape, device, way, steps, limit):
        if way in refused:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 1.0 + ALL.index(way)

    return timed


def test_a_way_that_does_not_fit_is_not_taken(monkeypatch):
    monkeypatch.setattr(numeric_precision, "_time", refusing(ALL[:2]))
    chosen, seconds = probe_precisions(nn.Identity(), SHAPE, "cpu", Train())
    assert chosen == ALL[2] and set(seconds) == {str(way) for way in ALL[2:]}
    monkeypatch.setattr(numeric_precision, "_time", refusing(ALL))
    with pytest.raises(InputError, match=r"train\.batch: 2 images of 80 pixels do not fit"):
        probe_precisions(nn.Identity(), SHAPE, "cpu", Train())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_probe_on_a_gpu():
    model = network().cuda()
    random = torch.cuda.get_rng_state()
    chosen, seconds = probe_precisions(model, (16, 3, 128, 128), "cuda", Train())
    assert chosen in ALL and len(seconds) == 4
    assert torch.equal(torch.cuda.get_rng_state(), random)

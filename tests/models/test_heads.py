"""Layers after the features: sizes, outputs read as classes, thresholds; each against its paper."""

import itertools
from decimal import Decimal, getcontext

import numpy as np
import pytest
import torch
from sklearn.metrics import cohen_kappa_score
from torch import nn

from fundusray import config
from fundusray.errors import InputError
from fundusray.models import (
    MODELS,
    build_model,
    feature_layers,
    fit_thresholds,
    head_parameters,
    parameter_count,
)
from fundusray.models.bundle import load_bundle, save_bundle
from fundusray.models.heads import (
    border_class_logits,
    class_logits,
    corn_logits,
    default_thresholds,
)

OUTPUTS = ("softmax", "binary", "regression", "coral", "corn")
ORDINAL = ("regression", "coral", "corn")
WIDTHS = {"softmax": 5, "binary": 2, "regression": 1, "coral": 4, "corn": 4}
"""Raw outputs with five classes (binary: with two)."""


def build(name="resnet18", output="softmax", hidden=(), classes=None, seed=0, **settings):
    classes = classes or (2 if output == "binary" else 5)
    model = config.Model(name=name, output=output, hidden=hidden, **settings)
    return build_model(model, classes, seed)


def images(count=3, side=32):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1))


class TestSizes:
    def test_li_has_two_layers_before_five_outputs(self):
        """Inception V3, FC 1024, FC 1024, 5; the auxiliary head keeps its plain layer."""
        plain, model = build("inception_v3"), build("inception_v3", hidden=(1024, 1024))
        head = (2048 * 1024 + 1024) + (1024 * 1024 + 1024) + (1024 * 5 + 5)
        assert parameter_count(model) == parameter_count(plain) - (2048 * 5 + 5) + head
        kinds = [type(layer) for layer in model.net.fc]
        assert kinds == [*(nn.Linear, nn.ReLU, nn.Dropout) * 2, nn.Linear]
        assert model.net.AuxLogits.fc.weight.shape == (5, 768)

    def test_kon_has_256_then_one_logit(self):
        plain = build("resnet50", classes=2)
        model = build("resnet50", "binary", hidden=(256,))
        head = (2048 * 256 + 256) + (256 + 1)
        assert parameter_count(model) == parameter_count(plain) - (2048 * 2 + 2) + head

    def test_coral_shares_one_weight(self):
        """As many weights as features, K - 1 biases; they start in order."""
        model = build(output="coral")
        assert parameter_count(model) == parameter_count(build()) - (512 * 5 + 5) + 512 + 4
        assert model.net.fc.bias.tolist() == [1.0, 0.75, 0.5, 0.25]

    @pytest.mark.parametrize("output", ORDINAL)
    def test_the_auxiliary_head_has_as_many_outputs(self, output):
        model = build("inception_v3", output, hidden=(8,)).train()
        main, auxiliary = model(images(2, 75))
        assert main.shape == auxiliary.shape == (2, WIDTHS[output])
        with torch.no_grad():
            assert model.eval()(images(2, 75)).shape == (2, 5)


@pytest.mark.parametrize("hidden", [(), (16, 8)])
@pytest.mark.parametrize("output", OUTPUTS)
class TestOutputs:
    def test_shapes_by_mode(self, output, hidden):
        model, image = build(output=output, hidden=hidden), images()
        raw = model.train()(image)
        assert raw.shape == (3, WIDTHS[output])
        raw.square().sum().backward()
        assert all(parameter.grad is not None for parameter in model.parameters())
        with torch.no_grad():
            raw, logits = model.eval().raw(image), model(image)
        assert raw.shape == (3, WIDTHS[output])
        assert logits.shape == (3, model.num_classes) and torch.isfinite(logits).all()
        assert torch.equal(logits, model.class_logits(raw))
        assert torch.equal(logits, model.class_logits((raw, raw + 1)))

    def test_class_logits_in_training_mode_too(self, output, hidden):
        model = build(output=output, hidden=hidden).train()
        assert model.class_logits(model.raw(images())).shape == (3, model.num_classes)

    def test_a_bundle_brings_it_back(self, output, hidden, tmp_path):
        model = build(output=output, hidden=hidden, seed=3)
        if model.thresholds is not None:
            model.thresholds.copy_(torch.tensor([0.1, 0.9, 2.2, 3.3]))
        settings = config.Model(name="resnet18", output=output, hidden=hidden)
        classes = [str(k) for k in range(model.num_classes)]
        save_bundle(
            str(tmp_path / "b"), model.state_dict(), config.Recipe(model=settings), classes, {}
        )
        bundle = load_bundle(str(tmp_path / "b"))
        with torch.no_grad():
            assert torch.equal(bundle.model(images()), model.eval()(images()))
        assert f"output {output}" in (tmp_path / "b" / "card.md").read_text()

    def test_dropout_stands_before_each_layer(self, output, hidden):
        """Half of what is above 0 after pooling, and after each ReLU, reaches the next layer."""
        model, seen = build(output=output, hidden=hidden, dropout=0.5).train(), []
        model.net.layer4.register_forward_hook(lambda _, args, out: seen.append(out.mean((2, 3))))
        for module in model.net.fc.modules():
            if hasattr(module, "weight"):
                module.register_forward_hook(lambda _, args, out: seen.extend((args[0], out)))
        model(images(32))
        pairs = list(zip(seen[::2], seen[1::2], strict=False))
        assert len(pairs) == len(hidden) + 1
        for before, after in pairs:
            alive = before > 0
            dropped = after[alive] == 0
            assert alive.sum() > 50 and 0.3 < float(dropped.float().mean()) < 0.7
            torch.testing.assert_close(after[alive][~dropped], 2 * before[alive][~dropped])


class TestBinary:
    def test_is_zero_and_the_logit(self):
        """softmax([0, z]) is (1 - sigmoid(z), sigmoid(z)), and any attack finds two logits."""
        model = build(output="binary").eval()
        with torch.no_grad():
            out = model(images())
            z = model.net((images() - 0.5) / 0.5)[:, 0]
        assert torch.equal(out[:, 0], torch.zeros(3))
        torch.testing.assert_close(out.softmax(1)[:, 1], torch.sigmoid(z))

    def test_is_for_two_classes(self):
        with pytest.raises(InputError, match=r"binary is for two classes, the data have 5.*corn"):
            build(output="binary", classes=5)


class TestLadder:
    def test_by_hand(self):
        """Odds between neighbours are the steps."""
        out = border_class_logits(torch.tensor([[2.0, -1.0, -3.0]]))
        assert out.tolist() == [[0.0, 2.0, 1.0, -2.0]]

    def test_coral_counts_the_borders_passed_also_out_of_order(self):
        """The papers' rule: the grade is the number of k with P(y > k) > .5."""
        raw = torch.randn(500, 4, generator=torch.Generator().manual_seed(0)) * 3
        logits = class_logits(raw, "coral")
        assert torch.equal(logits.argmax(1), (raw > 0).sum(1))
        in_order = raw.sort(dim=1, descending=True).values
        torch.testing.assert_close(logits, border_class_logits(in_order))

    def test_corn_counts_the_products_above_half(self):
        raw = torch.randn(500, 4, generator=torch.Generator().manual_seed(0)) * 3
        passed = torch.sigmoid(raw.double()).cumprod(1)
        assert torch.equal(class_logits(raw, "corn").argmax(1), (passed > 0.5).sum(1))

    def test_regression_counts_the_thresholds_below(self):
        thresholds = torch.tensor([0.5, 1.25, 1.25, 3.0])
        scores = torch.tensor([[-4.0], [0.5], [0.75], [1.5], [3.0], [3.5], [90.0]])
        logits = class_logits(scores, "regression", thresholds)
        assert logits.argmax(1).tolist() == [0, 0, 1, 3, 3, 4, 4]

    @pytest.mark.parametrize("output", ["regression", "coral", "corn"])
    def test_bfloat16_is_widened(self, output):
        raw = torch.zeros(2, 1 if output == "regression" else 4, dtype=torch.bfloat16)
        assert class_logits(raw, output, default_thresholds(5)).dtype == torch.float32


def exact_corn(raw):
    """logit of the cumulative product of sigmoids with 200 digits."""
    getcontext().prec = 200
    product, out = Decimal(1), []
    for z in raw:
        product *= 1 / (1 + (-Decimal(z)).exp())
        out.append(float((product / (1 - product)).ln()))
    return out


@pytest.mark.parametrize(
    "raw",
    [[0.0, 0.0, 0.0], [3.0, -2.0, 1.0], [90.0, 80.0, 70.0], [-90.0, 5.0, -60.0], [60, -60, 9]],
)
def test_corn_is_exact_where_probabilities_saturate(raw):
    found = corn_logits(torch.tensor([raw], dtype=torch.float32))
    np.testing.assert_allclose(found[0].numpy(), exact_corn(raw), rtol=1e-5, atol=1e-5)


def test_corn_is_finite_with_its_gradient():
    raw = torch.tensor([[1e4, 1e4, -1e4], [-1e4, 1e4, 1e4], [0.0, 1e4, -1e4]], requires_grad=True)
    out = class_logits(raw, "corn")
    out.sum().backward()
    assert torch.isfinite(out).all() and torch.isfinite(raw.grad).all()


def kappa_of(scores, targets, thresholds):
    grades = (np.asarray(scores)[:, None] > np.asarray(thresholds)[None]).sum(1)
    return cohen_kappa_score(targets, grades, weights="quadratic")


def best_kappa(scores, targets, classes):
    """The largest kappa over every way to cut the sorted scores."""
    distinct = np.unique(scores)
    between = [distinct[0] - 1, *((distinct[1:] + distinct[:-1]) / 2), distinct[-1] + 1]
    cuts = itertools.combinations_with_replacement(between, classes - 1)
    values = [kappa_of(scores, targets, cut) for cut in cuts]
    return max(value for value in values if np.isfinite(value))


class TestThresholds:
    @pytest.mark.parametrize("seed", range(6))
    @pytest.mark.parametrize("classes", [2, 3, 4])
    def test_no_cut_is_better(self, classes, seed):
        rng = np.random.default_rng(seed)
        targets = rng.integers(0, classes, 11)
        targets[:2] = (0, classes - 1)
        scores = np.round(0.4 * targets + rng.normal(0, 0.7, 11), 1).astype(np.float32)  # has ties
        thresholds = fit_thresholds(scores, targets, classes).numpy()
        assert (np.diff(thresholds) >= 0).all() and thresholds.shape == (classes - 1,)
        best = best_kappa(scores, targets, classes)
        assert kappa_of(scores, targets, thresholds) == pytest.approx(best, abs=1e-12)

    def test_finds_a_known_scale_again(self):
        targets = np.repeat(np.arange(5), 40)
        scores = 10 * targets + np.random.default_rng(0).uniform(-4, 4, 200)
        thresholds = fit_thresholds(scores, targets, 5)
        assert kappa_of(scores, targets, thresholds) == 1
        assert thresholds.tolist() == pytest.approx([5, 15, 25, 35], abs=1)

    def test_a_model_answers_by_them(self):
        """A border falls between scores, however close: what is fitted is what is answered."""
        scores = torch.tensor([1.0, 1.0 + 2**-23, 1.0 + 2**-22, 1.5])
        targets = torch.tensor([0, 1, 2, 2])
        thresholds = fit_thresholds(scores, targets, 3)
        logits = class_logits(scores[:, None], "regression", thresholds)
        assert logits.argmax(1).tolist() == targets.tolist()

    def test_is_better_than_rounding_where_grades_are_unbalanced(self):
        rng = np.random.default_rng(1)
        targets = rng.choice(5, 4000, p=[0.73, 0.07, 0.15, 0.03, 0.02])
        scores = 0.5 * targets + rng.normal(0, 0.3, 4000)
        thresholds = fit_thresholds(scores, targets, 5)
        rounded = kappa_of(scores, targets, default_thresholds(5))
        assert kappa_of(scores, targets, thresholds) > rounded + 0.05

    def test_order_of_rows_does_not_matter(self):
        rng = np.random.default_rng(2)
        targets, scores = rng.integers(0, 5, 300), rng.normal(size=300)
        order = rng.permutation(300)
        first, second = (
            fit_thresholds(scores, targets, 5),
            fit_thresholds(scores[order], targets[order], 5),
        )
        assert torch.equal(first, second)

    @pytest.mark.parametrize("targets", [[], [3, 3, 3]])
    def test_without_two_grades_numbers_are_rounded(self, targets):
        found = fit_thresholds([1.0] * len(targets), targets, 5)
        assert found.tolist() == [0.5, 1.5, 2.5, 3.5]

    def test_what_cannot_be_is_refused(self):
        with pytest.raises(InputError, match="not finite"):
            fit_thresholds([0.0, np.nan], [0, 1], 2)
        with pytest.raises(InputError, match="targets must be 0 to 1"):
            fit_thresholds([0.0, 1.0], [0, 2], 2)
        with pytest.raises(InputError, match="2 scores for 1 targets"):
            fit_thresholds([0.0, 1.0], [0], 2)


class TestHeadParameters:
    @pytest.mark.parametrize("hidden", [(), (16,)])
    @pytest.mark.parametrize("output", OUTPUTS)
    def test_are_those_after_the_features(self, output, hidden):
        model = build(output=output, hidden=hidden)
        chosen = set(head_parameters(model))
        assert chosen == {f"net.fc.{name}" for name, _ in model.net.fc.named_parameters()}
        assert chosen

    @pytest.mark.parametrize("name", MODELS)
    def test_of_every_network(self, name):
        """All but them are what a network without last layers has."""
        model = build(name)
        parameters = dict(model.named_parameters())
        shapes = [tuple(parameters[n].shape) for n in head_parameters(model)]
        features = {"inception_v3": [2048, 768]}.get(name) or [model.net.num_features]
        assert sorted(shapes) == sorted(
            [*((5, width) for width in features), *[(5,)] * len(features)]
        )


@pytest.mark.parametrize("name", MODELS)
def test_feature_layers_are_where_they_should_be(name):
    """The last map averaged over its places is what the head gets (of BagNets each place is); the
    early one, pooled where the network pools there, is what the first block gets."""
    model, seen = build(name).eval(), {}
    first = {"i": "net.Mixed_5b", "r": "net.layer1", "e": "net.blocks", "b": "net.layer1"}[name[0]]
    layers = feature_layers(name)
    for key in layers:
        model.get_submodule(layers[key]).register_forward_hook(
            lambda _, args, out, key=key: seen.update({key: out.detach().clone()})
        )
    for key, place in {"block": first, "head": f"net.{MODELS[name].heads[0]}"}.items():
        model.get_submodule(place).register_forward_pre_hook(
            lambda _, args, key=key: seen.update({key: args[0]})
        )
    with torch.no_grad():
        model(images(2, 128))
        pooled = {
            "i": lambda x: nn.functional.max_pool2d(x, 3, 2),
            "r": lambda x: nn.functional.max_pool2d(x, 3, 2, 1),
            "e": lambda x: x,
            "b": lambda x: x,
        }[name[0]](seen["early"])
    of_places = MODELS[name].evidence
    places = seen["last"].movedim(1, -1).flatten(0, 2)
    last = places if of_places else seen["last"].mean((2, 3))
    torch.testing.assert_close(last, seen["head"])
    assert torch.equal(pooled, seen["block"])
    assert seen["last"].shape[-1] > 1


def test_li_reads_the_convolution_before_the_blocks():
    assert feature_layers("inception_v3")["early"] == "net.Conv2d_4a_3x3"
    with pytest.raises(InputError, match="resnet18"):
        feature_layers("resnet_18")

"""The texts that name maps: there and back, and refused in words."""

import pytest

from fundusray.errors import InputError
from fundusray.saliency import MAPS, MapMethod, parse_methods


@pytest.mark.parametrize("name", sorted(MAPS))
def test_a_map_by_its_name_alone(name: str) -> None:
    (method,) = parse_methods(name)
    assert method == MapMethod(name) and str(method) == name
    assert parse_methods(f" {name} ( ) ") == (method,)


@pytest.mark.parametrize(
    ("text", "args"),
    [
        ("integrated_gradients(steps=100)", {"steps": 100}),
        (
            "integrated_gradients(steps=7, rule=right, output=probability, tolerance=0.001)",
            {"steps": 7, "rule": "right", "output": "probability", "tolerance": 0.001},
        ),
        ("integrated_gradients(baseline=0)", {"baseline": 0.0}),
        ("integrated_gradients(baseline=0.1234567890123)", {"baseline": 0.1234567890123}),
        ("integrated_gradients(tolerance=1e-05)", {"tolerance": 1e-5}),
        ("grad_cam(layer=layer4.1.conv2)", {"layer": "layer4.1.conv2"}),
        ("occlusion(window=16, stride=8)", {"window": 16, "stride": 8}),
    ],
)
def test_a_text_is_its_methods_text(text: str, args: dict) -> None:
    (method,) = parse_methods(text)
    assert dict(method.args) == args and str(method) == text
    assert parse_methods(str(method)) == (method,)
    assert {key: method.keywords[key] for key in args} == args


def test_several_and_their_order() -> None:
    methods = parse_methods("grad_cam , integrated_gradients( rule = right,steps=5),saliency")
    assert [str(one) for one in methods] == [
        "grad_cam",
        "integrated_gradients(steps=5, rule=right)",
        "saliency",
    ]
    assert parse_methods(", ".join(map(str, methods))) == methods
    # The same map in two ways is two.
    assert len(parse_methods("grad_cam, grad_cam(output=probability)")) == 2


def test_what_is_as_by_default_is_not_written() -> None:
    (method,) = parse_methods("integrated_gradients(steps=50, output=logit)")
    assert method == MapMethod("integrated_gradients") and method.keywords["steps"] == 50


def test_what_an_image_costs() -> None:
    costs = {
        "saliency": 3,
        "smooth_grad(draws=4)": 12,
        "integrated_gradients(steps=10)": 30,
        "grad_cam": 3,
        "occlusion(window=16, stride=8)": 1 + 15 * 15,
        "bagnet_evidence": 1,
    }
    assert {text: parse_methods(text)[0].passes(128) for text in costs} == costs


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"give one or more maps: method=.*have: bagnet_evidence, edges, grad_cam"),
        (",", "maps are written method="),
        ("grad_cam saliency", "maps are written method="),
        ("grad_cam(layer=a", "maps are written method="),
        ("integrated_gradients((steps=5))", "maps are written method="),
        ("gradcam", "no map named 'gradcam'; did you mean 'grad_cam'"),
        ("integrated_gradients(step=5)", "'step'; did you mean 'steps'"),
        (
            "integrated_gradients(steps)",
            r"integrated_gradients\(steps\): keywords are written key=",
        ),
        ("integrated_gradients(steps=5, steps=6)", "key=value, each once"),
        (
            "integrated_gradients(steps=five)",
            "steps: needs a whole number of at least 1, got 'five'",
        ),
        ("integrated_gradients(steps=2.5)", "steps: needs a whole number"),
        ("integrated_gradients(steps=0)", "steps: needs a whole number of at least 1"),
        ("integrated_gradients(problem=1)", "problem"),
        ("occlusion(fill=nan)", r"fill: needs a number in \[0, 1\]"),
        ("saliency, saliency", "saliency is given twice"),
        ("saliency, saliency(output=logit)", "saliency is given twice"),
    ],
)
def test_other_texts_are_refused(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse_methods(text)

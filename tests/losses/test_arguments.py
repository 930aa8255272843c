"""Wrong arguments are refused with what would be right."""

import pytest

from fundusray.errors import InputError
from fundusray.losses import LOSSES, check_args, check_output, effective_weights


@pytest.mark.parametrize(
    "name, args, told",
    [
        ("focal", {"gama": 2.0}, "'gamma'"),
        ("focl", {}, "'focal'"),
        ("focal", {"gamma": -1.0}, "at least 0"),
        ("focal", {"gamma": "two"}, "'two'"),
        ("focal", {"gamma": float("nan")}, "nan"),
        ("focal", {"gamma": True}, "True"),
        ("cross_entropy", {"gamma": 2.0}, "gamma"),
        ("cross_entropy", {"smoothing": 1.0}, "[0, 1)"),
        ("class_balanced", {"beta": 1.0}, "[0, 1)"),
        ("class_balanced", {"base": "sigmod"}, "'sigmoid'"),
        ("class_balanced", {"base": 3}, "softmax or focal or sigmoid"),
        ("class_balanced", {"gamma": 2.0}, "loss.args.base=focal"),
        ("class_balanced", {"gamma": 2.0, "base": "sigmoid"}, "loss.args.base=focal"),
        ("inverse_frequency", {"normalise": 1.0}, "true or false"),
        ("class_weights", {"weights": 3.0}, "weights"),
        ("class_weights", {"weights": (1.0, -1.0)}, "weights"),
        ("class_weights", {"weights": (0.0, 0.0)}, "not all 0"),
        ("class_weights", {"divide": "batch"}, "images or weights, got 'batch'"),
        ("class_weights", {"batch_counts": (1, 2)}, "batch_counts"),
        ("ldam", {"scale": 0.0}, "above 0"),
        ("ldam", {"max_margin": -0.1}, "at least 0"),
        ("ldam", {"defer": 1.1}, "[0, 1]"),
        ("ldam", {"progress": 0.5}, "progress"),
        ("quadratic_kappa", {"valid": True}, "valid"),
        ("balanced_softmax", {"counts": (1, 2)}, "counts"),
    ],
)
def test_wrong_arguments_are_refused_by_name(name, args, told):
    with pytest.raises(InputError) as caught:
        check_args(name, args)
    assert told in str(caught.value)


def test_right_arguments_pass():
    for name, args in [
        ("cross_entropy", {"smoothing": 0.1}),
        ("focal", {"gamma": 0.0}),
        ("inverse_frequency", {"normalise": False}),
        ("class_balanced", {"base": "focal", "gamma": 0.5, "beta": 0.0}),
        ("class_weights", {"weights": (3.0, 1.0)}),
        ("ldam", {"max_margin": 0.0, "scale": 1.0, "beta": 0.9, "defer": 1.0}),
    ]:
        check_args(name, args)


def test_weights_of_another_number_of_classes_are_refused():
    with pytest.raises(InputError, match="5 classes need 5 numbers"):
        effective_weights("class_weights", {"weights": (1.0, 2.0)}, (5, 4, 3, 2, 1))


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_learns_from_one_kind_of_output(name):
    fitting = {"coral": ["coral"], "corn": ["corn"], "squared_error": ["regression"]}
    good = fitting.get(name, ["softmax", "binary"])
    for output in ("softmax", "binary", "regression", "coral", "corn"):
        if output in good:
            check_output(name, output)
        else:
            with pytest.raises(InputError, match=f"model.output={good[0]}"):
                check_output(name, output)

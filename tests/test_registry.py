"""Names to functions, and the error that offers the nearest."""

import pytest

from fundusray.errors import FundusError, InputError
from fundusray.registry import Registry, unknown_name


@pytest.fixture
def losses() -> Registry:
    registry: Registry = Registry("loss")

    @registry.register("focal")
    def focal():
        return 1

    registry.register("cross_entropy")(len)
    return registry


def test_a_registered_function_is_found_unchanged(losses):
    assert losses.find("focal")() == 1 and losses.find("cross_entropy") is len
    assert list(losses) == ["focal", "cross_entropy"]


def test_the_nearest_name_and_all_names_are_told(losses):
    with pytest.raises(InputError) as caught:
        losses.find("fokal")
    assert str(caught.value) == (
        "no loss named 'fokal'; did you mean 'focal'? (have: cross_entropy, focal)"
    )


def test_nothing_is_offered_for_a_name_unlike_any(losses):
    with pytest.raises(InputError, match="no loss named 'zzz' ") as caught:
        losses.find("zzz")
    assert "did you mean" not in str(caught.value)


def test_a_name_taken_twice_is_our_bug(losses):
    with pytest.raises(AssertionError, match="'focal' is entered twice"):
        losses.register("focal")(len)
    assert losses.find("focal")() == 1


def test_unknown_name_takes_any_collection():
    error = unknown_name("eye", "leff", {"left": 1, "right": 2})
    assert "did you mean 'left'?" in str(error)


def test_errors_a_user_can_act_on_have_their_own_exit_codes():
    codes = {kind.__name__: kind.exit_code for kind in FundusError.__subclasses__()}
    assert codes["InputError"] == 2 and codes["NoCheckpointError"] == 3
    assert codes["DiskError"] == 4 and codes["BadInputsError"] == 5 and codes["LockedError"] == 6
    assert issubclass(InputError, ValueError)

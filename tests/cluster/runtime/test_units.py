"""What becomes of units whose workers die, without any worker."""

import time

import pytest

from fundusray.cluster.runtime.units import Queue, Unit, UnitsLostError, unit_key


def units(num: int, **more: int) -> list[Unit]:
    return [Unit(str(i), rows=2, name=f"photograph {i}", **more) for i in range(num)]


def test_a_unit_is_tried_as_often_as_it_may_be_and_after_all_others() -> None:
    queue = Queue(units(3))
    first = queue.take()
    assert queue.died(first, "killed") == 0
    assert [queue.take().key for _ in range(3)] == ["1", "2", "0"]
    assert queue.died(first, "killed") == 0 and queue.take() is first
    assert queue.died(first, "killed") == 2, "its rows are given up"
    assert not queue.waiting
    with pytest.raises(UnitsLostError, match=r"preparing: photograph 0 \(killed\): tried 3 times"):
        queue.require_all("preparing")


def test_what_was_not_its_doing_does_not_count() -> None:
    queue = Queue(units(1))
    for _ in range(20):
        assert queue.died(queue.take(), "memory", counts=False) == 0
    queue.require_all("preparing")


def test_the_caller_may_have_other_units_done_instead_or_none() -> None:
    asked = []

    def lost(unit: Unit, why: str) -> list[Unit]:
        asked.append((unit.key, why))
        return [Unit(f"{unit.key}-{i}", tries=1) for i in range(2)] if "-" not in unit.key else []

    queue = Queue(units(1, tries=1), lost)
    assert queue.died(queue.take(), "killed") == 0, "two rows in two units"
    assert [unit.key for unit in queue.waiting] == ["0-0", "0-1"]
    assert [queue.died(queue.take(), "killed") for _ in range(2)] == [1, 1]
    assert asked == [("0", "killed"), ("0-0", "killed"), ("0-1", "killed")]
    queue.require_all("scanning")


def test_an_error_names_some_and_counts_the_rest() -> None:
    queue = Queue(units(9, tries=1))
    while queue.waiting:
        queue.died(queue.take(), "killed")
    with pytest.raises(UnitsLostError, match=r"photograph 4 .* and 4 more: tried 1 times"):
        queue.require_all("preparing")


def test_a_key_is_of_all_that_decides() -> None:
    keys = [unit_key("a", [1, 2], "clean"), unit_key("a", [1, 3], "clean"), unit_key("b", [1, 2])]
    assert len(set(keys)) == 3 and keys[0] == unit_key("a", [1, 2], "clean")


def test_many_units_cost_no_more_each_than_few() -> None:
    def seconds(num: int, workers: int) -> float:
        """Of handing out and taking back one unit, by so many workers of whom some die."""
        queue, busy = Queue(Unit(str(i)) for i in range(num)), []
        began, done = time.process_time(), 0
        while queue.waiting or busy:
            while queue.waiting and len(busy) < workers:
                busy.append(queue.take())
            for number, unit in enumerate(busy):
                if number % 97 == 0 and unit.tries == 3 and len(busy) == workers:
                    queue.died(unit, "killed", counts=False)
                else:
                    done += 1
            busy.clear()
        assert done == num
        return (time.process_time() - began) / num

    few, many = min(seconds(1000, 10) for _ in range(5)), seconds(200_000, 1000)
    assert many < 3 * few and many < 5e-5

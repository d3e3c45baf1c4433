"""Observers: who is told what, and who may end a training."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from hierfed.federated.recorded import RecordedStep
from hierfed.observer import SILENT, Observer, Observers, SharesOnly

TOLD: dict[str, tuple[Any, ...]] = {
    "stage": ("train",),
    "download": (10, None),
    "share": (3, 0.5),
    "summed": ("rating", "a total", "a model", "numbers"),
    "round": ("a record",),
    "judged": (2, 7),
    "note": ("a line",),
    "result": ("a result",),
}
"""Every method that tells something, with values to tell."""


class Noting(Observer):
    """Notes whatever it is told, in order; wants: whether the training should go on."""

    def __init__(self, wants: bool = True):
        self.told, self.asked, self.wants = list[tuple[Any, ...]](), 0, wants

    def __getattribute__(self, name: str) -> Any:
        if name in TOLD:
            return lambda *values: self.told.append((name, *values))
        return super().__getattribute__(name)

    def should_continue(self) -> bool:
        self.asked += 1
        return self.wants


def test_all_methods_of_an_observer_are_tried_here():
    methods = {name for name, _ in inspect.getmembers(Observer, inspect.isfunction)}
    assert methods == {*TOLD, "should_continue", "recorded"}


def test_of_several_observers_the_first_order_counts():
    class Knows(Observer):
        def __init__(self, steps: list[RecordedStep]):
            self.steps = steps

        def recorded(self) -> list[RecordedStep]:
            return self.steps

    steps = [RecordedStep(("a",))]
    assert Observers([Noting(), Knows(steps), Knows([])]).recorded() is steps
    assert Observers([Noting()]).recorded() is SILENT.recorded() is None


@pytest.mark.parametrize("name", TOLD)
def test_an_observer_that_overrides_nothing_hears_all_and_lets_the_training_go_on(name):
    assert getattr(SILENT, name)(*TOLD[name]) is None
    assert SILENT.should_continue()


@pytest.mark.parametrize("name", TOLD)
def test_all_observers_are_told_the_same_once(name):
    some = [Noting(), Noting(), Noting()]
    getattr(Observers(some), name)(*TOLD[name])
    assert [each.told for each in some] == [[(name, *TOLD[name])]] * 3


@pytest.mark.parametrize("wants", [(), (True,), (False,), (True, True), (True, False), (False, True), (False, False)])
def test_a_training_goes_on_while_all_observers_want_it_to(wants):
    assert Observers([Noting(each) for each in wants]).should_continue() == (False not in wants)


@pytest.mark.parametrize("name", TOLD)
def test_shares_alone_are_told_of_a_training_beside_the_one_of_ratings(name):
    observer = Noting(wants=False)
    shares = SharesOnly(observer)
    getattr(shares, name)(*TOLD[name])
    assert observer.told == ([("share", 3, 0.5)] if name == "share" else [])
    assert shares.should_continue()
    assert observer.asked == 0

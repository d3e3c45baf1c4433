"""Asynchronous rounds with nodes that come, go and dawdle, in memory and on a clock of its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flwr.app import Message

from hierfed.engines.flower.late_rounds import AWAY, BEGINS_ANEW, SLOW, LateRounds
from hierfed.engines.flower.strategy import SumStrategy
from hierfed.engines.rounds import Lateness
from hierfed.errors import HierfedError
from hierfed.federated.contract import SharedModel
from tests.engines.flower.world import Adding, World


@pytest.fixture
def world(wire: Callable[[Message], Message]) -> World:
    """Three members, of which a answers after a second, b after four, and c after nine."""
    made = World(wire)
    made.begin()
    for peer, seconds in zip(made.peers, (1.0, 4.0, 9.0), strict=True):
        peer.seconds["round"] = seconds
    return made


def run(world: World, rounds: int, answers: int = 1) -> list[str]:
    """The nodes in each round, as letters in the order of their answers."""

    def note(*record) -> None:
        world.records.append(record)

    late = LateRounds(world.federation, world.strategy, Lateness(answers), "abc", lambda name: {"entries": b""}, note)
    late.run(rounds)
    return ["".join("abc"[number] for number in outcome.contributors) for outcome, _, _ in world.records]


def test_the_server_steps_at_each_answer_and_last_sums_stay(world):
    steps = run(world, 12)
    assert steps[0] == "abc"
    # Eight seconds and a poll or two of theirs.
    assert sorted(steps[1:]) == ["a"] * 8 + ["b"] * 2 + ["c"]
    # Every total is one over all three.
    assert world.model == 12 * 111
    # Who was in a step is given the model after it.
    given = {peer.name: peer.rounds() for peer in world.peers}
    for name, rounds in given.items():
        assert rounds == [1, 2, *(place + 2 for place, who in enumerate(steps) if who == name)][: len(rounds)]


def test_a_step_waits_for_its_number_of_answers(world):
    steps = run(world, 4, answers=2)
    assert steps[0] == "abc"
    assert {len(each) for each in steps[1:]} == {2}


class Turning(Adding):
    """Opening rounds -2 to 0, of which the last two only steer."""

    steering_rounds = range(-1, 1)

    def start(self) -> SharedModel:
        return SharedModel(super().start().arrays, -3)


def test_rounds_that_only_steer_leave_out_who_was_slow_in_the_first(world):
    world.strategy = SumStrategy(Turning(), Turning().start(), "training 1", "rating", quorum=3)
    steps = run(world, 1)
    assert steps == ["abc", "ab", "ab", "abc"]
    assert world.c.rounds() == [-2, 1]
    assert [(each.node, each.reason) for each in world.records[1][0].refused] == [("c", SLOW)]
    assert world.model == 2 * 111 + 2 * 11
    # Who was left out has missed lines of the ledger, and gets those that it lacks.
    asked = [request for request in world.c.heard if request.kind == "round"]
    assert ["entries" in request.facts for request in asked] == [False, True]


def test_a_server_that_waits_for_all_leaves_out_nobody(world):
    world.strategy = SumStrategy(Turning(), Turning().start(), "training 1", "rating", quorum=3)
    assert run(world, 1, answers=3) == ["abc"] * 4


def test_who_comes_back_is_asked_with_the_model_that_it_had_and_without_entries(world):
    world.clock.at(11.0, lambda: world.net.leave(world.b))
    world.clock.at(12.0, lambda: world.net.join(world.b))
    run(world, 12)
    asked = [request for request in world.b.heard if request.kind == "round"]
    assert [request.facts["round"] for request in asked][:3] == [1, 2, 2]
    assert ["entries" in request.facts for request in asked][1:3] == [True, False]
    assert world.model == 12 * 111


def test_who_was_away_as_all_were_asked_is_named_and_enters_once_it_answers(world):
    world.net.leave(world.c)
    world.clock.at(8.0, lambda: world.net.join(world.c))
    steps = run(world, 30)
    first = world.records[0][0]
    assert steps[0] == "ab"
    assert [(each.node, each.reason) for each in first.refused if each.reason == AWAY] == [("c", AWAY)]
    joined = steps.index("c")
    assert world.model == joined * 11 + (30 - joined) * 111


def test_without_answers_the_training_ends_in_one_line(world):
    world.clock.at(9.5, lambda: [world.net.leave(peer) for peer in world.peers])
    with pytest.raises(HierfedError, match="0 of 1 nodes have answered, and none for 30 s"):
        run(world, 3)


def test_a_server_that_begins_again_says_so_and_asks_everybody(world):
    before = world.strategy.shared
    world.strategy.shared = SharedModel(before.arrays, 4)
    assert run(world, 6)[:2] == ["", "abc"]
    anew = world.records[0][0]
    assert anew.total is None
    assert [(each.node, each.reason) for each in anew.refused] == [(name, BEGINS_ANEW) for name in "abc"]
    assert world.model == 2 * 111

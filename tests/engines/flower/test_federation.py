"""Rounds of a federation whose nodes fail, dawdle and fall silent, in memory and on a clock of its own."""

from __future__ import annotations

import pytest
from flwr.app import Error, RecordDict

from hierfed.engines.exchange import Reply, Request
from hierfed.engines.flower.federation import Federation
from hierfed.engines.flower.patience import Patience
from hierfed.engines.flower.strategy import RoundOutcome
from hierfed.engines.replies import Refusal
from hierfed.errors import HierfedError
from tests.engines.flower.world import GONE, Answering, Peer, total

LATE = "came after its round had ended"


def test_before_each_round_the_size_of_its_contributions_is_allowed(world):
    allowed = list[int]()
    world.federation = Federation(
        world.net, world.admission, Patience(), lambda: world.clock.now, world.clock.wait, allowed.append
    )
    world.federation.gather(3)
    world.run(2)
    # A contribution is one number in float64.
    assert allowed == [8, 8]


def test_what_a_check_raises_ends_the_wait(lobby):
    class Stop(Exception):
        pass

    def stop() -> None:
        if lobby.clock.now > 7:
            raise Stop

    lobby.admission.checks = stop
    with pytest.raises(Stop):
        lobby.federation.gather(1)


def test_all_answer(world):
    outcome = world.round()
    assert total(outcome) == world.model == 111
    assert (outcome.contributors, outcome.refused, outcome.bytes_up) == ((0, 1, 2), (), 24)
    assert world.clock.now < 1


def test_rounds_go_on_until_the_model_has_seen_so_many(world):
    for peer in world.peers:
        peer.seconds["round"] = 2.0
    began = world.clock.now
    world.run(3)
    assert world.model == 333
    assert [(outcome.name.number, total(outcome), down) for outcome, down, _ in world.records] == [
        (number, 111, 3 * 8) for number in (1, 2, 3)
    ]
    assert [peer.rounds() for peer in world.peers] == [[1, 2, 3]] * 3
    seconds = [each for _, _, each in world.records]
    assert sum(seconds) == pytest.approx(world.clock.now - began)
    assert min(seconds) >= 2
    world.run(3)
    assert len(world.records) == 3


def test_a_node_that_never_answers_is_waited_for_and_then_done_without(world):
    world.c.answers["round"] = None
    outcome = world.round()
    missed = Refusal("c", "has not answered within 10 s")
    assert (total(outcome), outcome.contributors, outcome.refused) == (11, (0, 1), (missed,))
    assert world.clock.now > world.deadline
    assert world.admission.told == ["node c has not answered within 10 s; it is not waited for until it answers"]
    assert len(world.federation.members) == 3
    world.c.answers.clear()
    assert total(world.round()) == 111
    assert world.c.rounds() == [1, 2]


def test_a_silent_node_costs_one_wait_that_follows_from_the_others_and_no_further_one(world):
    """Of a deadline of ten minutes; each round is counted, and the node is asked again, but not for ever."""
    world.federation._patience = Patience(600.0, 3, 4.0, 3.0)
    world.c.answers["round"] = None
    outcome = world.round()
    assert world.clock.now < 35
    assert outcome.refused == (Refusal("c", "has not answered within 30 s"),)
    began = world.clock.now
    for _ in range(6):
        outcome = world.round()
        assert (total(outcome), [each.node for each in outcome.refused]) == (11, ["c"])
    assert world.clock.now - began < 6
    assert len(world.c.rounds()) == 3
    assert len([event for event in world.admission.told if event.startswith("node c")]) == 1


def test_a_node_that_answers_again_is_waited_for_again(world):
    world.federation._patience = Patience(600.0, 3, 4.0, 3.0)
    world.c.seconds["round"] = 100.0
    world.round()
    while world.clock.now < 120:
        world.a.seconds["round"] = 5.0
        world.round()
    world.c.seconds["round"] = 8.0
    assert total(world.round()) in (11, 111)
    assert total(world.round()) == 111


def test_an_answer_in_time_ends_a_silence_although_an_older_message_was_lost(world):
    world.c.answers["round"] = None
    world.round()
    world.c.answers.clear()
    assert total(world.round()) == 111
    world.c.seconds["round"] = 8.0
    assert total(world.round()) == 111


def test_the_end_does_not_wait_for_a_silent_node(world):
    world.c.answers["round"] = None
    world.round()
    for peer in (world.a, world.b):

        def leave(request: Request, peer: Peer = peer) -> Reply:
            world.net.leave(peer)
            return Reply()

        peer.answers["goodbye"] = leave
    began = world.clock.now
    world.federation.dismiss()
    assert world.clock.now < began + world.leaving / 2


def test_a_silent_node_is_asked_in_the_round_in_which_it_answers_again(world):
    """That round needs it for its quorum."""
    world.federation._patience = Patience(600.0, 3, 4.0, 3.0)
    world.c.seconds["round"] = 100.0
    for _ in range(5):
        assert total(world.round()) == 11
    assert world.c.rounds() == [1, 2, 3]
    assert world.clock.now < 60
    world.c.seconds["round"] = 1.0
    world.b.answers["round"] = None
    outcome = world.round()
    assert (total(outcome), outcome.contributors) == (101, (0, 2))
    assert world.c.rounds() == [1, 2, 3, 6]


def test_a_slow_node_is_waited_for_although_there_is_a_quorum(world):
    world.c.seconds["round"] = 0.9 * world.deadline
    assert total(world.round()) == 111


@pytest.mark.parametrize("silent", ["bc", "abc"])
def test_without_a_quorum_a_round_is_tried_again_and_then_given_up(silent, world):
    for peer in world.peers:
        if peer.name in silent:
            peer.answers["round"] = None
    before = world.strategy.shared
    with pytest.raises(HierfedError) as error:
        world.run(2)
    answered = 3 - len(silent)
    assert f"round 1 of 'rating' was abandoned 3 times: {answered} of at least 2 nodes answered" in str(error.value)
    assert "\n" not in str(error.value)
    assert [outcome.total for outcome, _, _ in world.records] == [None] * 3
    assert [len(outcome.contributors) for outcome, _, _ in world.records] == [answered] * 3
    assert [peer.rounds() for peer in world.peers] == [[1, 1, 1]] * 3
    assert world.strategy.shared is before


def test_failures_are_counted_in_a_row(world):
    answers = iter([None, None, "yes", None, None, "yes"])

    def answer(peer: Peer) -> Answering:
        return lambda request: peer.contribute(request) if turn == "yes" else None

    for peer in world.peers:
        peer.answers["round"] = answer(peer)
    turn = next(answers)
    told: list[int] = []

    def on_round(outcome: RoundOutcome, *_: object) -> None:
        nonlocal turn
        told.append(outcome.name.number)
        turn = next(answers, None)

    world.federation.run_rounds(world.strategy, 2, on_round)
    assert told == [1, 1, 1, 2, 2, 2]
    assert world.model == 222


def test_a_late_answer_is_refused_in_the_round_in_which_it_comes(world):
    world.c.seconds["round"] = world.deadline + 3
    assert total(world.round()) == 11
    world.c.seconds.clear()
    world.a.seconds["round"] = 4.0
    second = world.round()
    assert total(second) == 111
    assert second.refused == (Refusal("c", LATE),)
    third = world.round()
    assert (total(third), third.refused) == (111, ())
    assert world.model == 11 + 111 + 111


def test_a_late_answer_is_told_once_although_its_node_leaves(world):
    world.c.seconds["round"] = world.deadline + 3
    world.round()
    world.c.seconds.clear()
    world.a.seconds["round"] = 4.0
    assert world.round().refused == (Refusal("c", LATE),)
    world.net.leave(world.c)
    assert world.round().refused == ()


def test_a_node_that_leaves_without_an_answer_has_given_no_late_one(world):
    world.c.answers["round"] = None
    world.round()
    world.net.leave(world.c)
    outcome = world.round()
    assert (total(outcome), outcome.refused) == (11, ())


def test_a_late_answer_to_an_abandoned_attempt_is_not_counted_in_the_next(world):
    world.rounds_of(quorum=3)
    world.c.seconds["round"] = world.deadline + 1
    assert total(world.round()) is None
    world.c.seconds["round"] = 5.0
    outcome = world.round()
    assert (total(outcome), outcome.refused) == (111, (Refusal("c", LATE),))


def test_a_node_that_leaves_is_not_waited_for(world):
    world.c.answers["round"] = None
    world.clock.at(1.0, lambda: world.net.leave(world.c))
    outcome = world.round()
    assert (total(outcome), outcome.contributors) == (11, (0, 1))
    assert 1 <= world.clock.now < world.deadline
    assert world.admission.told == ["node c is gone"]
    assert sorted(member.name for member in world.federation.members.values()) == ["a", "b"]


def test_what_flower_says_of_nodes_that_are_gone_is_put_down_to_each_of_them(world):
    world.rounds_of(quorum=1)
    for peer in (world.b, world.c):
        peer.answers["round"] = None
        world.clock.at(1.0, lambda peer=peer: world.net.leave(peer))
    outcome = world.round()
    assert total(outcome) == 1
    expected = {Refusal(name, f"failed: {GONE.reason}") for name in "bc"}
    assert len(outcome.refused) == 2
    assert set(outcome.refused) == expected


def test_a_round_without_a_quorum_waits_for_a_comeback(world):
    """A node whose process was killed is done without; the quorum needs it, so there is time until the deadline."""
    world.rounds_of(quorum=3)
    world.net.leave(world.c)
    world.clock.at(8.0, lambda: world.net.join(world.c))
    outcome = world.round()
    assert (total(outcome), outcome.contributors) == (111, (0, 1, 2))
    assert 8 <= world.clock.now < world.deadline


@pytest.mark.parametrize("bad", [Error(1, "MemoryError on the node"), RecordDict(), Reply({"round": 1})])
def test_a_node_that_fails_is_done_without(bad, world):
    world.b.answers["round"] = lambda request: bad
    outcome = world.round()
    assert (total(outcome), outcome.contributors) == (101, (0, 2))
    (refusal,) = outcome.refused
    assert refusal.node == "b"
    assert refusal.reason.startswith("answers training None" if isinstance(bad, Reply) else "failed: ")
    assert world.clock.now < 1
    world.b.answers.clear()
    assert total(world.round()) == 111


def test_answers_come_with_the_names_of_their_nodes(world):
    world.clock.at(1.0, lambda: world.net.leave(world.c))
    world.c.answers["judge"] = None
    world.b.answers["judge"] = lambda request: Error(1, "no rows")
    world.a.answers["judge"] = lambda request: Reply({"rows": request.facts["of"]})
    answers = world.federation.ask(lambda member: Request("judge", {"of": f"{member.name}{member.number}"}), 1)
    found = {answer.name: (answer.number, answer.reply, answer.error) for answer in answers}
    assert found["a"] == (0, Reply({"rows": "a0"}), "")
    assert found["b"] == (1, None, "no rows")
    assert found["c"] == (2, None, GONE.reason)
    assert len(answers) == 3


def test_too_few_answers_are_waited_for_until_the_deadline(world):
    for peer in world.peers:
        peer.answers["judge"] = lambda request: Reply()
        world.net.leave(peer)
    world.clock.at(3.0, lambda: world.net.join(world.a))
    assert [answer.name for answer in world.federation.ask(lambda _: Request("judge"), 1)] == ["a"]
    assert 3 <= world.clock.now < world.deadline
    began = world.clock.now
    assert [answer.name for answer in world.federation.ask(lambda _: Request("judge"), 2)] == ["a"]
    assert began + world.deadline < world.clock.now < began + 2 * world.deadline

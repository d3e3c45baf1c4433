"""Who is a member: nodes that come, go, come back and are turned away, in memory and on a clock of its own."""

from __future__ import annotations

import pytest
from flwr.app import Error, RecordDict

from hierfed.engines.exchange import Member, Reply, Request
from hierfed.engines.replies import Refusal
from tests.engines.flower.world import GONE, Peer, total


def test_gathering_waits_for_those_who_come_however_late(lobby):
    for when, peer in zip([0.0, 30.0, 5000.0], lobby.peers, strict=True):
        lobby.clock.at(when, lambda peer=peer: lobby.net.join(peer))
    lobby.clock.at(4000.0, lambda: lobby.net.leave(lobby.b))
    lobby.clock.at(6000.0, lambda: lobby.net.join(lobby.b))
    lobby.clock.waits = -20_000
    lobby.federation.gather(3)
    assert lobby.clock.now >= 6000
    assert sorted(member.name for member in lobby.federation.members.values()) == ["a", "b", "c"]
    assert lobby.federation.members == {
        node_id: Member(peer.name, "abc".index(peer.name)) for node_id, peer in lobby.net.online.items()
    }
    joined = ["node a has joined", "node b has joined", "node b is gone", "node c has joined", "node b has joined"]
    assert lobby.admission.told == joined


def test_a_member_that_came_long_before_the_plan_is_still_let_in(lobby):
    lobby.admission.planned = False
    lobby.net.join(lobby.a)
    lobby.clock.at(3 * lobby.joining, lambda: lobby.net.join(lobby.b))
    lobby.federation.gather(2)
    assert lobby.a.kinds() == lobby.b.kinds() == ["hello"]
    lobby.admission.planned = True
    for peer in (lobby.a, lobby.b):
        peer.seconds["setup"] = lobby.joining / 2
    assert total(lobby.round()) == 11
    assert lobby.a.kinds() == lobby.b.kinds() == ["hello", "setup", "round"]


@pytest.mark.parametrize("away", [1.0, 0.0], ids=["seen", "unseen"])
@pytest.mark.parametrize("same", [True, False], ids=["same id", "new id"])
def test_a_node_that_comes_back_within_a_round_is_asked_again_and_counted_once(same, away, world):
    world.rounds_of(quorum=3)
    (node_id,) = (node_id for node_id, peer in world.net.online.items() if peer is world.c)
    world.c.answers["round"] = None

    def come_back() -> None:
        world.c.answers.clear()
        world.net.join(world.c, node_id if same else None)

    world.clock.at(2.0, lambda: world.net.leave(world.c))
    world.clock.at(2.0 + away, come_back)
    outcome = world.round()
    assert (total(outcome), outcome.contributors) == (111, (0, 1, 2))
    assert world.clock.now < world.deadline
    assert world.c.kinds() == ["round", "hello", "setup", "round"]
    assert world.admission.told == ["node c is gone", "node c has joined"]
    # Of a message to a node that it has seen leave, Flower says so.
    expected = () if same and not away else (Refusal("c", f"failed: {GONE.reason}"),)
    assert outcome.refused == expected
    assert total(world.round()) == 111


@pytest.mark.parametrize("same", [True, False], ids=["same id", "new id"])
def test_a_node_that_comes_back_after_it_has_answered_is_counted_once(same, world):
    (node_id,) = (node_id for node_id, peer in world.net.online.items() if peer is world.c)
    world.b.seconds["round"] = 6.0
    world.clock.at(2.0, lambda: world.net.leave(world.c))
    world.clock.at(3.0, lambda: world.net.join(world.c, node_id if same else None))
    outcome = world.round()
    assert (total(outcome), outcome.contributors) == (111, (0, 1, 2))
    assert outcome.refused == (Refusal("c", "a second answer to the same round"),)


def test_a_node_that_has_begun_again_between_two_requests_is_greeted_before_it_is_asked(world):
    (node_id,) = (node_id for node_id, peer in world.net.online.items() if peer is world.c)
    world.net.leave(world.c)
    world.net.join(world.c, node_id)
    world.federation.ask(lambda _: Request("finish"), 3)
    assert world.c.kinds() == ["hello", "setup", "finish"]
    assert world.a.kinds() == world.b.kinds() == ["finish"]


def test_two_answers_of_a_node_are_not_taken_for_those_of_two(world):
    world.net.leave(world.a)
    world.b.answers["round"] = None
    world.clock.at(1.0, lambda: world.net.leave(world.b))
    world.clock.at(2.0, lambda: world.net.leave(world.c))
    world.clock.at(3.0, lambda: world.net.join(world.c))
    world.clock.at(6.0, lambda: world.net.join(Peer("b")))
    assert total(world.round()) == 110


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_new_connection_takes_the_place_of_one_that_flower_still_believes_in(number, world):
    """A node that was killed is online for Flower until it has been silent for long enough."""
    world.rounds_of(quorum=3)
    old = world.peers[number]
    old.answers["round"] = None
    new = Peer(old.name)
    world.clock.at(1.0, lambda: world.net.join(new))
    outcome = world.round()
    assert (total(outcome), outcome.refused) == (111, ())
    assert world.clock.now < world.deadline
    assert len(world.federation.members) == 3
    assert total(world.round()) == 111
    assert old.rounds() == [1]
    assert new.rounds() == [1, 2]
    world.net.leave(old)
    assert total(world.round()) == 111
    assert world.admission.told == [f"node {old.name} has joined"]


def test_what_a_connection_answers_that_was_given_up_is_nobodys(world):
    world.rounds_of(quorum=3)
    world.c.seconds["round"] = 3.0
    world.clock.at(1.0, lambda: world.net.join(Peer("c")))
    world.a.seconds["round"] = 6.0
    outcome = world.round()
    assert (total(outcome), outcome.refused) == (111, ())


def test_a_connection_that_was_given_up_while_it_was_set_up_is_forgotten(world):
    """Its late answer is no introduction, and its silence is no reason to turn anyone away."""
    world.net.leave(world.c)
    old, new = Peer("c", seconds={"setup": 2.0}), Peer("c")
    world.net.join(old)
    world.clock.at(0.5, lambda: world.net.join(new))
    world.a.seconds["round"] = 6.0
    assert total(world.round()) == 111
    assert world.admission.told == ["node c is gone", "node c has joined", "node c has joined"]
    assert old.kinds() == ["hello", "setup"]


def test_a_node_that_comes_in_the_middle_of_a_round_takes_part_in_it(lobby):
    lobby.net.join(lobby.a)
    lobby.net.join(lobby.b)
    lobby.federation.gather(2)
    lobby.a.seconds["round"] = 5.0
    lobby.clock.at(3.0, lambda: lobby.net.join(lobby.c))
    assert total(lobby.round()) == 111


@pytest.mark.parametrize("kind", ["hello", "setup", "round"])
def test_a_message_that_flower_does_not_take_is_sent_again(kind, lobby):
    lobby.net.lost = [("b", kind)]
    for peer in lobby.peers:
        lobby.net.join(peer)
    lobby.rounds_of(quorum=3)
    lobby.federation.gather(1)
    outcome = lobby.round()
    assert (total(outcome), outcome.refused) == (111, ())
    assert lobby.net.lost == []
    assert lobby.b.kinds() == ["hello", "setup", "round"]
    assert lobby.clock.now < lobby.deadline


def test_a_stranger_is_turned_away_and_hears_why(world):
    stranger = Peer("d")
    world.net.join(stranger)
    assert total(world.round()) == 111
    assert stranger.kinds() == ["hello", "goodbye"]
    assert stranger.farewells() == ["'d' is not expected"]
    assert world.admission.told == ["a node is refused: 'd' is not expected"]
    assert world.clock.now < world.joining
    assert sorted(member.name for member in world.federation.members.values()) == ["a", "b", "c"]
    assert total(world.round()) == 111
    assert stranger.kinds() == ["hello", "goodbye"]


@pytest.mark.parametrize("kind", ["hello", "setup"])
@pytest.mark.parametrize("answer", [Error(1, "ValueError on the node"), RecordDict()], ids=["error", "foreign"])
def test_a_node_that_fails_to_introduce_itself_or_to_be_set_up_is_turned_away(kind, answer, world):
    world.net.leave(world.c)
    other = Peer("c", {kind: lambda request: answer})
    world.net.join(other)
    outcome = world.round()
    assert (total(outcome), outcome.refused) == (11, ())
    (reason,) = other.farewells()
    assert ("ValueError on the node" if isinstance(answer, Error) else "cannot be read") in str(reason)
    assert sorted(member.name for member in world.federation.members.values()) == ["a", "b"]
    assert world.clock.now < world.joining


@pytest.mark.parametrize("kind", ["hello", "setup"])
def test_a_node_that_is_silent_while_it_joins_is_waited_for_and_turned_away(kind, world):
    world.net.leave(world.c)
    silent = Peer("c", {kind: None})
    world.net.join(silent)
    outcome = world.round()
    assert (total(outcome), outcome.refused) == (11, ())
    assert world.joining < world.clock.now < world.deadline
    assert silent.farewells() == ["did not answer within 4 s"]
    assert world.admission.told[-1].endswith("is refused: did not answer within 4 s")
    assert total(world.round()) == 11
    assert silent.kinds().count("goodbye") == 1


def test_all_members_hear_that_it_is_over_and_leave(world):
    for when, peer in zip([0.0, 1.0, 2.0], world.peers, strict=True):

        def go(request: Request, when: float = when, peer: Peer = peer) -> Reply:
            world.clock.at(world.clock.now + when, lambda: world.net.leave(peer))
            return Reply()

        peer.answers["goodbye"] = go
    world.federation.dismiss()
    assert [peer.farewells() for peer in world.peers] == [[None]] * 3
    assert world.net.online == {}
    assert world.federation.members == {}
    assert 2 <= world.clock.now < world.leaving
    assert world.admission.told == []


def test_members_that_do_not_leave_are_not_waited_for_long(world):
    world.federation.dismiss()
    assert [peer.farewells() for peer in world.peers] == [[None]] * 3
    assert world.leaving <= world.clock.now < 2 * world.leaving


def test_who_comes_when_it_is_over_is_told_so_at_once(world):
    late = Peer("late")
    world.clock.at(1.0, lambda: world.net.join(late))
    world.federation.dismiss()
    assert late.kinds() == ["goodbye"]
    assert late.farewells() == [None]


def test_without_members_there_is_nobody_to_dismiss(lobby):
    lobby.federation.dismiss()
    assert lobby.clock.waits == 0

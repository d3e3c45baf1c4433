"""A federation whose nodes come, go, fail and dawdle, in memory and on a clock of its own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest
import torch
from flwr.app import Error, Message, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid

from hierfed.data.federation import Node
from hierfed.engines.exchange import Member, Reply, Request
from hierfed.engines.flower.federation import AdmissionRefused, Change, Federation, Patience
from hierfed.engines.flower.records import read_request, reply_records
from hierfed.engines.flower.strategy import RoundOutcome, SumStrategy
from hierfed.engines.replies import NodeAnswer, Refusal
from hierfed.errors import HierfedError
from hierfed.federated.checks import Check
from hierfed.federated.contract import Contribution, SharedModel
from hierfed.federated.private import PrivateState

SUPERLINK = 1
GONE = Error(3, "Node Unavailable")
LATE = "came after its round had ended"
Wire = Callable[[Message], Message]
Answering = Callable[[Request], Reply | Error | RecordDict | None]


class Adding:
    """A model of one number, to which each round adds 1 from node 0, 10 from node 1, 100 from node 2..."""

    def start(self) -> SharedModel:
        return SharedModel({"number": torch.zeros(1, dtype=torch.float64)})

    def contribute(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> Iterator[tuple[Contribution, None]]:
        for node in nodes:
            yield Contribution({"sum": torch.full((1,), 10.0**node.number, dtype=torch.float64)}), None

    def checks(self, shared: SharedModel) -> tuple[Check, ...]:
        return ()

    def combine(self, shared: SharedModel, total: Contribution) -> SharedModel:
        return SharedModel({"number": shared.arrays["number"] + total.arrays["sum"]}, shared.round + 1)


@dataclass
class Clock:
    """Time that passes only while somebody waits; what is due happens then."""

    now: float = 0.0
    due: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    waits: int = 0

    def at(self, when: float, event: Callable[[], None]) -> None:
        self.due.append((when, event))

    def wait(self, seconds: float) -> None:
        assert seconds > 0
        self.waits += 1
        assert self.waits < 5000, "the server waits for ever"
        self.now += seconds
        for when, event in sorted((each for each in self.due if each[0] <= self.now), key=lambda each: each[0]):
            self.due.remove((when, event))
            event()


@dataclass
class Peer:
    """A node: what it answers to each kind of request, and after how many seconds. None: never."""

    name: str
    answers: dict[str, Answering | None] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    heard: list[Request] = field(default_factory=list)
    number: int = -1

    def answer(self, request: Request) -> Reply | Error | RecordDict | None:
        self.heard.append(request)
        own = {"hello": self._hello, "setup": self._setup, "round": self.contribute}
        own |= {"finish": lambda _: Reply(), "goodbye": lambda _: Reply()}
        answering = {**own, **self.answers}[request.kind]
        return None if answering is None else answering(request)

    def _hello(self, request: Request) -> Reply:
        return Reply({"name": self.name})

    def _setup(self, request: Request) -> Reply:
        self.number = int(request.facts["number"])
        return Reply()

    def contribute(self, request: Request) -> Reply:
        facts = {**request.facts, "number": self.number}
        return Reply(facts, Contribution({"sum": torch.full((1,), 10.0**self.number, dtype=torch.float64)}))

    def kinds(self) -> list[str]:
        return [request.kind for request in self.heard]

    def rounds(self) -> list[object]:
        return [request.facts["round"] for request in self.heard if request.kind == "round"]

    def farewells(self) -> list[object]:
        return [request.facts.get("reason") for request in self.heard if request.kind == "goodbye"]


class Net(Grid):
    """Flower's server: it knows who is online, and keeps messages and replies."""

    def __init__(self, clock: Clock, wire: Wire):
        self._clock, self._wire = clock, wire
        self.online: dict[int, Peer] = {}
        self.came: dict[int, str] = {}
        self.lost: list[tuple[str, str]] = []
        self._sent: dict[str, Message] = {}
        self._replies: dict[str, tuple[float, Message]] = {}
        self._delivered: set[str] = set()
        self._ids, self._counts = itertools.count(1000), itertools.count()

    def join(self, peer: Peer, node_id: int | None = None) -> int:
        node_id = next(self._ids) if node_id is None else node_id
        self.online[node_id], self.came[node_id] = peer, f"time {next(self._counts)}"
        return node_id

    def leave(self, peer: Peer) -> None:
        self.online = {node_id: each for node_id, each in self.online.items() if each is not peer}

    def get_nodes(self) -> Iterable[NodeInfo]:
        return [NodeInfo(node_id=node_id, last_activated_at=self.came[node_id]) for node_id in self.online]

    def get_node_ids(self) -> Iterable[int]:
        return list(self.online)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return [self._push(message) for message in messages]

    def _push(self, message: Message) -> str | None:
        peer, message_id = self.online.get(message.metadata.dst_node_id), f"message {next(self._counts)}"
        message.metadata.__dict__["_message_id"] = message_id
        request = read_request(self._wire(message))
        if peer is None or (peer.name, request.kind) in self.lost:
            if peer is not None:
                self.lost.remove((peer.name, request.kind))
            return None
        self._sent[message_id] = message
        answer = peer.answer(request)
        if answer is not None:
            content = reply_records(answer) if isinstance(answer, Reply) else answer
            reply = self._wire(Message(content, reply_to=message))
            self._replies[message_id] = self._clock.now + peer.seconds.get(request.kind, 0.0), reply
        return message_id

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        found = []
        for message_id in message_ids:
            assert message_id not in self._delivered, "a reply is asked for that has been given"
            message, (ready, reply) = self._sent[message_id], self._replies.get(message_id, (float("inf"), None))
            if message.metadata.dst_node_id not in self.online:
                error = Message(GONE, reply_to=message)
                error.metadata.__dict__["_src_node_id"] = SUPERLINK
                found.append(error)
            elif ready <= self._clock.now:
                found.append(reply)
        self._delivered |= {reply.metadata.reply_to_message_id for reply in found}
        return found

    def set_run(self, run: object) -> None:
        raise NotImplementedError

    @property
    def run(self):
        raise NotImplementedError

    def create_message(self, *_: object, **__: object) -> Message:
        raise NotImplementedError

    def send_and_receive(self, *_: object, **__: object) -> Iterable[Message]:
        raise NotImplementedError


@dataclass
class NamedAdmission:
    """An admission that lets in those whom it knows, under their place in the list."""

    names: list[str]
    planned: bool = True
    told: list[str] = field(default_factory=list)
    heard: list[NodeAnswer] = field(default_factory=list)
    checks: Callable[[], None] = lambda: None

    def hello(self) -> Request:
        return Request("hello", {"version": 1})

    def admit(self, reply: Reply) -> str:
        name = reply.facts["name"]
        if name not in self.names:
            raise AdmissionRefused(f"'{name}' is not expected")
        return str(name)

    def number(self, name: str) -> int:
        return self.names.index(name)

    def nodes_of(self, name: str) -> list[str]:
        return [name]

    def setup(self, member: Member) -> Request | None:
        return Request("setup", {"number": member.number}) if self.planned else None

    def on_answer(self, answer: NodeAnswer) -> None:
        self.heard.append(answer)

    def changed(self, change: Change) -> None:
        self.told.append(str(change))

    def tell(self, event: str) -> None:
        self.told.append(event)

    def check(self) -> None:
        self.checks()


class World:
    """A server, and nodes a, b and c, whose contributions are 1, 10 and 100."""

    deadline, joining, leaving, attempts = 10.0, 4.0, 3.0, 3

    def __init__(self, wire: Wire):
        self.clock = Clock()
        self.net, self.admission = Net(self.clock, wire), NamedAdmission(["a", "b", "c"])
        patience = Patience(self.deadline, self.attempts, self.joining, self.leaving)
        self.federation = Federation(self.net, self.admission, patience, lambda: self.clock.now, self.clock.wait)
        self.a, self.b, self.c = self.peers = [Peer(name) for name in "abc"]
        self.records: list[tuple[RoundOutcome, int, float]] = []
        self.strategy = self.rounds_of(quorum=2)

    def rounds_of(self, quorum: int) -> SumStrategy:
        self.strategy = SumStrategy(Adding(), Adding().start(), "training 1", "rating", quorum)
        return self.strategy

    def begin(self) -> None:
        """All three are members, and know what they need."""
        for peer in self.peers:
            self.net.join(peer)
        self.federation.gather(3)
        self.federation.ask(lambda _: Request("finish"), 3)
        for peer in self.peers:
            assert peer.kinds() == ["hello", "setup", "finish"]
            peer.heard.clear()
        self.admission.told.clear()
        self.clock.now = 0.0

    def round(self) -> RoundOutcome:
        return self.federation.run_round(self.strategy)

    def run(self, rounds: int) -> None:
        self.federation.run_rounds(self.strategy, rounds, lambda *record: self.records.append(record))

    @property
    def model(self) -> float:
        return self.strategy.shared.arrays["number"].item()


@pytest.fixture
def lobby(wire: Wire) -> World:
    """A world before anyone has come."""
    return World(wire)


@pytest.fixture
def world(lobby: World) -> World:
    """A world with three members."""
    lobby.begin()
    return lobby


def total(outcome: RoundOutcome) -> float | None:
    return None if outcome.total is None else outcome.total.arrays["sum"].item()


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

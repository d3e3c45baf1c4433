"""Peers in threads, whose letters go from hand to hand: what a server's star gives, whoever is gone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hierfed.data.federation import Node
from hierfed.engines.exchange import Request
from hierfed.engines.in_process import run_rounds
from hierfed.engines.peers.absent import AbsentSums
from hierfed.engines.peers.letters import MASS, STATEMENT, Inbox, Waiting
from hierfed.engines.peers.rounds import PeerRounds, Terms
from hierfed.errors import HierfedError
from hierfed.federated.contract import Contribution, SharedModel, ordered_sum
from hierfed.federated.tables import GRAPHS
from hierfed.ledger.keys import public_text
from hierfed.ledger.shared import PeersOpening, SharedLedger, Statement, read_signed, sign
from hierfed.methods.item_biases.item_biases import ItemBiases

USERS, ITEMS, ROUNDS = 24, 15, 4


@dataclass
class Hands:
    """Brings letters from thread to thread. gone: peers that nobody reaches. change: what is done to a letter."""

    inboxes: list[Inbox]
    gone: set[int] = field(default_factory=set)
    change: Callable[[int, int, Request], Request] = lambda sender, to, letter: letter

    def of(self, me: int) -> Hand:
        return Hand(self, me)


@dataclass
class Hand:
    hands: Hands
    me: int

    def send(self, peer: int, letter: Request) -> bool:
        if {self.me, peer} & self.hands.gone:
            return False
        for _ in range(2):  # Each letter comes twice.
            self.hands.inboxes[peer].put(self.me, self.hands.change(self.me, peer, letter))
        return True

    def reaches(self, peer: int) -> bool:
        return not {self.me, peer} & self.hands.gone


class Killed(Exception):
    """The process of a peer has ended."""


@dataclass
class Peers:
    """Peers of these nodes, each a thread; `end` holds each one's last model or error.

    killed: the round after which a peer dies. leaves: nobody waits for one that has failed. keeps: last sums stay.
    """

    nodes: list[Node]
    method: object
    graph: str = "exponential"
    quorum: int = 2
    killed: dict[int, int] = field(default_factory=dict)
    leaves: bool = False
    keeps: bool = False

    def __post_init__(self) -> None:
        names = [f"peer {number}" for number in range(len(self.nodes))]
        self.keys = [Ed25519PrivateKey.generate() for _ in names]
        peers = {name: public_text(key) for name, key in zip(names, self.keys, strict=True)}
        nothing = "0" * 64
        self.opening = PeersOpening(
            training="0" * 16, settings=nothing, catalogue=nothing, limits=(0.5, 5.0), peers=peers
        )
        self.hands = Hands([Inbox() for _ in names])
        self.end: dict[int, SharedModel | Exception] = {}
        self.rounds = [self._rounds(names, number) for number in range(len(names))]

    def _rounds(self, names: list[str], me: int) -> PeerRounds:
        terms = Terms(names, me, self.quorum, GRAPHS[self.graph])
        ledger, post = SharedLedger(self.opening), self.hands.of(me)
        return PeerRounds(terms, post, self.hands.inboxes[me], ledger, self.keys[me], Waiting(0.0, 20.0))

    def train(self) -> Peers:
        threads = [threading.Thread(target=self._one, args=(number,)) for number in range(len(self.nodes))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return self

    def _one(self, me: int) -> None:
        shared, private, method = self.method.start(), None, self.method
        absent = AbsentSums(method) if self.keeps else None
        try:
            while shared.round < ROUNDS:
                contribution, private = next(iter(method.contribute(shared, [self.nodes[me]], [private])))
                if self.killed.get(me) == shared.round:
                    self.hands.gone.add(me)
                    raise Killed
                before = shared

                def combine(total: Contribution, before: SharedModel = before) -> SharedModel:
                    return method.combine(before, total)

                shared, _ = self.rounds[me].run("rating", shared.round + 1, contribution, combine, absent, shared)
            self.rounds[me].end()
            self.end[me] = shared
        except (HierfedError, Killed) as error:
            self.end[me] = error
            if self.leaves:
                self.hands.gone.add(me)


@pytest.fixture(scope="module")
def ratings(make_pairs):
    return make_pairs(USERS, ITEMS, seed=1)


@pytest.fixture
def peers(ratings, divide_users, make_content, make_factors):
    def made(count: int, factors: bool = False, **how) -> Peers:
        nodes = divide_users(ratings, [user % count for user in range(USERS)])
        large = make_factors(make_content(ITEMS), momentum=0.85) if factors else None
        return Peers(nodes, large or ItemBiases(ITEMS, 2, (0.5, 5.0)), **how)

    return made


def apart(one: SharedModel | Exception, other: SharedModel | Exception) -> float:
    assert isinstance(one, SharedModel), one
    assert isinstance(other, SharedModel), other
    assert one.round == other.round
    return max(float((array - other.arrays[name]).abs().max()) for name, array in one.arrays.items())


@pytest.mark.parametrize(
    ("count", "graph", "factors"), [(4, "exponential", True), (3, "exponential", False), (5, "complete", False)]
)
def test_every_peer_has_the_servers_model_and_one_ledger(peers, count, graph, factors):
    found = peers(count, factors, graph=graph).train()
    wanted = run_rounds(found.method, found.nodes, ROUNDS).shared
    assert all(apart(found.end[number], wanted) < 1e-9 for number in range(count))
    lines = [each.ledger.lines for each in found.rounds]
    assert all(each == lines[0] for each in lines)
    assert len(lines[0]) == 1 + ROUNDS - found.method.start().round + 1


def test_a_peer_that_is_gone_is_left_out_and_the_others_finish(peers):
    """What is left is a star of those that are left, from the model of the round before."""
    found = peers(4, killed={2: 2}).train()
    assert isinstance(found.end[2], Killed)
    before = run_rounds(found.method, found.nodes, 2)
    left = [0, 1, 3]
    states = [before.private[number] for number in left]
    shared = before.shared
    while shared.round < ROUNDS:
        given = list(found.method.contribute(shared, [found.nodes[number] for number in left], states))
        states = [state for _, state in given]
        shared = found.method.combine(shared, sum((each for each, _ in given[1:]), given[0][0]))
    assert all(apart(found.end[number], shared) < 1e-9 for number in left)
    assert all(found.rounds[number].members == (0, 1, 3) for number in left)
    assert len({tuple(found.rounds[number].ledger.lines) for number in left}) == 1


@pytest.mark.parametrize("killed", [{2: 1}, {2: 2}, {2: 2, 3: 3}, {2: 2, 3: 2}], ids=str)
def test_the_last_sum_of_a_peer_that_is_gone_stays(killed, make_pairs, divide_users, make_content, make_factors):
    """A star that adds the last sum of each node that has left, from where the model is now."""
    nodes = divide_users(make_pairs(60, 60, seed=1), [user % 4 for user in range(60)])
    large = make_factors(make_content(60), momentum=0.85, threshold=10, kernel=None)
    found = Peers(nodes, large, killed=killed, keeps=True).train()
    method, private, last = found.method, [None] * 4, {}
    shared = method.start()
    while shared.round < ROUNDS:
        for number, node in enumerate(found.nodes):
            if killed.get(number, ROUNDS) > shared.round:
                (given, private[number]) = next(iter(method.contribute(shared, [node], [private[number]])))
                last[number] = given, shared
        shared = method.combine(shared, ordered_sum(method.brought(*last[number], shared) for number in range(4)))
    left = [number for number in range(4) if number not in killed]
    assert float(shared.arrays["rare_offset"]) != 0
    assert all(apart(found.end[number], shared) < 1e-8 for number in left)


def test_a_peer_that_is_gone_before_the_first_sum_is_left_out(peers):
    """Its sum of an opening round is one of other things."""
    found = peers(4, factors=True, killed={2: 0}, keeps=True).train()
    method, private = found.method, [None] * 4
    shared = method.start()
    while shared.round < ROUNDS:
        places = [number for number in range(4) if shared.round < 0 or number != 2]
        given = []
        for number in places:
            contribution, private[number] = next(
                iter(method.contribute(shared, [found.nodes[number]], [private[number]]))
            )
            given.append(contribution)
        shared = method.combine(shared, ordered_sum(given))
    assert all(apart(found.end[number], shared) < 1e-8 for number in (0, 1, 3))


def test_below_the_quorum_nobody_goes_on(peers):
    found = peers(4, killed={0: 1}, quorum=4).train()
    assert all("--quorum" in str(found.end[number]) for number in (1, 2, 3))


def test_a_peer_that_shows_two_histories_is_named(peers):
    """Peer 1 signs another model for peer 3 than for the others."""
    found = peers(4)

    def lie(sender: int, to: int, letter: Request) -> Request:
        if (sender, to, letter.kind, letter.facts["position"]) != (1, 3, STATEMENT, 2):
            return letter
        said = read_signed(str(letter.facts["said"]).encode()).statement
        other = Statement(**{**said.model_dump(), "model": "f" * 64})
        return Request(letter.kind, {**letter.facts, "said": sign(found.keys[1], other).model_dump_json()})

    found.hands.change = lie
    found.train()
    for number in (0, 2, 3):
        assert "peer peer 1 shows two histories" in str(found.end[number])


def test_a_round_that_is_over_for_one_is_over_for_all(peers, monkeypatch):
    """Peer 2 dies while it signs: peers 0 and 1 have its signature, and peer 3 takes it over from them."""
    found, over = peers(4), threading.Semaphore(0)
    for number in (0, 1):
        ledger = found.rounds[number].ledger

        def append(said, ledger: SharedLedger = ledger, append=ledger.append) -> bytes:
            line = append(said)
            if ledger.position == 4:
                over.release()
            return line

        monkeypatch.setattr(ledger, "append", append)

    def die(sender: int, to: int, letter: Request) -> Request:
        if (sender, to, letter.kind, letter.facts["position"]) == (2, 3, STATEMENT, 3):
            assert all(over.acquire(timeout=20) for _ in (0, 1))
            found.hands.gone.add(2)
            raise Killed
        return letter

    found.hands.change = die
    found.train()
    assert isinstance(found.end[2], Killed)
    assert apart(found.end[0], found.end[3]) < 1e-9
    lines = found.rounds[3].ledger.lines
    assert lines == found.rounds[0].ledger.lines
    assert "peer 2" in lines[3].decode()
    assert "peer 2" not in lines[4].decode()


def test_what_is_sent_is_the_stars_times_log2_n(peers):
    found = peers(4)
    found.train()
    assert all(each.sent == found.rounds[0].sent for each in found.rounds)
    sent = []
    run_rounds(found.method, found.nodes, ROUNDS, lambda done: sent.append(done.bytes_up))
    # A weight goes with each message.
    messages = 2 * (ROUNDS - found.method.start().round)
    assert found.rounds[0].sent == 2 * sum(sent) // 4 + 8 * messages


def test_a_letter_that_is_no_part_of_the_sum_is_refused(peers):
    found = peers(2, leaves=True)

    def wild(sender: int, to: int, letter: Request) -> Request:
        arrays = {name: array * float("nan") for name, array in letter.arrays.items()} if sender == 1 else letter.arrays
        return Request(letter.kind, letter.facts, arrays) if letter.kind == MASS else letter

    found.hands.change = wild
    found.train()
    assert "sends what is no part of this sum" in str(found.end[0])

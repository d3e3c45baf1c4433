"""The rounds of one peer among others, in step with them: exchanges, a ledger that all sign, and who is still there.

A round is over for a peer once all members have signed that they have its model; so whoever is over, all others have
exchanged their sums. Where a member is gone, the others agree anew who is there (a view), take over the signatures of
a round that is over for one of them, and repeat the one that is over for nobody, without the member. Members only ever
become fewer, and below the quorum nobody goes on: two halves of a torn network do not both train. The last sum of a
member that is gone stays; see hierfed.engines.peers.absent.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hierfed.engines.exchange import Fact, Request
from hierfed.engines.gossip import with_whole_counts
from hierfed.engines.peers.absent import AbsentSums
from hierfed.engines.peers.letters import (
    HEARD,
    HISTORY,
    LOOK_SECONDS,
    MASS,
    REGROUP,
    STATEMENT,
    Inbox,
    Post,
    Slot,
    Waiting,
    peers_in,
)
from hierfed.engines.peers.mass import OwnMass, exchanges_needed
from hierfed.errors import HierfedError
from hierfed.federated.contract import Contribution, SharedModel
from hierfed.federated.graphs import Graph
from hierfed.ledger.chain import BrokenLink
from hierfed.ledger.shared import END, SharedLedger, Signed, Statement, read_entry, read_signed, sign, two_histories

ARRAY = "mass"


class _Gone(Exception):
    """A peer cannot be waited for any longer, or others have called for a new view."""

    def __init__(self, peers: frozenset[int] = frozenset()):
        self.peers = peers


@dataclass(frozen=True)
class Terms:
    """Facts of the rounds that all peers know.

    names: the peers', by number. me: this one's number. quorum: the fewest that go on.
    exchanges: of a round; 0 for as many as bring all to one total.
    """

    names: Sequence[str]
    me: int
    quorum: int
    graph: Graph
    seed: int = 0
    exchanges: int = 0


@dataclass
class PeerRounds:
    """The rounds of one peer; `run` makes one. tell: takes a line for each event.

    view: how often the members were agreed on anew. members: the numbers of those that are there. sent: bytes of sums.
    """

    terms: Terms
    post: Post
    inbox: Inbox
    ledger: SharedLedger
    key: Ed25519PrivateKey
    waiting: Waiting = field(default_factory=Waiting)
    tell: Callable[[str], None] = lambda event: None
    clock: Callable[[], float] = time.monotonic
    view: int = 0
    members: tuple[int, ...] = ()
    sent: int = 0
    _suspects: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.members = tuple(range(len(self.terms.names)))

    def run(
        self,
        stage: str,
        number: int,
        contribution: Contribution,
        combine: Callable[[Contribution], SharedModel],
        absent: AbsentSums | None = None,
        now: SharedModel | None = None,
    ) -> tuple[SharedModel, Contribution]:
        """The model after this round, and its total.

        absent: keeps the sums of members that are gone; needs the model that the round begins with, `now`.
        Raises HierfedError where too few are left, where the others go on without this peer, and where one of them
        shows two histories, which it names.
        """
        shared, total = None, contribution
        while True:
            try:
                if absent is None or now is None:
                    total = self._exchange(contribution, number)
                else:
                    total = absent.total(self._exchange(absent.outgoing(contribution, now, self.members), number))
                shared = combine(total)
                self._settle(stage, number, shared.digest())
                break
            except _Gone as gone:
                if self._regroup(gone.peers):
                    if shared is None:
                        raise HierfedError(
                            "another peer shows a round as over in which this one took no part"
                        ) from gone
                    break
        if absent is not None:
            absent.finish()
        return shared, total

    def end(self) -> None:
        """Stay until all members have all that they need; whoever is gone by then needs nothing."""
        while len(self.members) > 1:
            try:
                self._settle(END, 0, self.ledger.head)
                return
            except _Gone as gone:
                try:
                    self._regroup(gone.peers)
                except HierfedError as error:
                    self.tell(f"the last entry is not signed by all: {error}")
                    return

    def _exchange(self, contribution: Contribution, number: int) -> Contribution:
        peers = len(self.members)
        neighbours = self.terms.graph(peers, self.terms.seed)
        mass = OwnMass.of(contribution, self.members.index(self.terms.me), peers, neighbours)
        # Opening rounds count, and thresholds are applied to counts: all peers must have the same.
        fixed = self.terms.exchanges if number > 0 else 0
        position, view = self.ledger.position, self.view
        for exchange in range(fixed or exchanges_needed(neighbours, peers)):
            for other, (count, sent) in mass.send(exchange).items():
                self._send(self.members[other], Request(MASS, self._place(count), {ARRAY: sent}))
                self.sent += sent.nbytes
            for other, count in mass.awaited(exchange).items():
                sender = self.members[other]

                come = partial(self.inbox.first, MASS, position, view, count, sender)
                letter = self._wait(sender, come)
                found = letter.arrays.get(ARRAY)
                like = None if found is None else (found.shape, found.dtype)
                if found is None or like != (mass.held.shape, mass.held.dtype) or not bool(found.isfinite().all()):
                    raise HierfedError(f"peer {self.terms.names[sender]} sends what is no part of this sum")
                mass.take(other, (int(letter.facts["number"]), found))
        total = mass.total(contribution)
        return with_whole_counts(total) if number < 1 else total

    def _settle(self, stage: str, number: int, model: str) -> None:
        """Sign the round, and wait until all members have."""
        said = Statement(
            training=self.ledger.opening.training,
            position=self.ledger.position,
            previous=self.ledger.head,
            view=self.view,
            stage=stage,
            round=number,
            members=[self.terms.names[member] for member in self.members],
            model=model,
        )
        own = sign(self.key, said)
        signed = {self.terms.names[self.terms.me]: own}
        letter = Request(STATEMENT, {**self._place(), "said": own.model_dump_json()})
        for member in self._others():
            self._send(member, letter)
        for member in self._others():
            slot = (STATEMENT, self.ledger.position, self.view, 0, member)
            found = self._wait(member, partial(self.inbox.find, slot))
            signed[self.terms.names[member]] = self._checked(member, found)
        try:
            self.ledger.append(signed)
        except BrokenLink as broken:
            raise HierfedError(f"the peers' ledger: the entry {broken}") from broken
        self.inbox.forget(self.ledger.position)

    def _checked(self, member: int, letter: Request) -> Signed:
        name = self.terms.names[member]
        try:
            signed = read_signed(str(letter.facts.get("said")).encode())
            if signed.statement.previous != self.ledger.head:
                self._name_the_liar(member)
            self.ledger.check(name, signed)
        except BrokenLink as broken:
            raise HierfedError(f"the peers' ledger: a statement {broken}") from broken
        return signed

    def _name_the_liar(self, member: int) -> None:
        """Show the last line to all, and raise HierfedError that names who has signed two histories."""
        line, position = self.ledger.lines[-1], self.ledger.position
        for other in self._others():
            self.post.send(other, Request(HISTORY, {**self._place(), "line": line.decode()}))

        def liars() -> list[str]:
            slots = [(HISTORY, position, self.view, 0, other) for other in self._others()]
            shown = [letter for slot in slots if (letter := self.inbox.find(slot)) is not None]
            return two_histories(
                [line, *(str(each.facts["line"]).encode() for each in shown)], self.ledger.opening.peers
            )

        self.inbox.wait(lambda: bool(liars()), self.waiting.deadline)
        found = liars()
        if found:
            raise HierfedError(
                f"peer {', '.join(found)} shows two histories: it has signed two entries for one line of the ledger, "
                f"number {position}"
            )
        raise HierfedError(
            f"peer {self.terms.names[member]} follows another history, and shows no signatures of the others for it"
        )

    def _regroup(self, gone: frozenset[int]) -> bool:
        """Agree anew who is there; True where the round is over, since it was for another member."""
        self._suspects |= gone
        while True:
            self.view = max(self.view + 1, self.inbox.newest_view())
            for member in self._others():
                if member not in self._suspects:
                    self.post.send(member, self._call())
            for member in self._others():
                if member in self._suspects:
                    continue
                found = self._hear((REGROUP, 0, self.view, 0, member), member)
                self._suspects |= set() if found is None else set(peers_in(found))
            if self.terms.me in self._suspects:
                raise HierfedError("the other peers go on without this one: they could not reach it")
            heard = tuple(member for member in self.members if member not in self._suspects)
            for member in heard:
                if member != self.terms.me:
                    self.post.send(member, Request(HEARD, {**self._place(0, 0), "heard": json.dumps(heard)}))
            agreed = True
            for member in heard:
                if member != self.terms.me:
                    found = self._hear((HEARD, 0, self.view, 0, member), member)
                    agreed = agreed and found is not None and tuple(peers_in(found)) == heard
            if agreed:
                return self._go_on(heard)

    def _call(self) -> Request:
        facts: dict[str, Fact] = {"suspects": json.dumps(sorted(self._suspects)), "ends": self.ledger.position}
        return Request(REGROUP, {**self._place(0, 0), **facts, "line": self.ledger.lines[-1].decode()})

    def _go_on(self, heard: tuple[int, ...]) -> bool:
        left = [self.terms.names[member] for member in self.members if member not in heard]
        if len(heard) < self.terms.quorum:
            raise HierfedError(
                f"only {len(heard)} of {len(self.terms.names)} peers are left, and --quorum asks for "
                f"{self.terms.quorum}; without {', '.join(left)}"
            )
        if left:
            self.tell(f"goes on without {', '.join(left)}")
        calls = [self.inbox.find((REGROUP, 0, self.view, 0, member)) for member in heard if member != self.terms.me]
        self.members = heard
        for call in calls:
            if call is not None and int(call.facts["ends"]) == self.ledger.position + 1:
                line = str(call.facts["line"]).encode()
                try:
                    self._check_own(line)
                    self.ledger.adopt(line)
                except BrokenLink as broken:
                    raise HierfedError(f"another peer shows a line of the ledger that {broken}") from broken
                self.inbox.forget(self.ledger.position)
                return True
        return False

    def _check_own(self, line: bytes) -> None:
        if self.terms.names[self.terms.me] not in read_entry(line).said:
            raise BrokenLink("this peer has not signed")

    def _hear(self, slot: Slot, member: int) -> Request | None:
        """The letter of this slot; None, and the member is a suspect, where it does not come."""
        try:
            return self._wait(member, lambda: self.inbox.find(slot))
        except _Gone as gone:
            self._suspects |= gone.peers
            return None

    def _others(self) -> list[int]:
        return [member for member in self.members if member != self.terms.me]

    def _place(self, number: int = 0, position: int | None = None) -> dict[str, Fact]:
        where = self.ledger.position if position is None else position
        return {"training": self.ledger.opening.training, "position": where, "view": self.view, "number": number}

    def _send(self, peer: int, letter: Request) -> None:
        """Send a letter until it arrives; raises _Gone for a peer that cannot be reached."""
        began = self.clock()
        while not self.post.send(peer, letter):
            if self.inbox.newest_view() > self.view:
                raise _Gone
            if self.clock() - began >= self.waiting.patience:
                raise _Gone(frozenset([peer]))
            self.inbox.wait(lambda: self.inbox.newest_view() > self.view, LOOK_SECONDS)

    def _wait(self, peer: int, come: Callable[[], Request | None]) -> Request:
        """The letter, once it has come; raises _Gone where it does not, or where others agree anew who is there."""
        began = reached = self.clock()
        while True:
            self.inbox.wait(lambda: come() is not None or self.inbox.newest_view() > self.view, LOOK_SECONDS)
            found = come()
            if found is not None:
                return found
            if self.inbox.newest_view() > self.view:
                raise _Gone
            now = self.clock()
            if self.post.reaches(peer):
                reached = now
            elif now - reached >= self.waiting.patience:
                raise _Gone(frozenset([peer]))
            if now - began >= self.waiting.deadline:
                raise _Gone(frozenset([peer]))

"""The rounds of a federation: the server sends its members requests, and waits for their answers as long as is due."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from flwr.app import Message
from flwr.serverapp import Grid

from hierfed.engines.exchange import Member, Request
from hierfed.engines.flower.admission import Admission
from hierfed.engines.flower.members import MOST_PENDING, Connection, Members
from hierfed.engines.flower.patience import Patience
from hierfed.engines.flower.records import request_message
from hierfed.engines.flower.strategy import RoundOutcome, SumStrategy, read_answer
from hierfed.engines.replies import NodeAnswer, Refusal
from hierfed.errors import HierfedError

SHORTEST_WAIT, LONGEST_WAIT = 0.05, 0.5


@dataclass
class Awaited:
    """The requests whose answers a server of asynchronous rounds awaits, however long they take.

    asked: the connection that each message went to. failed: those that Flower told an error of, until they are asked
    again.
    """

    asked: dict[str, Connection] = field(default_factory=dict)
    failed: set[Connection] = field(default_factory=set)


class Federation:
    """A server's requests to the members of its federation, and the rounds that it makes of them."""

    def __init__(
        self,
        grid: Grid,
        admission: Admission,
        patience: Patience,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
        allow: Callable[[int], None] = lambda contribution: None,
    ):
        """allow: called before a round with the bytes of a contribution to it."""
        self._admission, self._patience = admission, patience
        self._clock, self._wait, self._allow = clock, wait, allow
        self._members = Members(grid, admission, patience.joining, clock)
        self._seconds = dict[str, float]()

    @property
    def clock(self) -> Callable[[], float]:
        """Gives seconds since some time."""
        return self._clock

    @property
    def patience(self) -> Patience:
        """The limits on waiting."""
        return self._patience

    @property
    def seconds(self) -> Mapping[str, float]:
        """The seconds that each member took for the last request to all, by name; of those that have answered it."""
        return self._seconds

    def number(self, name: str) -> int:
        """The number of a node, which need not be there."""
        return self._admission.number(name)

    def allow(self, contribution: int) -> None:
        """Called before a round with the bytes of a contribution to it."""
        self._allow(contribution)

    @property
    def members(self) -> dict[int, Member]:
        """The present members, by Flower's ids."""
        return self._members.present

    def gather(self, count: int) -> None:
        """Wait for members that speak for this many nodes, without a deadline."""
        wait = SHORTEST_WAIT
        while self._members.nodes(member.name for member in self.members.values()) < count:
            self._members.receive([])
            self._wait(wait)
            wait = min(1.5 * wait, LONGEST_WAIT)

    def ask(self, make: Callable[[Member], Request | None], enough: int) -> list[NodeAnswer]:
        """Send requests to members, and wait until each of them that is present has answered.

        make: the request to a member; None for no request.
        enough: wait for the answers of this many nodes at least, or until the deadline; an edge answers for its own.
        Members that join meanwhile get requests too.
        """

        def message(node_id: int) -> Message | None:
            request = make(self.members[node_id])
            return None if request is None else request_message(request, node_id)

        return self._answers(message, enough)

    def listen(self, make: Callable[[Member], Request | None], awaited: Awaited, within: float) -> list[NodeAnswer]:
        """Ask each member that has nothing to do, and wait for the next answers of any; none after `within` seconds.

        make: the request to a member; None for no request. Who has been asked before, and is a member still, goes on
        with that; who comes back is asked anew.
        """
        wait, end = SHORTEST_WAIT, self._clock() + within
        # As in a round of everybody: who has begun again must be greeted first.
        self._members.receive([])
        while True:
            looked = self._clock()
            here = set(self._members.connections.values())
            awaited.asked = {key: each for key, each in awaited.asked.items() if each in here and each.name}
            busy = {*awaited.asked.values(), *awaited.failed}
            for node_id, connection in self._members.connections.items():
                if connection.ready and connection not in busy:
                    request = make(self._members.member(connection))
                    if request is not None and (message_id := self._members.send(request_message(request, node_id))):
                        awaited.asked[message_id] = connection
            answers = []
            for reply in self._members.receive(list(awaited.asked)):
                connection = awaited.asked.pop(reply.metadata.reply_to_message_id)
                if reply.has_error():
                    awaited.failed.add(connection)
                elif connection.name:
                    connection.missed = 0
                    answers.append(read_answer(reply, self._members.member(connection)))
            for answer in answers:
                self._admission.on_answer(answer)
            if answers or self._clock() >= end:
                return answers
            wait = min(1.5 * wait, LONGEST_WAIT)
            if (left := wait - (self._clock() - looked)) > 0:
                self._wait(left)

    def stop_listening(self, awaited: Awaited) -> None:
        """Wait no longer for these answers; those that come are counted as late."""
        self._members.await_late(awaited.asked)

    def run_round(self, strategy: SumStrategy) -> RoundOutcome:
        """One round; see SumStrategy. Its outcome counts late answers to earlier rounds as refused."""
        if strategy.secure_group is not None:
            outcome = strategy.aggregate_securely(strategy.secure_group, self.ask)
        else:

            def message(node_id: int) -> Message | None:
                name = self.members[node_id].name
                return None if name in strategy.left_out else strategy.message(node_id, name)

            outcome = strategy.aggregate(self._answers(message, strategy.quorum))
        return replace(outcome, refused=(*outcome.refused, *self.late()))

    def late(self) -> Sequence[Refusal]:
        """Answers that came after their round had ended, or have not come, since this was asked last; each once."""
        return self._members.late()

    def run_rounds(
        self, strategy: SumStrategy, rounds: int, on_round: Callable[[RoundOutcome, int, float], None]
    ) -> None:
        """Run rounds until the model has this many.

        on_round: called with the outcome, the bytes sent to nodes, and the seconds.
        Raises HierfedError if a round fails again and again.
        """
        attempt = 0
        while strategy.shared.round < rounds:
            self._allow(strategy.expected.nbytes)
            began, down = self._clock(), strategy.shared.nbytes * len(self.members)
            outcome = self.run_round(strategy)
            on_round(outcome, down + outcome.bytes_down, self._clock() - began)
            attempt = attempt + 1 if outcome.total is None else 0
            if attempt >= self._patience.attempts:
                raise HierfedError(
                    f"round {outcome.name.number} of '{outcome.name.stage}' was abandoned {attempt} times: "
                    f"{outcome.lacking(strategy.quorum)}; the model as it was is kept: start the server again when "
                    "nodes are back"
                )

    def put_out(self, name: str, reason: str) -> None:
        """Send a member away; the admission sees to it that it stays away."""
        self._members.put_out(name, reason)

    def dismiss(self) -> None:
        """Send goodbye to all members, and wait a while until those that answer have left."""
        self._members.dismiss()
        end = self._clock() + self._patience.leaving
        while self._clock() < end and any(each.name and not each.missed for each in self._members.connections.values()):
            self._members.receive([])
            self._wait(SHORTEST_WAIT)

    def _answers(self, message: Callable[[int], Message | None], enough: int) -> list[NodeAnswer]:
        answers = [read_answer(reply, member) for member, reply in self._collect(message, enough)]
        for answer in answers:
            self._admission.on_answer(answer)
        return answers

    def _collect(self, message: Callable[[int], Message | None], enough: int) -> list[tuple[Member, Message]]:
        """Send a message to each ready member, and gather their replies."""
        asked: dict[str, Connection] = {}
        done: set[Connection] = set()
        found: list[tuple[Member, Message]] = []
        last: float | None = None
        began, wait = self._clock(), SHORTEST_WAIT
        end = began + self._patience.deadline
        self._seconds = {}
        # A node may have begun again since anybody looked, and must be greeted before it is asked.
        self._members.receive([])
        while True:
            self._send_to_idle(message, asked, done)
            looked = self._clock()
            replies = self._members.receive(list(asked))
            for reply in replies:
                connection = asked.pop(reply.metadata.reply_to_message_id)
                done.add(connection)
                connection.missed = connection.missed if reply.has_error() else 0
                if connection.name:
                    found.append((self._members.member(connection), reply))
                    self._seconds[connection.name] = self._clock() - began
            expected = any(
                connection not in done and not connection.refused and not connection.missed
                for connection in self._members.connections.values()
            )
            # Errors do not count: Flower makes one for a node that is gone, which may come back and answer.
            answered = {member.name for member, reply in found if not reply.has_error()}
            if self._members.nodes(answered) >= enough:
                if replies or last is None:
                    last = self._clock()
                end = min(end, last + self._patience.after(last - began))
                if not expected:
                    break
            if self._clock() > end:
                break
            wait = SHORTEST_WAIT if replies else min(1.5 * wait, LONGEST_WAIT)
            # The SuperLink holds the request for a while itself.
            if (left := wait - (self._clock() - looked)) > 0:
                self._wait(left)
        self._members.note_silence(asked, min(self._patience.deadline, self._clock() - began))
        return found

    def _send_to_idle(
        self, message: Callable[[int], Message | None], asked: dict[str, Connection], done: set[Connection]
    ) -> None:
        """Send their message to members that are ready and have none; those without a message are done.

        A silent node is asked too, since a message may be lost, but not for ever.
        """
        for connection in self._members.connections.values():
            if not connection.ready or connection in done or connection in asked.values():
                continue
            # Once it answers what it was sent before, it is asked in the round that goes on then.
            if connection.missed >= MOST_PENDING:
                continue
            made = message(connection.node_id)
            if made is None:
                done.add(connection)
                continue
            message_id = self._members.send(made)
            if message_id:
                asked[message_id] = connection

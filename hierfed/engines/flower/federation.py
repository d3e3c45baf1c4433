"""The members of a federation: the server sends them requests, and notices late answers, departures and returns."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from flwr.app import Message
from flwr.serverapp import Grid

from hierfed.engines.exchange import Member, Reply, Request
from hierfed.engines.flower.records import message_type, request_records
from hierfed.engines.flower.strategy import RoundOutcome, SumStrategy, read_answer
from hierfed.engines.replies import NodeAnswer, Refusal
from hierfed.errors import HierfedError

SHORTEST_WAIT, LONGEST_WAIT = 0.05, 0.5
# Most requests that a silent node is sent before it answers one.
MOST_PENDING = 3
LEAST_GRACE, SLOWEST = 30.0, 10.0
NOT_WAITED_FOR = "is not waited for: it has not answered since it missed a deadline"


class AdmissionRefused(Exception):
    """A node cannot be a member; the text is the reason."""


@dataclass(frozen=True)
class Change:
    """A node has joined, is gone, or is refused; as text, a line for people.

    name: the node's own; "" for one that has told none yet.
    """

    kind: Literal["joined", "gone", "refused"]
    name: str
    reason: str = ""

    def __str__(self) -> str:
        who = f"node {self.name}" if self.name else "a node"
        return (
            f"{who} has joined" if self.kind == "joined" else f"{who} is {self.kind}{self.reason and ': '}{self.reason}"
        )


class Admission(Protocol):
    """Decides which nodes join, and takes events."""

    def hello(self) -> Request:
        """The first request to a node."""
        ...

    def admit(self, reply: Reply) -> str:
        """The node's name from now on; raises AdmissionRefused for one that cannot be a member."""
        ...

    def number(self, name: str) -> int:
        """A member's number; it may change until there is a setup."""
        ...

    def nodes_of(self, name: str) -> Collection[str]:
        """The nodes that a member speaks for: itself, or those behind it where it is an edge."""
        ...

    def setup(self, member: Member) -> Request | None:
        """A member's setup, sent before any other request; None until it is known."""
        ...

    def on_answer(self, answer: NodeAnswer) -> None:
        """A member has answered a request, other than its setup."""
        ...

    def changed(self, change: Change) -> None:
        """Takes each coming and going."""
        ...

    def tell(self, event: str) -> None:
        """Takes a line for each other event."""
        ...

    def check(self) -> None:
        """Called again and again while the server waits; an exception ends the wait."""
        ...


@dataclass(frozen=True)
class Patience:
    """The server's limits on waiting.

    deadline: seconds for the answers to a round, at the most; see after.
    attempts: failures of one round before the server gives up.
    joining: seconds for a node to answer hello or its setup.
    leaving: seconds for members to go at the end.
    grace, slowest: see after.
    """

    deadline: float = 600.0
    attempts: int = 5
    joining: float = 120.0
    leaving: float = 30.0
    grace: float = LEAST_GRACE
    slowest: float = SLOWEST

    def after(self, taken: float) -> float:
        """Seconds to wait for the others once enough nodes have answered, the last of them after `taken` seconds.

        A node that needs `slowest` times as long as the others is not waited for; `grace` is the least.
        """
        return max(self.grace, self.slowest * taken)


@dataclass(eq=False)
class _Connection:
    """A node that Flower knows, from its activation until it leaves.

    came: the time of its activation, as Flower writes it.
    name: "" until it is a member.
    ready: True once it has answered its setup.
    waiting_for: the id of the message, sent at `since`, that it has to answer first, or "".
    refused: True if it cannot be a member.
    missed: deadlines that it has missed since it answered last. Above 0, it is not waited for.
    """

    node_id: int
    came: str
    name: str = ""
    ready: bool = False
    waiting_for: str = ""
    since: float = 0.0
    refused: bool = False
    missed: int = 0


@dataclass
class Awaited:
    """The requests whose answers a server of asynchronous rounds awaits, however long they take.

    asked: the connection that each message went to. failed: those that Flower told an error of, until they are asked
    again.
    """

    asked: dict[str, _Connection] = field(default_factory=dict)
    failed: set[_Connection] = field(default_factory=set)


class Federation:
    """The members by Flower's ids of their connections; a member that comes back has a new id, or activates anew."""

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
        self._grid, self._admission, self._patience = grid, admission, patience
        self._clock, self._wait, self._allow = clock, wait, allow
        self._connections: dict[int, _Connection] = {}
        self._late: dict[str, _Connection] = {}
        self._refusals: list[Refusal] = []
        self._over = False

    @property
    def clock(self) -> Callable[[], float]:
        """Gives seconds since some time."""
        return self._clock

    @property
    def patience(self) -> Patience:
        """The limits on waiting."""
        return self._patience

    def number(self, name: str) -> int:
        """The number of a node, which need not be there."""
        return self._admission.number(name)

    def allow(self, contribution: int) -> None:
        """Called before a round with the bytes of a contribution to it."""
        self._allow(contribution)

    @property
    def members(self) -> dict[int, Member]:
        """The present members, by Flower's ids."""
        return {key: self._member(connection) for key, connection in self._connections.items() if connection.name}

    def gather(self, count: int) -> None:
        """Wait for members that speak for this many nodes, without a deadline."""
        wait = SHORTEST_WAIT
        while self._nodes(member.name for member in self.members.values()) < count:
            self._receive([])
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
            return None if request is None else _message(request, node_id)

        return self._answers(message, enough)

    def listen(self, make: Callable[[Member], Request | None], awaited: Awaited, within: float) -> list[NodeAnswer]:
        """Ask each member that has nothing to do, and wait for the next answers of any; none after `within` seconds.

        make: the request to a member; None for no request. Who has been asked before, and is a member still, goes on
        with that; who comes back is asked anew.
        """
        wait, end = SHORTEST_WAIT, self._clock() + within
        # As in a round of everybody: who has begun again must be greeted first.
        self._receive([])
        while True:
            looked = self._clock()
            here = set(self._connections.values())
            awaited.asked = {key: each for key, each in awaited.asked.items() if each in here and each.name}
            busy = {*awaited.asked.values(), *awaited.failed}
            for node_id, connection in self._connections.items():
                if connection.ready and connection not in busy:
                    request = make(self._member(connection))
                    if request is not None and (message_id := self._send(_message(request, node_id))):
                        awaited.asked[message_id] = connection
            answers = []
            for reply in self._receive(list(awaited.asked)):
                connection = awaited.asked.pop(reply.metadata.reply_to_message_id)
                if reply.has_error():
                    awaited.failed.add(connection)
                elif connection.name:
                    connection.missed = 0
                    answers.append(read_answer(reply, self._member(connection)))
            for answer in answers:
                self._admission.on_answer(answer)
            if answers or self._clock() >= end:
                return answers
            wait = min(1.5 * wait, LONGEST_WAIT)
            if (left := wait - (self._clock() - looked)) > 0:
                self._wait(left)

    def stop_listening(self, awaited: Awaited) -> None:
        """Wait no longer for these answers; those that come are counted as late."""
        self._late |= {key: each for key, each in awaited.asked.items() if each in self._connections.values()}

    def run_round(self, strategy: SumStrategy) -> RoundOutcome:
        """One round; see SumStrategy. Its outcome counts late answers to earlier rounds as refused."""
        if strategy.secure_group is not None:
            outcome = strategy.aggregate_securely(strategy.secure_group, self.ask)
        else:
            outcome = strategy.aggregate(self._answers(strategy.message, strategy.quorum))
        return replace(outcome, refused=(*outcome.refused, *self.late()))

    def late(self) -> Sequence[Refusal]:
        """Answers that came after their round had ended, or have not come, since this was asked last; each once."""
        self._receive([])
        refused, self._refusals = dict.fromkeys(self._refusals), []
        return list(refused)

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

    def _answers(self, message: Callable[[int], Message | None], enough: int) -> list[NodeAnswer]:
        answers = [read_answer(reply, member) for member, reply in self._collect(message, enough)]
        for answer in answers:
            self._admission.on_answer(answer)
        return answers

    def _collect(self, message: Callable[[int], Message | None], enough: int) -> list[tuple[Member, Message]]:
        """Send a message to each ready member, and gather their replies."""
        asked: dict[str, _Connection] = {}
        done: set[_Connection] = set()
        found: list[tuple[Member, Message]] = []
        last: float | None = None
        began, wait = self._clock(), SHORTEST_WAIT
        end = began + self._patience.deadline
        # A node may have begun again since anybody looked, and must be greeted before it is asked.
        self._receive([])
        while True:
            self._send_to_idle(message, asked, done)
            looked = self._clock()
            replies = self._receive(list(asked))
            for reply in replies:
                connection = asked.pop(reply.metadata.reply_to_message_id)
                done.add(connection)
                connection.missed = connection.missed if reply.has_error() else 0
                if connection.name:
                    found.append((self._member(connection), reply))
            expected = any(
                connection not in done and not connection.refused and not connection.missed
                for connection in self._connections.values()
            )
            # Errors do not count: Flower makes one for a node that is gone, which may come back and answer.
            answered = {member.name for member, reply in found if not reply.has_error()}
            if self._nodes(answered) >= enough:
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
        self._note_silence(asked, self._clock() - began)
        return found

    def _note_silence(self, asked: dict[str, _Connection], waited: float) -> None:
        """Count the nodes that have not answered; asked: by the message of this round that each was sent."""
        waited = min(self._patience.deadline, waited)
        for message_id, connection in asked.items():
            if connection.name and connection in self._connections.values():
                self._late[message_id] = connection
                event = NOT_WAITED_FOR
                if not connection.missed:
                    event = f"has not answered within {waited:.3g} s"
                    self._admission.tell(f"node {connection.name} {event}; it is not waited for until it answers")
                connection.missed += 1
                self._refusals.append(Refusal(connection.name, event))
        for connection in self._connections.values():
            if connection.ready and connection.missed >= MOST_PENDING and connection not in asked.values():
                self._refusals.append(Refusal(connection.name, NOT_WAITED_FOR))

    def _send_to_idle(
        self, message: Callable[[int], Message | None], asked: dict[str, _Connection], done: set[_Connection]
    ) -> None:
        """Send their message to members that are ready and have none; those without a message are done.

        A silent node is asked too, since a message may be lost, but not for ever.
        """
        for connection in self._connections.values():
            if not connection.ready or connection in done or connection in asked.values():
                continue
            # Once it answers what it was sent before, it is asked in the round that goes on then.
            if connection.missed >= MOST_PENDING:
                continue
            made = message(connection.node_id)
            if made is None:
                done.add(connection)
                continue
            message_id = self._send(made)
            if message_id:
                asked[message_id] = connection

    def _take_late(self) -> None:
        """Answers that come after the end of their round, each once: their nodes are waited for again."""
        for reply in self._grid.pull_messages(list(self._late)) if self._late else []:
            connection = self._late.pop(reply.metadata.reply_to_message_id)
            connection.missed = 0
            # Errors do not count as answers, but nothing more comes of that request: the node is asked anew.
            if connection.name and not reply.has_error():
                self._refusals.append(Refusal(connection.name, "came after its round had ended"))

    def _receive(self, message_ids: Sequence[str]) -> list[Message]:
        """Admit new nodes, notice departures, and give the replies to these messages."""
        self._admission.check()
        self._take_late()
        online = {node.node_id: node.last_activated_at for node in self._grid.get_nodes()}
        for connection in list(self._connections.values()):
            if online.get(connection.node_id) != connection.came:
                del self._connections[connection.node_id]
                if connection.name and not self._over:
                    self._admission.changed(Change("gone", connection.name))
        for node_id in online.keys() - self._connections.keys():
            self._greet(node_id, online[node_id])
        for node_id, connection in self._connections.items():
            if connection.name and not connection.ready and not connection.waiting_for:
                setup = self._admission.setup(self._member(connection))
                if setup is not None:
                    connection.waiting_for, connection.since = self._send(_message(setup, node_id)), self._clock()
        waiting = {
            connection.waiting_for: node_id
            for node_id, connection in self._connections.items()
            if connection.waiting_for
        }
        wanted = [*message_ids, *waiting]
        replies = list(self._grid.pull_messages(wanted)) if wanted else []
        for reply in replies:
            if reply.metadata.reply_to_message_id in waiting:
                self._welcome(waiting[reply.metadata.reply_to_message_id], reply)
        for node_id, connection in self._connections.items():
            if connection.waiting_for and self._clock() - connection.since > self._patience.joining:
                self._refuse(node_id, f"did not answer within {self._patience.joining:g} s")
        return [reply for reply in replies if reply.metadata.reply_to_message_id not in waiting]

    def _greet(self, node_id: int, came: str) -> None:
        """Send hello to a new node; after the end, send goodbye."""
        if self._over:
            self._connections[node_id] = _Connection(node_id, came, refused=True)
            self._send(_message(Request("goodbye"), node_id))
            return
        message_id = self._send(_message(self._admission.hello(), node_id))
        if message_id:
            self._connections[node_id] = _Connection(node_id, came, waiting_for=message_id, since=self._clock())

    def _welcome(self, node_id: int, message: Message) -> None:
        """Take a new node's answer to hello, or a member's to its setup."""
        connection = self._connections[node_id]
        connection.waiting_for = ""
        answer = read_answer(message, Member(connection.name, -1))
        if answer.reply is None:
            self._refuse(node_id, answer.error)
        elif connection.name:
            connection.ready = True
        else:
            try:
                name = self._admission.admit(answer.reply)
            except AdmissionRefused as reason:
                self._refuse(node_id, str(reason))
                return
            for old in self._connections.values():
                if old.name == name:
                    # It has come back before Flower noticed that it was gone.
                    old.name, old.ready, old.waiting_for, old.refused = "", False, "", True
            connection.name = name
            self._admission.changed(Change("joined", name))

    def put_out(self, name: str, reason: str) -> None:
        """Send a member away; the admission sees to it that it stays away."""
        for node_id, connection in self._connections.items():
            if connection.name == name:
                self._refuse(node_id, reason)

    def _refuse(self, node_id: int, reason: str) -> None:
        connection = self._connections[node_id]
        self._admission.changed(Change("refused", connection.name, reason))
        connection.name, connection.ready, connection.waiting_for, connection.refused = "", False, "", True
        self._send(_message(Request("goodbye", {"reason": reason}), node_id))

    def _nodes(self, names: Iterable[str]) -> int:
        return sum(len(self._admission.nodes_of(name)) for name in names)

    def _member(self, connection: _Connection) -> Member:
        return Member(connection.name, self._admission.number(connection.name))

    def dismiss(self) -> None:
        """Send goodbye to all members, and wait a while until those that answer have left."""
        self._over = True
        for node_id in self.members:
            self._send(_message(Request("goodbye"), node_id))
        end = self._clock() + self._patience.leaving
        while self._clock() < end and any(each.name and not each.missed for each in self._connections.values()):
            self._receive([])
            self._wait(SHORTEST_WAIT)

    def _send(self, message: Message) -> str:
        """The message's id; empty for a node that has just left, whose message Flower does not take."""
        taken = list(self._grid.push_messages([message]))
        if not taken:
            raise HierfedError(f"Flower does not carry a message as large as '{message.metadata.message_type}'")
        return taken[0] or ""


def _message(request: Request, node_id: int) -> Message:
    return Message(request_records(request), node_id, message_type(request.kind))

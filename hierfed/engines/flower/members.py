"""The members of a federation by their connections: who comes, who leaves, who is refused, who answers too late."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from flwr.app import Message
from flwr.serverapp import Grid

from hierfed.engines.exchange import Member, Request
from hierfed.engines.flower.admission import Admission, AdmissionRefused, Change
from hierfed.engines.flower.records import request_message
from hierfed.engines.flower.strategy import read_answer
from hierfed.engines.replies import Refusal
from hierfed.errors import HierfedError

# Most requests that a silent node is sent before it answers one.
MOST_PENDING = 3
NOT_WAITED_FOR = "is not waited for: it has not answered since it missed a deadline"


@dataclass(eq=False)
class Connection:
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


class Members:
    """The connections by Flower's ids; a member that comes back has a new id, or activates anew.

    joining: see Patience.
    """

    def __init__(self, grid: Grid, admission: Admission, joining: float, clock: Callable[[], float]):
        self.connections: dict[int, Connection] = {}
        self._grid, self._admission, self._joining, self._clock = grid, admission, joining, clock
        self._late: dict[str, Connection] = {}
        self._refusals: list[Refusal] = []
        self._over = False

    @property
    def present(self) -> dict[int, Member]:
        """The present members, by Flower's ids."""
        return {key: self.member(connection) for key, connection in self.connections.items() if connection.name}

    def member(self, connection: Connection) -> Member:
        """The member that a connection is of, by its name and its number."""
        return Member(connection.name, self._admission.number(connection.name))

    def nodes(self, names: Iterable[str]) -> int:
        """The number of nodes that these members speak for; see Admission.nodes_of."""
        return sum(len(self._admission.nodes_of(name)) for name in names)

    def send(self, message: Message) -> str:
        """The message's id; empty for a node that has just left, whose message Flower does not take."""
        taken = list(self._grid.push_messages([message]))
        if not taken:
            raise HierfedError(f"Flower does not carry a message as large as '{message.metadata.message_type}'")
        return taken[0] or ""

    def put_out(self, name: str, reason: str) -> None:
        """Send a member away; the admission sees to it that it stays away."""
        for node_id, connection in self.connections.items():
            if connection.name == name:
                self._refuse(node_id, reason)

    def dismiss(self) -> None:
        """Send goodbye to all members, and from now on to each node that comes."""
        self._over = True
        for node_id in self.present:
            self.send(request_message(Request("goodbye"), node_id))

    def await_late(self, asked: Mapping[str, Connection]) -> None:
        """Take the answers to these messages as late; asked: the connection of each message."""
        self._late |= {key: each for key, each in asked.items() if each in self.connections.values()}

    def note_silence(self, asked: dict[str, Connection], waited: float) -> None:
        """Count the nodes that have not answered a round, and take their answers as late from now on.

        asked: the connection that each message of the round went to. waited: seconds.
        """
        for message_id, connection in asked.items():
            if connection.name and connection in self.connections.values():
                self._late[message_id] = connection
                event = NOT_WAITED_FOR
                if not connection.missed:
                    event = f"has not answered within {waited:.3g} s"
                    self._admission.tell(f"node {connection.name} {event}; it is not waited for until it answers")
                connection.missed += 1
                self._refusals.append(Refusal(connection.name, event))
        for connection in self.connections.values():
            if connection.ready and connection.missed >= MOST_PENDING and connection not in asked.values():
                self._refusals.append(Refusal(connection.name, NOT_WAITED_FOR))

    def late(self) -> list[Refusal]:
        """Answers that came after their round had ended, or have not come, since this was asked last; each once."""
        self.receive([])
        refused, self._refusals = dict.fromkeys(self._refusals), []
        return list(refused)

    def receive(self, message_ids: Sequence[str]) -> list[Message]:
        """Admit new nodes, notice departures, and give the replies to these messages."""
        self._admission.check()
        self._take_late()
        online = {node.node_id: node.last_activated_at for node in self._grid.get_nodes()}
        for connection in list(self.connections.values()):
            if online.get(connection.node_id) != connection.came:
                del self.connections[connection.node_id]
                if connection.name and not self._over:
                    self._admission.changed(Change("gone", connection.name))
        for node_id in online.keys() - self.connections.keys():
            self._greet(node_id, online[node_id])
        for node_id, connection in self.connections.items():
            if connection.name and not connection.ready and not connection.waiting_for:
                setup = self._admission.setup(self.member(connection))
                if setup is not None:
                    connection.waiting_for, connection.since = self.send(request_message(setup, node_id)), self._clock()
        waiting = {
            connection.waiting_for: node_id
            for node_id, connection in self.connections.items()
            if connection.waiting_for
        }
        wanted = [*message_ids, *waiting]
        replies = list(self._grid.pull_messages(wanted)) if wanted else []
        for reply in replies:
            if reply.metadata.reply_to_message_id in waiting:
                self._welcome(waiting[reply.metadata.reply_to_message_id], reply)
        for node_id, connection in self.connections.items():
            if connection.waiting_for and self._clock() - connection.since > self._joining:
                self._refuse(node_id, f"did not answer within {self._joining:g} s")
        return [reply for reply in replies if reply.metadata.reply_to_message_id not in waiting]

    def _take_late(self) -> None:
        """Answers that come after the end of their round, each once: their nodes are waited for again."""
        for reply in self._grid.pull_messages(list(self._late)) if self._late else []:
            connection = self._late.pop(reply.metadata.reply_to_message_id)
            connection.missed = 0
            # Errors do not count as answers, but nothing more comes of that request: the node is asked anew.
            if connection.name and not reply.has_error():
                self._refusals.append(Refusal(connection.name, "came after its round had ended"))

    def _greet(self, node_id: int, came: str) -> None:
        """Send hello to a new node; after the end, send goodbye."""
        if self._over:
            self.connections[node_id] = Connection(node_id, came, refused=True)
            self.send(request_message(Request("goodbye"), node_id))
            return
        message_id = self.send(request_message(self._admission.hello(), node_id))
        if message_id:
            self.connections[node_id] = Connection(node_id, came, waiting_for=message_id, since=self._clock())

    def _welcome(self, node_id: int, message: Message) -> None:
        """Take a new node's answer to hello, or a member's to its setup."""
        connection = self.connections[node_id]
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
            for old in self.connections.values():
                if old.name == name:
                    # It has come back before Flower noticed that it was gone.
                    old.name, old.ready, old.waiting_for, old.refused = "", False, "", True
            connection.name = name
            self._admission.changed(Change("joined", name))

    def _refuse(self, node_id: int, reason: str) -> None:
        connection = self.connections[node_id]
        self._admission.changed(Change("refused", connection.name, reason))
        connection.name, connection.ready, connection.waiting_for, connection.refused = "", False, "", True
        self.send(request_message(Request("goodbye", {"reason": reason}), node_id))

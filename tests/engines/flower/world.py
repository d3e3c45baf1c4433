"""A federation in memory, on a clock of its own: Flower's server, nodes that come, go, fail and dawdle, and a model."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from flwr.app import Error, Message, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid

from hierfed.data.federation import Node
from hierfed.engines.exchange import Member, Reply, Request
from hierfed.engines.flower.admission import AdmissionRefused, Change
from hierfed.engines.flower.federation import Federation
from hierfed.engines.flower.patience import Patience
from hierfed.engines.flower.records import read_request, reply_records
from hierfed.engines.flower.strategy import RoundOutcome, SumStrategy
from hierfed.engines.replies import NodeAnswer
from hierfed.federated.checks import Check
from hierfed.federated.contract import Contribution, SharedModel
from hierfed.federated.private import PrivateState

SUPERLINK = 1
GONE = Error(3, "Node Unavailable")
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


def total(outcome: RoundOutcome) -> float | None:
    return None if outcome.total is None else outcome.total.arrays["sum"].item()

"""Who is in a federation: its server greets nodes and edges, admits and numbers them, and sets them up."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from hierfed.data.catalogue import Catalogue
from hierfed.deployment.edges import GROUP, NUMBERS, EdgeIntroduction, Edges, read_edge
from hierfed.deployment.plan import Plan
from hierfed.deployment.protocol import Introduction, hello, new_nonce, read_introduction
from hierfed.engines.exchange import Member, Reply, Request
from hierfed.engines.flower.admission import AdmissionRefused, Change
from hierfed.engines.replies import NodeAnswer
from hierfed.federated.contract import SharedModel
from hierfed.results import DeployedRound

SPOILS = "was put out: every sum that it is in is beyond what ratings can give"


class ServerObserver:
    """Observes a server; each method may be overridden."""

    def tell(self, event: str) -> None:
        """Takes a line for each event."""

    def warn(self, event: str) -> None:
        """Takes a line for an event that somebody should look at."""
        self.tell(event)

    def on_change(self, change: Change) -> None:
        """A node has joined, is gone, or is refused."""
        (self.tell if change.kind == "joined" else self.warn)(str(change))

    def on_contact(self, name: str) -> None:
        """A node has answered."""

    def on_plan(self, rounds: int) -> None:
        """Training begins or resumes; rounds: the number to come, opening rounds included."""

    def on_round(self, record: DeployedRound) -> None:
        """A round has ended, or was abandoned."""

    def check(self) -> None:
        """Called again and again while the server waits; an exception ends the wait."""


class LedgerSide(Protocol):
    """The ledger, as far as an admission needs it; see Bookkeeper."""

    public: str

    def known_key(self, name: str) -> str | None:
        """A node's key in the ledger; None for a node without one."""
        ...

    def with_lines(self, setup: Request) -> Request:
        """A setup with the whole ledger so far."""
        ...

    def keep_countersignature(self, answer: NodeAnswer) -> str:
        """Keep the countersignature in an answer; gives a line for the user where there is none."""
        ...


@dataclass
class NodeAdmission:
    """Admits nodes, numbers them and sets them up; see Admission.

    secure_sums: True if nodes add securely; a node outside the plan then cannot join any more.
    scale: the lowest and the highest possible rating; None asks nodes for theirs.
    nodes: each node's identity by its name, in the order of their numbers.
    finished: the models of the finished stages.
    introduced: the introductions of nodes that joined since this server started.
    nonces: of greetings without an answer yet.
    tags: the name of each node's ratings; see Introduction.
    over: True once no more is learned: nodes may then come back with other ratings.
    put_out: nodes that spoilt sums, and may not come back.
    identities: those of the nodes of the training that this one goes on from, by their names.
    edges: the members that speak for other nodes, and who is there.
    """

    catalogue: Catalogue
    keys: frozenset[str] | None
    observer: ServerObserver
    ledger: LedgerSide
    secure_sums: bool = False
    scale: tuple[float, float] | None = None
    plan: Plan | None = None
    nodes: dict[str, str] = field(default_factory=dict)
    finished: dict[str, SharedModel] = field(default_factory=dict)
    introduced: dict[str, Introduction] = field(default_factory=dict)
    nonces: set[bytes] = field(default_factory=set)
    tags: dict[str, str] = field(default_factory=dict)
    over: bool = False
    put_out: set[str] = field(default_factory=set)
    identities: Mapping[str, str] = field(default_factory=dict)
    edges: Edges = field(default_factory=Edges)

    def hello(self) -> Request:
        """The catalogue, and a nonce to sign."""
        nonce = new_nonce()
        self.nonces.add(nonce)
        return hello(self.catalogue, nonce, self.ledger.public, self.secure_sums, self.scale)

    def admit(self, reply: Reply) -> str:
        """The own name of a node or an edge, which no other one has; raises AdmissionRefused."""
        value = reply.facts.get("nonce")
        nonce = value if isinstance(value, bytes) else b""
        read = read_edge if GROUP in reply.facts else read_introduction
        found = read(reply, nonce, self.keys)
        if isinstance(found, str):
            raise AdmissionRefused(found)
        if nonce not in self.nonces:
            raise AdmissionRefused("its introduction answers no greeting of this server")
        self.nonces.remove(nonce)
        nodes = found.nodes if isinstance(found, EdgeIntroduction) else (found,)
        reason = self._against_edge(found) if isinstance(found, EdgeIntroduction) else ""
        reason = reason or self.edges.conflict(found.name, [node.name for node in nodes])
        for node in nodes:
            reason = reason or self.against(node)
        if reason:
            raise AdmissionRefused(reason)
        for node in nodes:
            self.nodes.setdefault(node.name, node.identity)
            self.tags.setdefault(node.name, node.tag)
            self.introduced[node.name] = node
        if isinstance(found, EdgeIntroduction):
            self.edges.identities[found.name] = found.identity
            self.edges.groups[found.name] = tuple(node.name for node in nodes)
        return found.name

    def _against_edge(self, edge: EdgeIntroduction) -> str:
        """The reason against an edge; empty if there is none."""
        if self.edges.refused:
            return self.edges.refused
        if edge.name in self.nodes or self.edges.identities.get(edge.name, edge.identity) != edge.identity:
            return f"another edge or node is already called '{edge.name}': choose another --name"
        return ""

    def against(self, found: Introduction) -> str:
        """The reason against a node; empty if there is none."""
        other_ratings = self.plan is not None and self.tags.get(found.name, found.tag) != found.tag and not self.over
        known = self.nodes.get(found.name, self.identities.get(found.name, found.identity))
        faults = (
            (
                (found.limits is None) != (self.secure_sums or self.scale is not None),
                "it says more or less of its ratings than it was asked",
            ),
            (
                self.plan is not None and bool(self.plan.keys) and found.key not in self.plan.keys,
                "the nodes that add securely were settled before it came",
            ),
            (
                known != found.identity or found.name in self.edges.groups,
                f"another node is already called '{found.name}': choose another --name",
            ),
            (found.name in self.put_out, f"node '{found.name}' {SPOILS}"),
            (
                other_ratings,
                f"node '{found.name}' comes back with other ratings than it began this training with: give it those, "
                "or begin a training anew with another --name",
            ),
            (
                self.ledger.known_key(found.name) not in (None, found.ledger),
                "the ledger has another key of it to countersign with",
            ),
        )
        return next((reason for wrong, reason in faults if wrong), "")

    def number(self, name: str) -> int:
        """Its place among the names; of an edge a number below 0."""
        if name in self.edges.groups:
            return -1 - list(self.edges.groups).index(name)
        return list(self.nodes).index(name)

    def nodes_of(self, name: str) -> Sequence[str]:
        """See Admission."""
        return self.edges.groups.get(name, (name,))

    def behind(self, name: str) -> Mapping[int, str] | None:
        """See Behind."""
        nodes = self.edges.groups.get(name)
        if nodes is None:
            return None
        places = {node: place for place, node in enumerate(self.nodes)}
        return {places[node]: node for node in nodes}

    def setup(self, member: Member) -> Request | None:
        """The plan, once there is one; an edge's also has the numbers of its nodes."""
        if self.plan is None:
            return None
        setup = self.plan.request(member.number, self.finished)
        behind = self.behind(member.name)
        if behind is not None:
            numbers = json.dumps({name: number for number, name in behind.items()}).encode()
            setup = replace(setup, facts={**setup.facts, NUMBERS: numbers})
        return self.ledger.with_lines(setup)

    def on_answer(self, answer: NodeAnswer) -> None:
        """Keep the countersignatures in the answer, if there are any."""
        for each in self.edges.answers(answer):
            if each.reply is not None:
                self.observer.on_contact(each.name)
            event = self.ledger.keep_countersignature(each)
            if event:
                self.tell(event)

    def ledger_keys(self) -> dict[str, str]:
        """The ledger keys of nodes that joined since this server started."""
        return {name: found.ledger for name, found in self.introduced.items()}

    def changed(self, change: Change) -> None:
        """Pass the change to the observer; an edge's is one of each node behind it."""
        (self.edges.present.add if change.kind == "joined" else self.edges.present.discard)(change.name)
        if change.name not in self.edges.groups:
            self.observer.on_change(change)
            return
        told = self.observer.tell if change.kind == "joined" else self.observer.warn
        told(str(change).replace("node", "edge", 1))
        for name in self.edges.groups[change.name]:
            self.observer.on_change(replace(change, name=name))

    def tell(self, event: str) -> None:
        """Pass the event to the observer."""
        self.observer.tell(event)

    def check(self) -> None:
        """Let the observer end the wait."""
        self.observer.check()

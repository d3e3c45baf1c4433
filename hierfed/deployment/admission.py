"""The nodes of a federation as its server knows them: it admits them, numbers them, sets them up, and tells of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hierfed.data.catalogue import Catalogue
from hierfed.deployment.bookkeeping import Bookkeeper
from hierfed.deployment.plan import Plan
from hierfed.deployment.protocol import Introduction, hello, new_nonce, read_introduction
from hierfed.engines.exchange import Member, Reply, Request
from hierfed.engines.flower.federation import AdmissionRefused, Change
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
    """

    catalogue: Catalogue
    keys: frozenset[str] | None
    observer: ServerObserver
    ledger: Bookkeeper
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

    def hello(self) -> Request:
        """The catalogue, and a nonce to sign."""
        nonce = new_nonce()
        self.nonces.add(nonce)
        return hello(self.catalogue, nonce, self.ledger.public, self.secure_sums, self.scale)

    def admit(self, reply: Reply) -> str:
        """The node's own name, which no other node has; raises AdmissionRefused."""
        value = reply.facts.get("nonce")
        nonce = value if isinstance(value, bytes) else b""
        found = read_introduction(reply, nonce, self.keys)
        if isinstance(found, str):
            raise AdmissionRefused(found)
        if nonce not in self.nonces:
            raise AdmissionRefused("its introduction answers no greeting of this server")
        self.nonces.remove(nonce)
        if (found.limits is None) != (self.secure_sums or self.scale is not None):
            raise AdmissionRefused("it says more or less of its ratings than it was asked")
        if self.plan is not None and self.plan.keys and found.key not in self.plan.keys:
            raise AdmissionRefused("the nodes that add securely were settled before it came")
        known = self.nodes.get(found.name, self.identities.get(found.name, found.identity))
        if known != found.identity:
            raise AdmissionRefused(f"another node is already called '{found.name}': choose another --name")
        self.nodes[found.name] = found.identity
        if found.name in self.put_out:
            raise AdmissionRefused(f"node '{found.name}' {SPOILS}")
        if self.plan is not None and self.tags.get(found.name, found.tag) != found.tag and not self.over:
            raise AdmissionRefused(
                f"node '{found.name}' comes back with other ratings than it began this training with: give it those, "
                "or begin a training anew with another --name"
            )
        self.tags.setdefault(found.name, found.tag)
        if self.ledger.known_key(found.name) not in (None, found.ledger):
            raise AdmissionRefused("the ledger has another key of it to countersign with")
        self.introduced[found.name] = found
        return found.name

    def number(self, name: str) -> int:
        """Its place among the names."""
        return list(self.nodes).index(name)

    def setup(self, member: Member) -> Request | None:
        """The plan, once there is one."""
        if self.plan is None:
            return None
        return self.ledger.with_lines(self.plan.request(member.number, self.finished))

    def on_answer(self, answer: NodeAnswer) -> None:
        """Keep the countersignature in the answer, if there is one."""
        if answer.reply is not None:
            self.observer.on_contact(answer.name)
        event = self.ledger.keep_countersignature(answer)
        if event:
            self.tell(event)

    def ledger_keys(self) -> dict[str, str]:
        """The ledger keys of nodes that joined since this server started."""
        return {name: found.ledger for name, found in self.introduced.items()}

    def changed(self, change: Change) -> None:
        """Pass the change to the observer."""
        self.observer.on_change(change)

    def tell(self, event: str) -> None:
        """Pass the event to the observer."""
        self.observer.tell(event)

    def check(self) -> None:
        """Let the observer end the wait."""
        self.observer.check()

"""Edges as their server knows them: their greeting, the nodes behind each, and why there may be none."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from cryptography.hazmat.primitives.asymmetric import ec

from hierfed import __version__
from hierfed.deployment.protocol import COUNTERSIGNATURE, UNSIGNED, VERSION, Introduction, check_introduction, is_name
from hierfed.deployment.signing import NodeSigner, PublicKey
from hierfed.engines.exchange import Fact, Reply
from hierfed.engines.flower.strategy import RoundOutcome
from hierfed.engines.replies import NodeAnswer, Refusal
from hierfed.plain_text import printable
from hierfed.sealed import MALFORMED
from hierfed.settings import Settings

# Facts of an edge's messages: its nodes' introductions, their numbers, their countersignatures, or why there is none.
GROUP, NUMBERS, SIGNATURES, REASONS = "group", "numbers", "countersignatures", "unsigned_by"


def why_no_edges(settings: Settings) -> str:
    """The reason why no edge can serve a training with these settings; empty where one can."""
    privacy, rule = settings.privacy, settings.federation.rule
    if privacy.secure_sums:
        return "privacy.secure_sums: a real edge adds open sums alone: let its nodes join the server themselves"
    if privacy.privacy_unit != "none":
        return (
            f"privacy.privacy_unit '{privacy.privacy_unit}': a real edge adds no releases with noise: let its nodes "
            "join the server themselves"
        )
    if rule != "exact_sum":
        return (
            f"federation.rule '{rule}': an edge sends the exact sum of its nodes: start the server with "
            "--set rule=exact_sum"
        )
    return ""


@dataclass(frozen=True)
class EdgeIntroduction:
    """An edge's description of itself, with those of its nodes. identity, key: see Introduction."""

    name: str
    identity: str
    key: str
    nodes: tuple[Introduction, ...]


def introduce_edge(edge: EdgeIntroduction, nonce: bytes, key: ec.EllipticCurvePrivateKey | None) -> Reply:
    """An edge's answer to hello; it answers for what its nodes have told it."""
    group = write_group(edge.nodes)
    facts: dict[str, Fact] = {
        "version": VERSION,
        "hierfed": __version__,
        "nonce": nonce,
        "name": edge.name,
        "identity": edge.identity,
        "key": edge.key,
        GROUP: group,
        "signature": b"" if key is None else NodeSigner(key).sign(_signed(nonce, edge, group)),
    }
    return Reply(facts)


def read_edge(reply: Reply, nonce: bytes, keys: frozenset[str] | None) -> EdgeIntroduction | str:
    """The edge's introduction, or the reason for which it cannot join. keys: see read_introduction."""
    facts = reply.facts
    if facts.get("version") != VERSION:
        return (
            f"it speaks version {printable(repr(facts.get('version')), 20)} of the protocol, and this server {VERSION}"
        )
    try:
        group, own = facts[GROUP], [facts[name] for name in ("name", "identity", "key")]
        name, identity, key = (str(each) for each in own)
        if not isinstance(group, bytes) or not all(isinstance(each, str) for each in own) or reply.contribution.arrays:
            raise ValueError("it is malformed")
        if not (is_name(name) and is_name(identity)):
            raise ValueError(f"{printable(repr(name), 60)} is no name for an edge")
        found = EdgeIntroduction(name, identity, key, read_group(group))
        names = [node.name for node in found.nodes]
        if len({*names, name}) <= len(names) or not names:
            raise ValueError("two of it and its nodes have one name, or it has no nodes")
    except MALFORMED as error:
        return f"its introduction cannot be read: {printable(error)}"
    if keys is not None and found.key not in keys:
        return f"edge '{found.name}' has no key that was given with --allow-key"
    if found.key and not PublicKey(found.key).signed(facts.get("signature"), _signed(nonce, found, group)):
        return f"edge '{found.name}' does not sign with the key that it names"
    return found


def write_group(nodes: Sequence[Introduction]) -> bytes:
    """Introductions as bytes."""
    return json.dumps([asdict(node) for node in nodes]).encode()


def read_group(group: bytes) -> tuple[Introduction, ...]:
    """The introductions in these bytes; raises one of MALFORMED for others, and for such as cannot be true."""
    found = []
    for each in json.loads(group):
        node = Introduction(**each)
        if not all(isinstance(text, str) for text in (node.name, node.identity, node.key, node.ledger, node.tag)):
            raise ValueError("a text of a node is none")
        if node.limits is not None:
            low, high = (float(end) for end in node.limits)
            if not (math.isfinite(low) and math.isfinite(high)):
                raise ValueError(f"ratings from {low} to {high}")
            node = replace(node, limits=(low, high))
        check_introduction(node)
        found.append(node)
    return tuple(found)


@dataclass
class Edges:
    """The edges that have joined a federation.

    refused: why none can join; "" where they can.
    identities: of each, by its name. groups: the names of the nodes behind each. present: the members that are there.
    """

    refused: str = ""
    identities: dict[str, str] = field(default_factory=dict)
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    present: set[str] = field(default_factory=set)

    def conflict(self, name: str, nodes: Sequence[str]) -> str:
        """The reason why a member of this name cannot speak for these nodes, since another does; empty if it can."""
        for other in self.present - {name}:
            twice = set(self.groups.get(other, (other,))).intersection(nodes)
            if twice:
                return f"node '{min(twice)}' is there already, {'behind' if other in self.groups else 'as'} '{other}'"
        return ""

    def answers(self, answer: NodeAnswer) -> list[NodeAnswer]:
        """What the nodes behind an edge say of the ledger, each for itself; of a node its own answer."""
        if answer.name not in self.groups or answer.reply is None:
            return [answer]
        found: dict[str, dict[str, Fact]] = {}
        for fact, own in ((SIGNATURES, COUNTERSIGNATURE), (REASONS, UNSIGNED)):
            for name, value in _texts(answer.reply.facts.get(fact)).items():
                found.setdefault(name, {})[own] = value
        return [NodeAnswer(name, -1, Reply(facts)) for name, facts in found.items() if name in self.groups[answer.name]]

    def spread(self, outcome: RoundOutcome, names: Sequence[str]) -> RoundOutcome:
        """The outcome of a round in which each node is refused that is behind an edge that was.

        names: the nodes', by number. The ledger so tells each of them that its contribution is in no sum.
        """
        inside = {names[number] for number in outcome.contributors}
        told = {each.node for each in outcome.refused} | inside
        more = [
            Refusal(node, f"is behind '{each.node}', whose sum is not in the total")
            for each in outcome.refused
            for node in self.groups.get(each.node, ())
            if node not in told
        ]
        return replace(outcome, refused=(*outcome.refused, *dict.fromkeys(more)))


def signature_facts(signatures: Mapping[str, str], reasons: Mapping[str, str]) -> dict[str, Fact]:
    """What the nodes behind an edge say of the ledger's last entry, as facts of its answer; see Edges.answers."""
    facts: dict[str, Fact] = {}
    if signatures:
        facts[SIGNATURES] = json.dumps(dict(signatures)).encode()
    if reasons:
        facts[REASONS] = json.dumps(dict(reasons)).encode()
    return facts


def _texts(value: Fact | None) -> dict[str, str]:
    """Texts by name; none of what cannot be read, which then counts as not signed."""
    try:
        found = json.loads(value) if isinstance(value, bytes) else {}
    except ValueError:
        return {}
    entries = found.items() if isinstance(found, dict) else ()
    return {name: text for name, text in entries if isinstance(text, str)}


def _signed(nonce: bytes, edge: EdgeIntroduction, group: bytes) -> bytes:
    told = [edge.name, edge.identity, hashlib.sha256(group).hexdigest()]
    return b"\n".join([b"hierfed edge", nonce, *(each.encode() for each in told)])

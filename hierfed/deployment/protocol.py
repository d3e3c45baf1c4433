"""The greeting between a server and a node: each names itself, and both check their versions."""

from __future__ import annotations

import json
import math
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from hierfed import __version__
from hierfed.data.catalogue import Catalogue
from hierfed.data.reading.catalogue_file import catalogue_bytes
from hierfed.deployment.signing import NodeSigner, PublicKey
from hierfed.engines.exchange import Fact, Reply, Request
from hierfed.ledger.keys import is_public
from hierfed.plain_text import printable

# Raised with every change of the messages or their meaning: both sides must have the same.
VERSION = 9
MOST_OF_NAME = 100
OPEN, SECURE = "open", "secure"
# The scale of ratings in hello: its two ends, or unknown, in which case nodes send theirs.
SCALE, UNKNOWN_SCALE = "scale", json.dumps(None)
# The ledger's facts: a key or all lines; the last entries; a node's signature of the last, or the reason for none.
LEDGER, ENTRIES, COUNTERSIGNATURE, UNSIGNED = "ledger", "entries", "countersignature", "unsigned"


@dataclass(frozen=True)
class Introduction:
    """A node's description of itself.

    identity: a secret of its own, the same at each start.
    key: its public key; "" without one.
    ledger: the public key that it countersigns with.
    tag: a name of its ratings that changes when they do, and of which nobody else can tell anything.
    limits: its lowest and its highest rating, the only facts about its ratings; None under secure sums and with a known
        scale.
    """

    name: str
    identity: str
    key: str
    ledger: str
    tag: str
    limits: tuple[float, float] | None = None


def hello(
    catalogue: Catalogue, nonce: bytes, ledger: str, secure_sums: bool = False, scale: tuple[float, float] | None = None
) -> Request:
    """The server's first request to a node.

    nonce: drawn anew for each node, which signs it.
    ledger: the public key that the server signs its ledger with.
    secure_sums: True for secure sums.
    scale: the lowest and the highest possible rating; None asks nodes for theirs.
    """
    facts: dict[str, Fact] = {
        "version": VERSION,
        "hierfed": __version__,
        "nonce": nonce,
        "sums": SECURE if secure_sums else OPEN,
        SCALE: json.dumps(scale),
        LEDGER: ledger,
        "catalogue": catalogue_bytes(catalogue),
    }
    return Request("hello", facts)


def new_nonce() -> bytes:
    """Bytes that nobody can have signed before."""
    return secrets.token_bytes(32)


def other_version(request: Request) -> str:
    """A line for the user if server and node speak different versions; empty if not."""
    theirs, release = request.facts.get("version"), request.facts.get("hierfed")
    if theirs == VERSION:
        return ""
    return (
        f"the server (hierfed {release!r}) speaks version {theirs!r} of the protocol and this node "
        f"(hierfed {__version__!r}) version {VERSION}: install the same on both"
    )


def introduce(node: Introduction, nonce: bytes, key: ec.EllipticCurvePrivateKey | None) -> Reply:
    """A node's answer to hello."""
    facts: dict[str, Fact] = {
        "version": VERSION,
        "hierfed": __version__,
        "nonce": nonce,
        "name": node.name,
        "identity": node.identity,
        "key": node.key,
        LEDGER: node.ledger,
        "tag": node.tag,
        "signature": b"" if key is None else NodeSigner(key).sign(_signed(nonce, node)),
    }
    if node.limits is not None:
        facts |= {"low": node.limits[0], "high": node.limits[1]}
    return Reply(facts)


def read_introduction(reply: Reply, nonce: bytes, keys: frozenset[str] | None) -> Introduction | str:
    """The node's introduction, or the reason for which it cannot join.

    keys: the public keys of nodes that may join; None for all.
    """
    facts, arrays = reply.facts, reply.contribution.arrays
    if "refusal" in facts:
        return printable(facts["refusal"]) or "it gives no reason"
    if facts.get("version") != VERSION:
        version = printable(repr(facts.get("version")), 20)
        return f"it speaks version {version} of the protocol, and this server {VERSION}"
    try:
        limits = None
        if {"low", "high"} & facts.keys():
            limits = _number(facts, "low"), _number(facts, "high")
        name, identity, key = (_text(facts, fact) for fact in ("name", "identity", "key"))
        found = Introduction(name, identity, key, _text(facts, LEDGER), _text(facts, "tag"), limits)
        if arrays:
            raise ValueError("it holds arrays")
        check_introduction(found)
    except (KeyError, ValueError) as error:
        return f"its introduction cannot be read: {error}"
    if keys is not None and found.key not in keys:
        return f"node '{found.name}' has no key that was given with --allow-key"
    if found.key and not PublicKey(found.key).signed(facts.get("signature"), _signed(nonce, found)):
        return f"node '{found.name}' does not sign with the key that it names"
    return found


def check_introduction(found: Introduction) -> None:
    """Raise ValueError for an introduction that cannot be true."""
    if not (is_name(found.name) and is_name(found.identity)):
        raise ValueError(f"{printable(repr(found.name), 60)} is no name for a node")
    if not is_public(found.ledger):
        raise ValueError("it names no public key to countersign with")
    if found.limits is not None and found.limits[0] > found.limits[1]:
        raise ValueError(f"ratings from {found.limits[0]} to {found.limits[1]}")


def is_name(name: str) -> bool:
    """True for a valid name of a node: one line of text, which can be part of a file's name."""
    return len(name) <= MOST_OF_NAME and name.isprintable() and name == name.strip() and "/" not in name and name != ""


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """A key that sorts 'node 2' before 'node 10'."""
    parts = re.findall(r"\d+|\D+", name)
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts)


def _text(facts: Mapping[str, Fact], name: str) -> str:
    value = facts[name]
    if not isinstance(value, str):
        raise ValueError(f"{name} is no text")
    return value


def _number(facts: Mapping[str, Fact], name: str) -> float:
    value = facts[name]
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{name} is no number")
    return float(value)


def _signed(nonce: bytes, node: Introduction) -> bytes:
    told = [node.name, node.identity, node.ledger, node.tag]
    return b"\n".join([b"hierfed node", nonce, *(each.encode() for each in told)])


def limits_in(text: Fact | None) -> tuple[float, float] | None:
    """The lowest and the highest rating in a peer's introduction, where they are JSON; None where they are none."""
    try:
        low, high = (float(end) for end in json.loads(str(text)))
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None
    return (low, high) if math.isfinite(low) and math.isfinite(high) and low <= high else None

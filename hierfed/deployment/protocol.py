"""The first words between a server and a node: who each is, and whether they mean the same."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key

from hierfed import __version__
from hierfed.data.catalogue import Catalogue
from hierfed.data.catalogue_file import catalogue_bytes
from hierfed.data.features import Tallies
from hierfed.engines.exchange import Fact, Reply, Request
from hierfed.federated.tallies import read_tallies, sent_tallies

# Raised whenever what is said, or what it means, changes: both sides must have the same.
VERSION = 1


@dataclass(frozen=True)
class Introduction:
    """What a node says of itself. identity: a secret of its own, the same at each start. key: its public one, or ""."""

    name: str
    identity: str
    limits: tuple[float, float]
    tallies: Tallies
    unknown: int
    key: str


def hello(catalogue: Catalogue, nonce: bytes) -> Request:
    """What a server says first; nonce: drawn anew for each node, and signed by it."""
    facts: dict[str, Fact] = {
        "version": VERSION,
        "hierfed": __version__,
        "nonce": nonce,
        "catalogue": catalogue_bytes(catalogue),
    }
    return Request("hello", facts)


def new_nonce() -> bytes:
    """Bytes that nobody can have signed before."""
    return secrets.token_bytes(32)


def other_version(request: Request) -> str:
    """What is wrong where server and node do not speak the same version; empty where they do."""
    theirs, release = request.facts.get("version"), request.facts.get("hierfed")
    if theirs == VERSION:
        return ""
    return (
        f"the server (hierfed {release!r}) speaks version {theirs!r} of the protocol and this node "
        f"(hierfed {__version__!r}) version {VERSION}: install the same on both"
    )


def introduce(node: Introduction, nonce: bytes, key: ec.EllipticCurvePrivateKey | None) -> Reply:
    """A node's answer to hello."""
    low, high = node.limits
    facts: dict[str, Fact] = {
        "version": VERSION,
        "hierfed": __version__,
        "nonce": nonce,
        "name": node.name,
        "identity": node.identity,
        "low": low,
        "high": high,
        "unknown": node.unknown,
        "key": "" if key is None else public_text(key.public_key()),
        "signature": b"" if key is None else key.sign(_signed(nonce, node.name, node.identity), _scheme()),
    }
    return Reply(facts, sent_tallies(node.tallies))


def read_introduction(reply: Reply, nonce: bytes, keys: frozenset[str] | None) -> Introduction | str:
    """Who a node is, or why it cannot join; keys: the public ones that may, None for all."""
    facts, arrays = reply.facts, reply.contribution.arrays
    if "refusal" in facts:
        return " ".join(str(facts["refusal"]).split()) or "it gives no reason"
    if facts.get("version") != VERSION:
        return f"it speaks version {facts.get('version')!r} of the protocol, and this server {VERSION}"
    try:
        found = Introduction(
            name=_text(facts, "name"),
            identity=_text(facts, "identity"),
            limits=(_number(facts, "low"), _number(facts, "high")),
            tallies=read_tallies(arrays),
            unknown=int(_number(facts, "unknown")),
            key=_text(facts, "key"),
        )
        _check(found)
    except (KeyError, ValueError) as error:
        return f"its introduction cannot be read: {error}"
    if keys is not None and not _signs(found, facts.get("signature"), nonce, keys):
        return f"node '{found.name}' has no key that was given with --allow-key"
    return found


def is_name(name: str) -> bool:
    """Whether a node may be called that: one line of text, which can be part of a file's name."""
    return name.isprintable() and name == name.strip() and "/" not in name and name != ""


def public_text(key: ec.EllipticCurvePublicKey) -> str:
    """A public key in OpenSSH's format, without a comment."""
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


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


def _check(found: Introduction) -> None:
    """Raise ValueError where what was said cannot be true."""
    tallies = found.tallies
    if not (is_name(found.name) and is_name(found.identity)):
        raise ValueError(f"{found.name!r} is no name for a node")
    if found.limits[0] > found.limits[1] or found.unknown < 0:
        raise ValueError(f"ratings from {found.limits[0]} to {found.limits[1]}, {found.unknown} left out")
    if tallies.counts.ndim != 1 or tallies.counts.shape != tallies.sums.shape:
        raise ValueError(f"tallies of {tallies.counts.shape} and {tallies.sums.shape} items")
    if not (np.isfinite(tallies.counts).all() and np.isfinite(tallies.sums).all() and (tallies.counts >= 0).all()):
        raise ValueError("tallies that are no counts and sums")


def _signs(node: Introduction, signature: object, nonce: bytes, keys: frozenset[str]) -> bool:
    if node.key not in keys or not isinstance(signature, bytes):
        return False
    public = load_ssh_public_key(node.key.encode())
    if not isinstance(public, ec.EllipticCurvePublicKey):
        return False
    try:
        public.verify(signature, _signed(nonce, node.name, node.identity), _scheme())
    except InvalidSignature:
        return False
    return True


def _signed(nonce: bytes, name: str, identity: str) -> bytes:
    return b"\n".join([b"hierfed node", nonce, name.encode(), identity.encode()])


def _scheme() -> ec.ECDSA:
    return ec.ECDSA(hashes.SHA384())

"""What all nodes and the server must agree on before a round."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from cryptography.exceptions import InvalidSignature

from hierfed.privacy.secure_sum.encoding import Encoding
from hierfed.privacy.secure_sum.refusals import SecureSumError

_LARGEST_NODE = 2**63 - 1
USUAL_COLLUDING = 0.33


class Signer(Protocol):
    """A node's long-term private key, such as Ed25519PrivateKey."""

    def sign(self, data: bytes, /) -> bytes:
        """The signature of `data`."""
        ...


class VerifyKey(Protocol):
    """A node's long-term public key, such as Ed25519PublicKey."""

    def verify(self, signature: bytes, data: bytes, /) -> None:
        """Raise InvalidSignature unless the node signed `data`."""
        ...


def colluders(nodes: int, share: float = USUAL_COLLUDING) -> int:
    """How many of the nodes may side with the server: up to this share of them, below one half."""
    return math.floor(share * nodes)


def smallest_threshold(nodes: int, colluding: int) -> int:
    """The smallest threshold that holds against a malicious server and this many nodes that side with it."""
    return max((nodes + colluding) // 2 + 1, colluding + 2)


@dataclass(frozen=True)
class Setup:
    """One round: who takes part, how their arrays are encoded, and how many nodes it takes.

    round_id: unlike any other round's. What nodes must see alike before they contribute belongs in it too, above all
    the digest of the shared model: a server that gave each node its own model could read single nodes from the sum
    (Pasquini et al., CCS 2022, doi 10.1145/3548606.3560557).
    keys: every node's long-term public key by its number, known from elsewhere than from this server.
    threshold: t, how many nodes must stay to the end. colluding: c, how many of the n nodes may side with a malicious
    server; all that is promised of the others is promised for up to this many.

    2 t > n + c is demanded. Both secrets of a node come apart only if two sets of survivors are signed by t nodes each.
    The c may sign both, and each other node signs one at most, so t + t <= 2 c + (n - c) = n + c. Hence t > n/2 always;
    t > 2n/3, the paper's choice against a malicious server (section 6), does for any c below a third of the nodes. And
    t >= c + 2, because a sum with one honest node in it would be that node's contribution. Raises SecureSumError
    otherwise.
    """

    round_id: bytes
    keys: Mapping[int, VerifyKey] = field(repr=False)
    encoding: Encoding
    threshold: int
    colluding: int

    def __post_init__(self) -> None:
        count = len(self.keys)
        if not self.round_id:
            raise SecureSumError("a round needs an id that no other round has")
        if not all(0 <= node <= _LARGEST_NODE for node in self.keys):
            raise SecureSumError("nodes are numbered from 0 up")
        if self.encoding.nodes < count:
            raise SecureSumError(f"the encoding is for {self.encoding.nodes} nodes, and there are {count}")
        if self.colluding < 0:
            raise SecureSumError(f"{self.colluding} colluding nodes")
        least = smallest_threshold(count, self.colluding)
        if not least <= self.threshold <= count:
            raise SecureSumError(
                f"a threshold of {self.threshold} of {count} nodes, of which {self.colluding} may collude: "
                + (f"must be from {least} to {count}" if least <= count else "no threshold holds against so many")
            )

    @cached_property
    def nodes(self) -> tuple[int, ...]:
        """The nodes' numbers, ascending."""
        return tuple(sorted(map(int, self.keys)))

    @cached_property
    def points(self) -> dict[int, int]:
        """At which point of the sharing polynomials each node's shares lie."""
        return {node: place for place, node in enumerate(self.nodes, 1)}

    @cached_property
    def session(self) -> bytes:
        """32 bytes that stand for all of this in every message, key and signature."""
        text = repr((self.round_id, self.nodes, self.threshold, self.colluding)).encode() + self.encoding.text()
        return hashlib.sha256(b"hierfed secure sum 1: " + text).digest()

    def signed(self, node: int, signature: bytes, text: bytes) -> bool:
        """Whether this node signed the text."""
        try:
            self.keys[node].verify(signature, text)
        except InvalidSignature:
            return False
        return True

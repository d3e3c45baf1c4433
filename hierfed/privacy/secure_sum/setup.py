"""The terms that all nodes and the server agree on before a round."""

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
    """The number of nodes that may side with the server: up to this share of them, below one half."""
    return math.floor(share * nodes)


def smallest_threshold(nodes: int, colluding: int) -> int:
    """The smallest threshold against a malicious server and this many colluding nodes."""
    return max((nodes + colluding) // 2 + 1, colluding + 2)


@dataclass(frozen=True)
class Setup:
    """The terms of one round.

    round_id: unlike any other round's. It should include all that nodes must see alike before they contribute, above
        all the digest of the shared model: a server that gave each node its own model could read single nodes from the
        sum (Pasquini et al., CCS 2022, doi 10.1145/3548606.3560557).
    keys: every node's long-term public key by its number; nodes must not take them on trust from this server.
    encoding: of the arrays.
    threshold: t, the least number of nodes that must stay to the end.
    colluding: c, the number of the n nodes that may side with a malicious server; all promises to the others hold for
        up to this many.

    The threshold must satisfy 2 t > n + c. The server gets both secrets of a node only if two different sets of
    survivors have t signatures each. The c may sign both sets, and each other node signs one at most, so t + t <= 2 c
    + (n - c) = n + c. Hence t > n/2 always. The paper's choice against a malicious server (section 6) is t > 2n/3,
    which suffices for any c below a third of the nodes. It must satisfy t >= c + 2 too: a sum with one honest node in
    it would be that node's contribution. Raises SecureSumError for other thresholds.
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
        """The point of each node's shares on the sharing polynomials."""
        return {node: place for place, node in enumerate(self.nodes, 1)}

    @cached_property
    def session(self) -> bytes:
        """A digest of the terms, 32 bytes, in every message, key and signature."""
        text = repr((self.round_id, self.nodes, self.threshold, self.colluding)).encode() + self.encoding.text()
        return hashlib.sha256(b"hierfed secure sum 1: " + text).digest()

    def signed(self, node: int, signature: bytes, text: bytes) -> bool:
        """True if this node signed the text."""
        try:
            self.keys[node].verify(signature, text)
        except InvalidSignature:
            return False
        return True

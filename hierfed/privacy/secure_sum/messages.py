"""The messages between nodes and the server, in the order of the rounds."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

from hierfed.privacy.secure_sum import wire
from hierfed.privacy.secure_sum.refusals import Refused
from hierfed.privacy.secure_sum.shamir import PRIME, SHARE_BYTES

DIGEST_BYTES = 32
PUBLIC_BYTES = 32


@dataclass(frozen=True)
class Advertisement:
    """Round 0, node to server: its two public keys for this round, signed with its long-term key."""

    session: bytes
    sender: int
    sealing_key: bytes
    masking_key: bytes
    signature: bytes

    def __post_init__(self) -> None:
        _check_length("session", self.session, DIGEST_BYTES)
        _check_length("sealing key", self.sealing_key, PUBLIC_BYTES)
        _check_length("masking key", self.masking_key, PUBLIC_BYTES)

    def signed_text(self) -> bytes:
        """The text that the signature signs."""
        return b"hierfed keys" + self.session + _numbers([self.sender]) + self.sealing_key + self.masking_key


@dataclass(frozen=True)
class Roster:
    """Round 0, server to nodes: the advertisements, ascending by node."""

    session: bytes
    advertised: tuple[Advertisement, ...]

    def __post_init__(self) -> None:
        _check_length("session", self.session, DIGEST_BYTES)
        _check_ascending([each.sender for each in self.advertised])

    def digest(self) -> bytes:
        """A digest of this list of keys, 32 bytes."""
        return hashlib.sha256(encode(self)).digest()


@dataclass(frozen=True)
class Box:
    """Two shares under a key of two nodes. peer: the receiver if a node sends it, else the sender."""

    peer: int
    data: bytes


@dataclass(frozen=True)
class SealedShares:
    """Round 1, node to server: a box for each other node of the roster, ascending, and the commitment to its seed."""

    session: bytes
    sender: int
    commitment: bytes
    boxes: tuple[Box, ...]

    def __post_init__(self) -> None:
        _check_length("session", self.session, DIGEST_BYTES)
        _check_length("commitment", self.commitment, DIGEST_BYTES)
        _check_ascending([box.peer for box in self.boxes])


@dataclass(frozen=True)
class Inbox:
    """Round 1, server to one node: the boxes for it, ascending by sender."""

    session: bytes
    boxes: tuple[Box, ...]

    def __post_init__(self) -> None:
        _check_length("session", self.session, DIGEST_BYTES)
        _check_ascending([box.peer for box in self.boxes])


@dataclass(frozen=True)
class MaskedInput:
    """Round 2, node to server: its masked vector, uint64 little-endian."""

    session: bytes
    sender: int
    vector: bytes

    def __post_init__(self) -> None:
        _check_length("session", self.session, DIGEST_BYTES)


@dataclass(frozen=True)
class Survivors:
    """Round 2, server to nodes: the nodes whose masked vectors are in the sum, ascending."""

    session: bytes
    nodes: tuple[int, ...]

    def __post_init__(self) -> None:
        _check_length("session", self.session, DIGEST_BYTES)
        _check_ascending(self.nodes)


@dataclass(frozen=True)
class Consent:
    """Round 3, node to server: its signature of everything that the server said to it in this round."""

    session: bytes
    sender: int
    signature: bytes

    def __post_init__(self) -> None:
        _check_length("session", self.session, DIGEST_BYTES)


@dataclass(frozen=True)
class Consents:
    """Round 3, server to nodes: the signatures, ascending by node."""

    session: bytes
    signed: tuple[Consent, ...]

    def __post_init__(self) -> None:
        _check_length("session", self.session, DIGEST_BYTES)
        _check_ascending([each.sender for each in self.signed])


@dataclass(frozen=True)
class Share:
    """A share of one of the owner's secrets: the mask key of a node that dropped out, or a survivor's seed."""

    owner: int
    data: bytes

    def __post_init__(self) -> None:
        _check_length("share", self.data, SHARE_BYTES)
        if int.from_bytes(self.data, "little") >= PRIME:
            raise Refused("a share is no element of the field")

    @property
    def value(self) -> int:
        """The share as an element of the field."""
        return int.from_bytes(self.data, "little")


@dataclass(frozen=True)
class Unmasking:
    """Round 4, node to server: shares of the dropped nodes' mask keys and of the survivors' seeds, ascending."""

    session: bytes
    sender: int
    mask_keys: tuple[Share, ...]
    seeds: tuple[Share, ...]

    def __post_init__(self) -> None:
        _check_length("session", self.session, DIGEST_BYTES)
        _check_ascending([share.owner for share in self.mask_keys])
        _check_ascending([share.owner for share in self.seeds])
        if {share.owner for share in self.mask_keys} & {share.owner for share in self.seeds}:
            raise Refused("shares of both secrets of one node")


FromNode = Advertisement | SealedShares | MaskedInput | Consent | Unmasking
FromServer = Roster | Inbox | Survivors | Consents
Message = FromNode | FromServer
_M = TypeVar("_M", bound=Message)
KINDS: dict[int, type[Message]] = {
    1: Advertisement,
    2: Roster,
    3: SealedShares,
    4: Inbox,
    5: MaskedInput,
    6: Survivors,
    7: Consent,
    8: Consents,
    9: Unmasking,
}


def encode(message: Message) -> bytes:
    """A message as bytes; each message has one encoding."""
    return wire.pack(message, next(kind for kind, of in KINDS.items() if of is type(message)))


def decode(data: bytes) -> Message:
    """The message in these bytes; raises Refused for any bytes that `encode` does not make."""
    message: Message = wire.unpack(data, dict(KINDS))
    return message


def decode_as(kind: type[_M], data: bytes) -> _M:
    """The message of this kind in these bytes; raises Refused for any other kind too."""
    message = decode(data)
    if not isinstance(message, kind):
        raise Refused(f"a message of kind {type(message).__name__}, where {kind.__name__} is due")
    return message


def consent_text(session: bytes, roster: bytes, share_senders: Sequence[int], survivors: Sequence[int]) -> bytes:
    """The text that a consent signs: the round, its keys, the nodes whose shares came, and the survivors.

    The paper signs the survivors alone. The keys are new in each round, so a signature of another round does not fit,
    even of a round with the same id.
    """
    return b"hierfed survivors" + session + roster + _numbers(share_senders) + _numbers(survivors)


def _numbers(nodes: Sequence[int]) -> bytes:
    return b"".join(number.to_bytes(8, "little") for number in (len(nodes), *nodes))


def _check_length(name: str, data: bytes, length: int) -> None:
    if len(data) != length:
        raise Refused(f"a {name} of {len(data)} bytes, not {length}")


def _check_ascending(nodes: Sequence[int]) -> None:
    if any(later <= earlier for earlier, later in pairwise(nodes)):
        raise Refused("nodes that are not in ascending order, or twice the same")

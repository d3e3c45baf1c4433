"""Keys that two nodes share, for pairwise masks and for boxes that only the other node can open."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from hierfed.privacy.secure_sum.refusals import Refused
from hierfed.privacy.secure_sum.shamir import RandomBytes
from hierfed.privacy.secure_sum.streams import KEY_BYTES

# Each direction of a pair has its own key in each round, which seals one box: a constant nonce is safe.
_NONCE = bytes(12)


@dataclass(frozen=True)
class KeyPair:
    """A key pair of one node for one round (X25519, RFC 7748); its repr does not show the private half."""

    private: bytes = field(repr=False)

    @classmethod
    def draw(cls, random_bytes: RandomBytes) -> KeyPair:
        """A new key pair."""
        return cls(random_bytes(KEY_BYTES))

    @cached_property
    def public(self) -> bytes:
        """The public half, 32 bytes."""
        return self._key.public_key().public_bytes_raw()

    def shared_with(self, public: bytes) -> bytes:
        """The secret shared with the owner of a public key; raises Refused for a key of low order."""
        try:
            return self._key.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError as error:
            raise Refused("a public key is of low order: anyone would know the secret") from error

    @cached_property
    def _key(self) -> X25519PrivateKey:
        return X25519PrivateKey.from_private_bytes(self.private)


def derive(secret: bytes, session: bytes, purpose: str, *nodes: int) -> bytes:
    """A 256-bit key for one purpose of one round: HKDF-SHA256 (RFC 5869), salted with the session."""
    return HKDF(SHA256(), KEY_BYTES, salt=session, info=_context(purpose.encode(), *nodes)).derive(secret)


def pair_mask_key(own: KeyPair, public: bytes, session: bytes, node: int, peer: int) -> bytes:
    """The key of the mask that two nodes share: the same from either side."""
    return derive(own.shared_with(public), session, "pair mask", *sorted((node, peer)))


def self_mask_key(seed: bytes, session: bytes, node: int) -> bytes:
    """The key of the mask that a node draws for itself."""
    return derive(seed, session, "self mask", node)


def commitment(seed: bytes, session: bytes, node: int) -> bytes:
    """A commitment to a node's seed: it shows later that a rebuilt seed is right, and hides it until then."""
    return derive(seed, session, "commitment", node)


def seal(secret: bytes, session: bytes, view: bytes, sender: int, receiver: int, plain: bytes) -> bytes:
    """A box from one node to another (ChaCha20-Poly1305, RFC 8439), bound to both, to the round and to `view`."""
    cipher = ChaCha20Poly1305(derive(secret, session, "box", sender, receiver))
    return cipher.encrypt(_NONCE, plain, session + _context(view, sender, receiver))


def unseal(secret: bytes, session: bytes, view: bytes, sender: int, receiver: int, box: bytes) -> bytes:
    """The content of a box; raises Refused unless this sender sealed it for this receiver, round and view."""
    cipher = ChaCha20Poly1305(derive(secret, session, "box", sender, receiver))
    try:
        return cipher.decrypt(_NONCE, box, session + _context(view, sender, receiver))
    except InvalidTag:
        raise Refused(
            f"the shares from node {sender} do not open: tampered with, or of another round or list"
        ) from None


def _context(text: bytes, *nodes: int) -> bytes:
    return len(text).to_bytes(4, "little") + text + b"".join(node.to_bytes(8, "little") for node in nodes)

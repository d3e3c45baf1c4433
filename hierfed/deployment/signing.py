"""Signatures of nodes: ECDSA over P-384 with SHA-384, with keys that Flower accepts too."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from functools import cached_property

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key

_SCHEME = ec.ECDSA(hashes.SHA384())


@dataclass(frozen=True)
class PublicKey:
    """A node's public key. text: in OpenSSH's format, without a comment."""

    text: str

    def verify(self, signature: bytes, data: bytes, /) -> None:
        """Raise InvalidSignature unless the owner signed `data`."""
        if self._key is None:
            raise InvalidSignature
        self._key.verify(signature, data, _SCHEME)

    def signed(self, signature: object, data: bytes) -> bool:
        """True for the owner's signature of `data`."""
        try:
            self.verify(signature if isinstance(signature, bytes) else b"", data)
        except InvalidSignature:
            return False
        return True

    @property
    def known(self) -> bool:
        """True for a text that is a key."""
        return self._key is not None

    @cached_property
    def _key(self) -> ec.EllipticCurvePublicKey | None:
        try:
            key = load_ssh_public_key(self.text.encode())
        except (ValueError, UnsupportedAlgorithm):
            return None
        return key if isinstance(key, ec.EllipticCurvePublicKey) else None


@dataclass(frozen=True)
class NodeSigner:
    """Signs as a node; its repr does not show the key."""

    key: ec.EllipticCurvePrivateKey = field(repr=False)

    def sign(self, data: bytes, /) -> bytes:
        """The signature of `data`."""
        return self.key.sign(data, _SCHEME)


def public_text(key: ec.EllipticCurvePublicKey) -> str:
    """A public key in OpenSSH's format, without a comment."""
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def fingerprint(text: str) -> str:
    """A public key's fingerprint, as `ssh-keygen -l` shows it; the text is one that PublicKey takes."""
    digest = hashlib.sha256(base64.b64decode(text.split(" ")[1])).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"

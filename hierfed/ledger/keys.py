"""Keys that sign ledgers: Ed25519 (RFC 8032). Public keys and fingerprints are written as OpenSSH writes them."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
    load_ssh_public_key,
)

from hierfed.atomic import write_atomically
from hierfed.errors import HierfedError, StorageError, reason_of
from hierfed.ledger.entries import FILE as LEDGER
from hierfed.sealed import damaged

KEY = "ledger.key"
PREFIX = "SHA256:"
ANEW = "put it back from a copy; else --begin-anew on a server, or another --state and --name on a node"


def kept_key(folder: Path) -> Ed25519PrivateKey:
    """The key in `folder/ledger.key`, for its owner only; the first call makes it, and its public half beside it.

    Raises HierfedError for a file without a key, or with another one than its public half says, where none can be
    written, and where the key of a ledger that lies beside it is lost.
    """
    path = folder / KEY
    if not path.is_file() and (folder / LEDGER).is_file():
        raise damaged(path, f"it is missing, and {LEDGER} beside it needs it", ANEW)
    try:
        if not path.is_file():
            made = Ed25519PrivateKey.generate()
            write_atomically(path, made.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()), 0o600)
            write_atomically(folder / f"{KEY}.pub", f"{public_text(made)}\n".encode())
        key = load_ssh_private_key(path.read_bytes(), None)
    except StorageError:
        raise
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm, NotImplementedError) as error:
        raise HierfedError(f"{path}: no private key of a ledger: {reason_of(error)}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise HierfedError(f"{path}: not an Ed25519 key, which ledgers are signed with")
    # A key's file can be damaged and still hold a key.
    public = folder / f"{KEY}.pub"
    if public.is_file() and public.read_bytes().strip() != public_text(key).encode():
        raise damaged(path, f"it does not fit {public.name} beside it", ANEW)
    return key


def public_text(key: Ed25519PrivateKey) -> str:
    """The public half, in OpenSSH's format, without a comment."""
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def is_public(text: str) -> bool:
    """True for a public key as `public_text` writes it."""
    return _public(text) is not None


def fingerprint(text: str) -> str:
    """A public key's fingerprint, as `ssh-keygen -l` shows it; raises ValueError for any other text."""
    if not is_public(text):
        raise ValueError(f"{text!r} is no public key of a ledger")
    digest = hashlib.sha256(base64.b64decode(text.split(" ")[1])).digest()
    return PREFIX + base64.b64encode(digest).decode().rstrip("=")


def is_signed(text: str, signature: str, data: bytes) -> bool:
    """True if the owner of this public key made this signature (hexadecimal) of `data`."""
    key = _public(text)
    try:
        if key is not None:
            key.verify(bytes.fromhex(signature), data)
    except (InvalidSignature, ValueError):
        return False
    return key is not None


def _public(text: str) -> Ed25519PublicKey | None:
    try:
        key = load_ssh_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm):
        return None
    if not isinstance(key, Ed25519PublicKey):
        return None
    return key if key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode() == text else None

"""Keys of nodes and certificates of servers, for users without an authority of their own."""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_ssh_private_key,
    load_ssh_public_key,
)

from hierfed.atomic import write_atomically
from hierfed.deployment.signing import public_text
from hierfed.engines.flower.superlink import Certificates
from hierfed.errors import HierfedError, reason_of
from hierfed.sealed import damaged

DAYS = 365
ANOTHER = "put it back from a copy; else `hierfed keys new` makes another one"
_HOST = re.compile(r"(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?", re.ASCII)


def new_key(path: Path) -> Path:
    """Make a node's private key at `path`, for its owner only, and its public half beside it; gives the path of that.

    Raises HierfedError where a file exists already, and where none can be written.
    """
    public = path.with_name(f"{path.name}.pub")
    _refuse_existing([path, public])
    key = ec.generate_private_key(ec.SECP384R1())
    with _in_one_line(path):
        write_atomically(path, key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()), 0o600)
        write_atomically(public, f"{public_text(key.public_key())} {path.stem}\n".encode())
    return public


def read_key(path: Path, remedy: str = ANOTHER) -> ec.EllipticCurvePrivateKey:
    """A node's private key; raises HierfedError for a file that holds none, or another one than the public half says.

    remedy: what to do about the latter.
    """
    try:
        key = load_ssh_private_key(path.read_bytes(), None)
    except TypeError as error:
        raise HierfedError(
            f"--key {path}: has a passphrase, which no one could type; `hierfed keys new` makes one"
        ) from error
    except OSError as error:
        raise HierfedError(f"--key {path}: cannot be read: {reason_of(error)}; `hierfed keys new` makes one") from error
    # A damaged point may look like one in a form that the library does not read.
    except (ValueError, UnsupportedAlgorithm, NotImplementedError) as error:
        raise HierfedError(f"--key {path}: no private key of a node: {error}; `hierfed keys new` makes one") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise HierfedError(f"--key {path}: not an elliptic-curve key; `hierfed keys new` makes one")
    # A key's file can be damaged and still hold a key.
    public = path.with_name(f"{path.name}.pub")
    if public.is_file() and read_public_key(public, "--key") != public_text(key.public_key()):
        raise damaged(path, f"it does not fit {public.name} beside it", remedy)
    return key


def read_public_key(path: Path, option: str = "--allow-key") -> str:
    """A node's public key in OpenSSH's format.

    option: named in the HierfedError for a file without one.
    """
    try:
        key = load_ssh_public_key(path.read_bytes())
    except UnsupportedAlgorithm as error:
        # The error's own text would repeat the file's, which may be a private key.
        raise HierfedError(f"{option} {path}: no public key of a node; give the .pub file") from error
    except (OSError, ValueError, NotImplementedError) as error:
        raise HierfedError(
            f"{option} {path}: no public key of a node: {reason_of(error)}; give the .pub file"
        ) from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise HierfedError(f"{option} {path}: not an elliptic-curve key; `hierfed keys new` makes one")
    return public_text(key)


def new_certificates(folder: Path, hosts: Sequence[str], days: int = DAYS) -> Certificates:
    """Make an authority, and a certificate that it signs for these hosts and for this machine itself.

    hosts: names or addresses.
    days: how long both are valid.
    The authority's own key is thrown away, so it signs nothing else. Raises HierfedError where a file exists already,
    where none can be written, and for a host that no certificate can name.
    """
    names = [_name(host) for host in dict.fromkeys([*hosts, "localhost", "127.0.0.1"])]
    with _in_one_line(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = Certificates(folder / "server.pem", folder / "server.key", folder / "ca.pem")
    _refuse_existing([made.certificate, made.key, made.ca])
    now = datetime.datetime.now(datetime.UTC)
    authority_key, key = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
    authority = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hierfed federation")])

    def certificate(
        subject: x509.Name, public: ec.EllipticCurvePublicKey, is_authority: bool
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(authority)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=max(1, -days + 1)))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
            )
        )

    # The extension holds the names: a common name has 64 characters at most.
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hierfed server")])
    own = certificate(authority, authority_key.public_key(), True)
    server = certificate(subject, key.public_key(), False).add_extension(x509.SubjectAlternativeName(names), False)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with _in_one_line(folder):
        write_atomically(made.ca, own.sign(authority_key, hashes.SHA384()).public_bytes(Encoding.PEM))
        write_atomically(made.certificate, server.sign(authority_key, hashes.SHA384()).public_bytes(Encoding.PEM))
        write_atomically(made.key, private, 0o600)
    return made


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        if not _HOST.fullmatch(host):
            raise HierfedError(
                f"{host!r}: no name or address of a host; others than ASCII letters go as xn--"
            ) from None
        return x509.DNSName(host)


@contextmanager
def _in_one_line(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HierfedError(f"{path}: cannot be written: {reason_of(error)}") from error


def _refuse_existing(paths: Sequence[Path]) -> None:
    for path in paths:
        if path.exists():
            raise HierfedError(f"{path}: is there already, and would be lost; choose another name")

"""Letters over gRPC. TLS shows who listens, by the peer's own key; a signature in each letter shows who writes.

A peer's certificate is made of its key at every start, and signed by the key itself. Whoever calls it looks at the
certificate first, takes it for the key's owner if that key was allowed, and then speaks to holders of it alone.
"""

from __future__ import annotations

import datetime
import json
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from hierfed.engines.exchange import Fact, Request
from hierfed.errors import HierfedError
from hierfed.plain_text import printable
from hierfed.privacy.secure_sum.setup import Signer
from hierfed.tensor_files import tensor_bytes, tensors_of

SERVICE, METHOD = "hierfed.Peers", "Send"
PATH = f"/{SERVICE}/{METHOD}"
HOST = "hierfed-peer"
MOST_BYTES = 1 << 28
CALL_SECONDS, LOOK_SECONDS = 60.0, 5.0
PING = "ping"
DAYS = 365
_OPTIONS = (("grpc.max_receive_message_length", MOST_BYTES), ("grpc.max_send_message_length", MOST_BYTES))


class Verifier(Protocol):
    """A public key that checks signatures."""

    def signed(self, signature: object, data: bytes) -> bool:
        """True for the owner's signature of `data`."""
        ...


Deliver = Callable[[str, Request], Mapping[str, Fact]]
"""Takes a letter from the peer of a public key; gives the facts of the answer. Raises ValueError for a wrong one."""


def own_certificate(key: ec.EllipticCurvePrivateKey) -> tuple[bytes, bytes]:
    """The private key and a certificate that it signs itself, in PEM."""
    name, now = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)]), datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .sign(key, hashes.SHA384())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private, made.public_bytes(Encoding.PEM)


def certificate_at(host: str, port: int, seconds: float = LOOK_SECONDS) -> x509.Certificate:
    """The certificate that is shown at an address, whoever's it is; raises OSError where there is none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with socket.create_connection((host, port), seconds) as plain, context.wrap_socket(plain) as wrapped:
        shown = wrapped.getpeercert(binary_form=True)
    if not shown:
        raise OSError("no certificate is shown")
    return x509.load_der_x509_certificate(shown)


def key_of(certificate: x509.Certificate) -> str:
    """The certificate's public key, in OpenSSH's format."""
    return certificate.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


@dataclass
class GrpcPost:
    """Sends letters as the owner of a key, to peers that were met; see Post.

    own: this peer's public key. signer: signs with the private one. met: channels by the number of the peer.
    """

    own: str
    signer: Signer
    met: dict[int, tuple[str, grpc.Channel]] = field(default_factory=dict)

    def send(self, peer: int, letter: Request) -> bool:
        """See Post."""
        return self._called(peer, letter, CALL_SECONDS)

    def reaches(self, peer: int) -> bool:
        """See Post."""
        return self._called(peer, Request(PING), LOOK_SECONDS)

    def ask(self, key: str, channel: grpc.Channel, letter: Request, seconds: float) -> dict[str, Fact]:
        """The facts of the answer; raises grpc.RpcError where there is none, ValueError for one that is none."""
        call = channel.unary_unary(PATH)
        return _facts(call(_sealed(letter, self.own, key, self.signer), timeout=seconds))

    def _called(self, peer: int, letter: Request, seconds: float) -> bool:
        key, channel = self.met[peer]
        try:
            self.ask(key, channel, letter, seconds)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.PERMISSION_DENIED:
                raise HierfedError(f"a peer refuses this one's letters: {error.details()}") from error
            return False
        except ValueError:
            # As good as none: the letter may not have arrived.
            return False
        return True


def channel_to(host: str, port: int, certificate: x509.Certificate) -> grpc.Channel:
    """A channel that only the owner of this certificate's key can answer."""
    credentials = grpc.ssl_channel_credentials(certificate.public_bytes(Encoding.PEM))
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    # gRPC waits longer and longer before it tries again, and would not see a peer that has come up.
    often = (("grpc.max_reconnect_backoff_ms", 1000), ("grpc.enable_http_proxy", 0))
    return grpc.secure_channel(where, credentials, (*_OPTIONS, *often, ("grpc.ssl_target_name_override", HOST)))


@contextmanager
def listening(
    host: str,
    port: int,
    key: ec.EllipticCurvePrivateKey,
    own: str,
    allowed: Mapping[str, Verifier],
    deliver: Deliver,
) -> Iterator[None]:
    """Take letters of the owners of the allowed keys, and refuse everybody else's.

    Raises HierfedError for an address that cannot be listened at.
    """

    def take(content: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            sender, letter = _opened(content, own, allowed)
        except PermissionError as error:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, printable(error))
        try:
            return json.dumps({} if letter.kind == PING else dict(deliver(sender, letter))).encode()
        except ValueError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        raise AssertionError("abort raises")

    server = grpc.server(ThreadPoolExecutor(4 + len(allowed)), options=(*_OPTIONS, ("grpc.so_reuseport", 0)))
    handler = grpc.method_handlers_generic_handler(SERVICE, {METHOD: grpc.unary_unary_rpc_method_handler(take)})
    server.add_generic_rpc_handlers((handler,))
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        server.add_secure_port(where, grpc.ssl_server_credentials([own_certificate(key)]))
    except RuntimeError as error:
        raise HierfedError(f"--listen {where}: cannot be listened at; is the port in use?") from error
    server.start()
    try:
        yield
    finally:
        server.stop(1).wait()


def _sealed(letter: Request, own: str, to: str, signer: Signer) -> bytes:
    body = tensor_bytes(letter.arrays, {"kind": letter.kind, "to": to, "facts": json.dumps(dict(letter.facts))})
    return json.dumps({"from": own, "signature": signer.sign(body).hex()}).encode() + b"\n" + body


def _opened(content: bytes, own: str, allowed: Mapping[str, Verifier]) -> tuple[str, Request]:
    """The sender's key, and the letter; raises PermissionError for strangers, ValueError for what is no letter."""
    head, _, body = content.partition(b"\n")
    told = json.loads(head)
    sender = str(told["from"])
    # Nothing else is read before the signature holds.
    if sender not in allowed or not allowed[sender].signed(bytes.fromhex(told["signature"]), body):
        raise PermissionError("no key that is allowed here has signed this")
    facts, arrays = tensors_of(body)
    if facts["to"] != own:
        raise PermissionError("for another peer")
    return sender, Request(facts["kind"], _facts(facts["facts"]), arrays)


def _facts(content: str | bytes) -> dict[str, Fact]:
    """The facts in a text of JSON; raises ValueError where there are none."""
    try:
        found = json.loads(content)
    except RecursionError as error:
        raise ValueError("facts within facts") from error
    if not isinstance(found, dict) or not all(isinstance(fact, str | int | float) for fact in found.values()):
        raise ValueError("a letter without facts")
    return found

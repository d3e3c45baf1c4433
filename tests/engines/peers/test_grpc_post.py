"""Letters over gRPC with TLS: from the owners of allowed keys alone, whole, and to whom they are meant."""

from __future__ import annotations

import socket

import grpc
import pytest
import torch

from hierfed.deployment.signing import NodeSigner, PublicKey, public_text
from hierfed.engines.exchange import Request
from hierfed.engines.peers.grpc_post import PATH, GrpcPost, certificate_at, channel_to, key_of, listening

ec = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ec")
OWN, PEER, STRANGER = (ec.generate_private_key(ec.SECP384R1()) for _ in range(3))
NAMED = {key: public_text(key.public_key()) for key in (OWN, PEER, STRANGER)}


@pytest.fixture(scope="module")
def letters():
    """What has come, after the port and a channel to it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    came: list[tuple[str, Request]] = []

    def deliver(sender, letter):
        if letter.kind == "wrong":
            raise ValueError("a wrong letter")
        came.append((sender, letter))
        return {"told": 7}

    with listening("127.0.0.1", port, OWN, NAMED[OWN], {NAMED[PEER]: PublicKey(NAMED[PEER])}, deliver):
        shown = certificate_at("127.0.0.1", port)
        assert key_of(shown) == NAMED[OWN]
        channel = channel_to("127.0.0.1", port, shown)
        yield port, channel, came
        channel.close()


def of(key) -> GrpcPost:
    return GrpcPost(NAMED[key], NodeSigner(key))


def test_a_letter_arrives_whole_and_is_answered(letters):
    _, channel, came = letters
    array = torch.randn(3, 4, dtype=torch.float64)
    told = of(PEER).ask(NAMED[OWN], channel, Request("mass", {"number": 3}, {"mass": array}), 10)
    assert told == {"told": 7}
    sender, letter = came[-1]
    assert (sender, letter.kind, letter.facts) == (NAMED[PEER], "mass", {"number": 3})
    assert torch.equal(letter.arrays["mass"], array)


@pytest.mark.parametrize("key", [STRANGER, OWN], ids=["a stranger's key", "its own key"])
def test_strangers_are_refused(letters, key):
    _, channel, came = letters
    before = len(came)
    with pytest.raises(grpc.RpcError) as refused:
        of(key).ask(NAMED[OWN], channel, Request("mass"), 10)
    assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
    assert len(came) == before


def test_a_letter_to_somebody_else_is_refused(letters):
    _, channel, _ = letters
    with pytest.raises(grpc.RpcError) as refused:
        of(PEER).ask(NAMED[STRANGER], channel, Request("mass"), 10)
    assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize("content", [b"", b"{}", b"\x00" * 99, b'{"from": 1}\nx', b"[]\n", b"[" * 100_000 + b"\nx"])
def test_what_is_no_letter_is_refused(letters, content):
    _, channel, _ = letters
    with pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(PATH)(content, timeout=10)
    assert refused.value.code() in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.INVALID_ARGUMENT)


def test_a_letter_that_cannot_be_used_did_not_arrive(letters):
    _, channel, _ = letters
    post = of(PEER)
    post.met[0] = NAMED[OWN], channel
    assert post.send(0, Request("mass"))
    assert post.reaches(0)
    assert not post.send(0, Request("wrong"))


class Answering:
    """A channel to a peer that answers these bytes."""

    def __init__(self, answer: bytes):
        self.answer = answer

    def unary_unary(self, path: str):
        return lambda content, timeout: self.answer


@pytest.mark.parametrize("answer", [b"", b"\xff", b"[]", b"5", b'{"a": []}', b"[" * 100_000, b'{"a": null}'])
def test_a_letter_whose_answer_is_none_did_not_arrive(answer):
    post = of(PEER)
    post.met[0] = NAMED[OWN], Answering(answer)
    assert not post.send(0, Request("mass"))
    with pytest.raises(ValueError):
        post.ask(NAMED[OWN], Answering(answer), Request("hello"), 10)


def test_another_certificate_is_not_believed(letters):
    """Whoever took over the address would need the key."""
    from cryptography import x509

    from hierfed.engines.peers.grpc_post import own_certificate

    port, _, _ = letters
    other = x509.load_pem_x509_certificate(own_certificate(STRANGER)[1])
    channel = channel_to("127.0.0.1", port, other)
    with pytest.raises(grpc.RpcError) as refused:
        of(PEER).ask(NAMED[OWN], channel, Request("mass"), 10)
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    channel.close()

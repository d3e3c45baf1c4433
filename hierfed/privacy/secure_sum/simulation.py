"""A whole secure sum in one process: every message as bytes, with any nodes lost in any phase."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hierfed.federated.contract import Contribution
from hierfed.federated.rules import Summed
from hierfed.privacy.secure_sum.aggregator import Aggregator, Phase
from hierfed.privacy.secure_sum.bounds import public_bounds
from hierfed.privacy.secure_sum.client import Client
from hierfed.privacy.secure_sum.encoding import Bound, WordBound, plan
from hierfed.privacy.secure_sum.messages import FromNode, Message, decode_as, encode
from hierfed.privacy.secure_sum.refusals import SecureSumError
from hierfed.privacy.secure_sum.setup import USUAL_COLLUDING, Setup, colluders, smallest_threshold
from hierfed.privacy.secure_sum.shamir import RandomBytes

_M = TypeVar("_M", bound=Message)


def secure_total(
    contributions: Mapping[int, Contribution],
    bounds: Mapping[str, Bound | WordBound],
    threshold: int | None = None,
    colluding: int | None = None,
    drop: Mapping[int, Phase] | None = None,
    round_id: bytes | None = None,
    random_bytes: RandomBytes = os.urandom,
) -> Summed:
    """The decoded sum of the contributions of the nodes that stay beyond Phase.UPLOAD.

    contributions: by node.
    bounds: by array.
    threshold, colluding: see Setup; by default up to a third of the nodes collude, and the threshold is the smallest
        against so many.
    drop: the phase from which on a node sends nothing.
    Raises SecureSumError: TooFewNodes below the threshold, OutOfBounds for a value beyond its bound.
    """
    if not contributions:
        raise SecureSumError("no node contributed")
    count = len(contributions)
    colluding = colluders(count) if colluding is None else colluding
    signers = {node: Ed25519PrivateKey.from_private_bytes(random_bytes(32)) for node in contributions}
    shapes = {name: tuple(array.shape) for name, array in next(iter(contributions.values())).arrays.items()}
    setup = Setup(
        round_id=round_id or random_bytes(16),
        keys={node: signer.public_key() for node, signer in signers.items()},
        encoding=plan(shapes, bounds, count),
        threshold=smallest_threshold(count, colluding) if threshold is None else threshold,
        colluding=colluding,
    )
    clients = {
        node: Client(setup, node, signers[node], contributions[node], random_bytes) for node in sorted(contributions)
    }
    return run_round(Aggregator(setup), clients, drop or {})


@dataclass(frozen=True)
class SecureSum:
    """The whole protocol between nodes and a server of this process; see Rule. colluding: see colluders."""

    colluding: float = USUAL_COLLUDING

    def __call__(self, contributions: Iterable[tuple[int, Contribution]]) -> Summed:
        """The sum; raises SecureSumError without enough nodes, OutOfBounds for values that cannot be encoded."""
        given = dict(contributions)
        if not given:
            raise SecureSumError("no node contributed")
        shapes = {name: tuple(array.shape) for name, array in next(iter(given.values())).arrays.items()}
        return secure_total(
            given,
            public_bounds(shapes, next(iter(given.values())).words),
            colluding=colluders(len(given), self.colluding),
        )


def run_round(server: Aggregator, clients: Mapping[int, Client], drop: Mapping[int, Phase]) -> Summed:
    """Carry the messages of one round between clients and server; gives the total and the bytes."""
    up: list[int] = []
    down: list[int] = []

    def alive(phase: Phase) -> dict[int, Client]:
        return {node: client for node, client in clients.items() if drop.get(node, Phase.OVER) > phase}

    def receive(message: FromNode) -> None:
        server.receive(_carried(message, up))

    for client in alive(Phase.ADVERTISE).values():
        receive(client.advertise())
    roster = server.roster()
    for client in alive(Phase.SHARE).values():
        receive(client.share(_carried(roster, down)))
    inboxes = server.inboxes()
    for node, client in alive(Phase.UPLOAD).items():
        receive(client.mask(_carried(inboxes[node], down)))
    survivors = server.announce()
    for client in alive(Phase.CONSENT).values():
        receive(client.consent(_carried(survivors, down)))
    consents = server.consents()
    for client in alive(Phase.UNMASK).values():
        receive(client.unmask(_carried(consents, down)))
    return Summed(server.total(), sum(up), sum(down))


def _carried(message: _M, sizes: list[int]) -> _M:
    data = encode(message)
    sizes.append(len(data))
    return decode_as(type(message), data)

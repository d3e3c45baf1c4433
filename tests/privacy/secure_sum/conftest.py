"""Builders of the tests of secure sums: rounds with fixed randomness, and servers that can be driven step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hierfed.federated.contract import Contribution
from hierfed.privacy.secure_sum.aggregator import Aggregator
from hierfed.privacy.secure_sum.client import Client
from hierfed.privacy.secure_sum.encoding import Bound, plan
from hierfed.privacy.secure_sum.messages import Consents, Inbox, Roster, Survivors
from hierfed.privacy.secure_sum.refusals import Refused
from hierfed.privacy.secure_sum.setup import Setup, colluders, smallest_threshold

BOUNDS = {"count": Bound(100), "mean": Bound(10), "wild": Bound(1e9, tolerance=1e-12)}


@dataclass
class Stepped:
    """One round that a test drives phase by phase, and may lie in."""

    setup: Setup
    signers: dict[int, Ed25519PrivateKey]
    contributions: dict[int, Contribution]
    server: Aggregator
    clients: dict[int, Client]

    def roster(self) -> Roster:
        for client in self.clients.values():
            self.server.receive(client.advertise())
        return self.server.roster()

    def inboxes(self, roster: Roster | None = None) -> dict[int, Inbox]:
        roster = roster or self.roster()
        for client in self.clients.values():
            self.server.receive(client.share(roster))
        return self.server.inboxes()

    def survivors(self, lost: tuple[int, ...] = ()) -> Survivors:
        inboxes = self.inboxes()
        for node, client in self.clients.items():
            if node not in lost:
                self.server.receive(client.mask(inboxes[node]))
        return self.server.announce()

    def consents(self, lost: tuple[int, ...] = ()) -> Consents:
        survivors = self.survivors(lost)
        for node in survivors.nodes:
            self.server.receive(self.clients[node].consent(survivors))
        return self.server.consents()


@pytest.fixture
def seeded() -> Callable[[int], Callable[[int], bytes]]:
    """A source of bytes that is the same for the same seed."""
    return lambda seed: np.random.default_rng(seed).bytes


@pytest.fixture
def make_contributions() -> Callable[..., dict[int, Contribution]]:
    """Contributions within BOUNDS by node: integers, and floats for the narrow and for the wide ring."""

    def make(count: int, length: int = 5, seed: int = 0) -> dict[int, Contribution]:
        rng = np.random.default_rng(seed)
        return {
            3 * place: Contribution(
                {
                    "count": torch.from_numpy(rng.integers(-100, 101, size=length).astype(np.float64)),
                    "mean": torch.from_numpy(rng.uniform(-10, 10, size=(length, 2))),
                    "wild": torch.from_numpy(rng.normal(size=length) * 10.0 ** rng.integers(-6, 8, size=length)),
                }
            )
            for place in range(count)
        }

    return make


@pytest.fixture
def make_round(seeded, make_contributions) -> Callable[..., Stepped]:
    """A round of so many nodes, numbered 0, 3, 6..., with keys of `seed` and the other randomness of `draws`."""

    def make(
        count: int = 5,
        threshold: int | None = None,
        colluding: int | None = None,
        seed: int = 0,
        draws: int = 0,
        round_id: bytes = b"training 1, round 1",
        contributions: dict[int, Contribution] | None = None,
        bounds: dict[str, Bound] | None = None,
    ) -> Stepped:
        contributions = contributions or make_contributions(count, seed=seed)
        first = next(iter(contributions.values()))
        key_source, source = seeded(seed), seeded(1000 + draws)
        signers = {node: Ed25519PrivateKey.from_private_bytes(key_source(32)) for node in contributions}
        colluding = colluders(count) if colluding is None else colluding
        setup = Setup(
            round_id,
            {node: signer.public_key() for node, signer in signers.items()},
            plan({name: tuple(array.shape) for name, array in first.arrays.items()}, bounds or BOUNDS, count),
            smallest_threshold(count, colluding) if threshold is None else threshold,
            colluding,
        )
        clients = {node: Client(setup, node, signers[node], contributions[node], source) for node in contributions}
        return Stepped(setup, signers, contributions, Aggregator(setup), clients)

    return make


@pytest.fixture
def bounds() -> dict[str, Bound]:
    """The bounds that make_contributions keeps to."""
    return dict(BOUNDS)


@pytest.fixture
def assert_over() -> Callable[[Client], None]:
    """Checks that a client gives nothing any more, whatever it is asked."""

    def check(client: Client) -> None:
        session = client._setup.session
        asked = (
            client.advertise,
            lambda: client.share(Roster(session, ())),
            lambda: client.mask(Inbox(session, ())),
            lambda: client.consent(Survivors(session, ())),
            lambda: client.unmask(Consents(session, ())),
        )
        for ask in asked:
            with pytest.raises(Refused, match="was due to nothing"):
                ask()

    return check


@pytest.fixture
def flipped() -> Callable[..., bytes]:
    """Bytes with one bit changed."""
    return lambda data, place=0: data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]

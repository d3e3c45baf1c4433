"""A ledger of a training in one process: it shows the chain, but one process holds all keys, so it has no witnesses."""

from __future__ import annotations

import copy
import secrets
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hierfed.federated.contract import Contribution, SharedModel, digest_of
from hierfed.ledger.chain import Chain
from hierfed.ledger.keys import public_text
from hierfed.ledger.record import LedgerRecord, Spent
from hierfed.ledger.scribe import Scribe, countersign_all


class SimulatedLedger(LedgerRecord):
    """Signs as the server and as every node, with keys that are made for this run and never written.

    settings, catalogue: their digests.
    nodes: the nodes' names, by number.
    spent: see Spent.
    """

    def __init__(self, settings: str, catalogue: str, nodes: Mapping[int, str], spent: Spent = lambda done: None):
        self._spent = spent
        self._server = Ed25519PrivateKey.generate()
        self._names = nodes
        self._keys = {name: Ed25519PrivateKey.generate() for name in nodes.values()}
        public = {name: public_text(key) for name, key in self._keys.items()}
        self._chain, self._lines = Chain(), list[bytes]()
        # Hashes of whole models and sums would delay the rounds.
        self._thread, self._writing = ThreadPoolExecutor(1, "ledger"), list[Future[None]]()
        opening = Scribe(self._server, self._chain).opening(
            secrets.token_hex(8), settings, catalogue, public, simulated=True
        )
        self._append(opening)

    def continued(self, model: str, forgotten: int) -> None:
        """Write the entry; see LedgerRecord."""
        signatures = countersign_all(self._keys, self._lines[-1])
        self._append(Scribe(self._server, self._chain).continued(model, forgotten, signatures))

    def summed(self, stage: str, total: Contribution, shared: SharedModel, numbers: np.ndarray) -> None:
        """Write the entry of a round, while the training goes on; see Observer."""
        self._writing.append(self._thread.submit(self._write, stage, total, shared, numbers))

    def _write(self, stage: str, total: Contribution, shared: SharedModel, numbers: np.ndarray) -> None:
        names = [self._names[number] for number in numbers.tolist()]
        signatures = countersign_all(self._keys, self._lines[-1])
        sums, scribe = digest_of(total.arrays), Scribe(self._server, self._chain)
        spent = self._spent(max(shared.round, 0))
        epsilon = None if spent is None else spent.epsilon_spent
        self._append(scribe.round(stage, shared.round, names, [], sums, shared.digest(), signatures, epsilon=epsilon))

    def sealed(self, models: Mapping[str, SharedModel], files: Mapping[str, str]) -> bytes:
        """All lines; see LedgerRecord."""
        for each in self._writing:
            each.result()
        chain = copy.deepcopy(self._chain)
        scribe = Scribe(self._server, chain)
        digests = {stage: model.digest() for stage, model in models.items()}
        seal = scribe.seal(digests, files, countersign_all(self._keys, self._lines[-1]))
        chain.extend(seal)
        end = scribe.end(countersign_all(self._keys, seal))
        return b"".join(line + b"\n" for line in (*self._lines, seal, end))

    def _append(self, line: bytes) -> None:
        self._chain.extend(line)
        self._lines.append(line)

"""A small ledger of three nodes, in which one node is late, another joins, and a round is abandoned."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest

collect_ignore_glob = [] if importlib.util.find_spec("cryptography") else ["test_*.py"]


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass
class LedgerWriter:
    """A server and nodes that sign whatever they are given."""

    training: str = "f00d" * 4
    lines: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        from hierfed.ledger.chain import Chain
        from hierfed.ledger.keys import public_text
        from hierfed.ledger.scribe import Scribe

        self.key = Ed25519PrivateKey.generate()
        self.nodes = {name: Ed25519PrivateKey.generate() for name in ("hospital", "bücherei", "late comer")}
        self.public = {name: public_text(key) for name, key in self.nodes.items()}
        self.chain = Chain()
        self.scribe = Scribe(self.key, self.chain)

    @property
    def written(self) -> bytes:
        return b"".join(line + b"\n" for line in self.lines)

    def append(self, line: bytes) -> None:
        self.chain.extend(line)
        self.lines.append(line)

    def open(self, *names: str) -> None:
        first = {name: self.public[name] for name in names}
        self.append(self.scribe.opening(self.training, digest("settings"), digest("catalogue"), first))

    def signed(self, *names: str) -> dict[str, str]:
        """These nodes' countersignatures of the last line."""
        from hierfed.ledger.scribe import countersign

        return {name: countersign(self.nodes[name], self.lines[-1]) for name in names}

    def round(self, stage: str, number: int, names: Iterable[str], signers: Iterable[str] | None = None, **told):
        contributors = list(names)
        signatures = self.signed(*(contributors if signers is None else signers))
        total = told.pop("total", digest(f"sum {stage} {number}"))
        model = told.pop("model", digest(f"model {stage} {number}"))
        refused = told.pop("refused", [])
        self.append(self.scribe.round(stage, number, contributors, refused, total, model, signatures, **told))

    def close(self, *names: str) -> None:
        self.append(
            self.scribe.seal(dict(self.chain.models), {"model.safetensors": digest("file")}, self.signed(*names))
        )
        self.append(self.scribe.end(self.signed(*names)))


@pytest.fixture
def writer() -> LedgerWriter:
    """Nothing written yet."""
    return LedgerWriter()


@pytest.fixture(scope="session")
def small() -> LedgerWriter:
    """A whole ledger."""
    from hierfed.ledger.entries import RefusedContribution

    two = ("hospital", "bücherei")
    made = LedgerWriter()
    made.open(*two)
    made.round("rating", 0, two)
    made.round("rating", 1, ["hospital"], ["bücherei"], refused=[RefusedContribution(node="bücherei", reason="late")])
    kept = made.chain.models["rating"]
    late = {"late comer": made.public["late comer"]}
    made.round("rating", 2, ["late comer"], [], joined=late, total=None, model=kept, epsilon=0.5)
    made.round("rating", 2, (*two, "late comer"), epsilon=1.25)
    made.round("ease", 1, two)
    made.close(*two)
    return made

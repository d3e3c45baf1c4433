"""The writer of a ledger's entries: they follow a chain, and the server signs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hierfed.ledger.chain import Chain
from hierfed.ledger.entries import (
    Continued,
    End,
    Entry,
    Line,
    Opening,
    RefusedContribution,
    RoundEntry,
    Seal,
    canonical,
    line_hash,
    node_text,
    server_text,
)
from hierfed.ledger.keys import public_text


class Scribe:
    """Writes the lines that may come next in a chain; the caller appends them. key: the server's."""

    def __init__(self, key: Ed25519PrivateKey, chain: Chain):
        self._key, self._chain = key, chain

    def opening(
        self, training: str, settings: str, catalogue: str, nodes: Mapping[str, str], simulated: bool = False
    ) -> bytes:
        """The first line; see Opening."""
        return self._signed(
            Opening(
                training=training,
                settings=settings,
                catalogue=catalogue,
                simulated=simulated,
                server=public_text(self._key),
                nodes=dict(nodes),
            )
        )

    def round(
        self,
        stage: str,
        number: int,
        contributors: Sequence[str],
        refused: Sequence[RefusedContribution],
        total: str | None,
        model: str,
        countersignatures: Mapping[str, str],
        joined: Mapping[str, str] | None = None,
        epsilon: float | None = None,
    ) -> bytes:
        """The line of a round; see RoundEntry. total: the sum's digest."""
        return self._signed(
            RoundEntry(
                **self._follows(countersignatures),
                stage=stage,
                round=number,
                contributors=list(contributors),
                refused=list(refused),
                joined=dict(joined or {}),
                sum=total,
                model=model,
                epsilon=epsilon,
            )
        )

    def continued(self, model: str, forgotten: int, countersignatures: Mapping[str, str]) -> bytes:
        """The line of a training that goes on; see Continued."""
        return self._signed(Continued(**self._follows(countersignatures), model=model, forgotten=forgotten))

    def seal(self, models: Mapping[str, str], files: Mapping[str, str], countersignatures: Mapping[str, str]) -> bytes:
        """The last line but one; see Seal."""
        return self._signed(Seal(**self._follows(countersignatures), models=dict(models), files=dict(files)))

    def end(self, countersignatures: Mapping[str, str]) -> bytes:
        """The last line; see End."""
        return self._signed(End(**self._follows(countersignatures)))

    def _follows(self, countersignatures: Mapping[str, str]) -> dict[str, Any]:
        chain = self._chain
        return {
            "training": chain.opening.training,
            "position": len(chain.entries),
            "previous": chain.head,
            "settings": chain.opening.settings,
            "countersignatures": dict(countersignatures),
        }

    def _signed(self, entry: Entry) -> bytes:
        return canonical(Line(entry=entry, signature=self._key.sign(server_text(entry)).hex()))


def countersign(key: Ed25519PrivateKey, written: bytes) -> str:
    """A node's signature of a line."""
    return key.sign(node_text(line_hash(written))).hex()


def countersign_all(keys: Mapping[str, Ed25519PrivateKey], written: bytes) -> dict[str, str]:
    """The signature of every node, by name. It hashes the line once, since it holds a signature of each."""
    text = node_text(line_hash(written))
    return {name: key.sign(text).hex() for name, key in keys.items()}

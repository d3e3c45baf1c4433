"""The server's half of a federation's ledger: an entry for each round, sent with the next request, signed by nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hierfed.deployment.plan import Plan
from hierfed.deployment.protocol import COUNTERSIGNATURE, ENTRIES, LEDGER, UNSIGNED
from hierfed.engines.exchange import Fact, Request
from hierfed.engines.flower.strategy import RoundOutcome
from hierfed.engines.replies import NodeAnswer
from hierfed.errors import HierfedError
from hierfed.federated.contract import SharedModel, digest_of
from hierfed.ledger.book import Book
from hierfed.ledger.chain import BrokenLink
from hierfed.ledger.entries import FILE, Opening, RefusedContribution, RoundEntry, Seal, node_text
from hierfed.ledger.files import file_digests
from hierfed.ledger.keys import ANEW, KEY, fingerprint, is_signed, kept_key, public_text
from hierfed.ledger.scribe import Scribe
from hierfed.results import PrivacyRecord
from hierfed.runs.models import MODEL, RANKING
from hierfed.sealed import damaged

RECENT = 4


class Bookkeeper:
    """Keeps the ledger in a server's folder, and collects the countersignatures of its last entry."""

    def __init__(self, folder: Path):
        key = kept_key(folder)
        self.public = public_text(key)
        self._folder, self._key = folder, key
        self._signatures: dict[str, str] = {}
        self._unsigned: dict[str, str] = {}
        self._told: dict[str, int] = {}
        self._read()
        if self._book.chain.entries and self._book.chain.opening.server != self.public:
            signer = fingerprint(self._book.chain.opening.server)
            raise damaged(folder / KEY, f"it is another key than {signer}, which signs {FILE} beside it", ANEW)

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the server's key."""
        return fingerprint(self.public)

    @property
    def ended(self) -> bool:
        """True once the training is sealed."""
        return self._book.chain.ended

    @property
    def rounds(self) -> int:
        """The number of rounds in the ledger, abandoned ones too."""
        return sum(isinstance(entry, RoundEntry) for entry in self._book.chain.entries)

    def known_key(self, name: str) -> str | None:
        """A node's key in the ledger; None for a node without one."""
        return self._book.chain.nodes.get(name)

    def opening(self, plan: Plan, nodes: Mapping[str, str]) -> bytes:
        """The first line of a new training; the ledger of an earlier one is kept under another name."""
        if self._book.chain.entries:
            self._book.path.rename(self._folder / f"ledger-{self._book.chain.opening.training}.jsonl")
            self._read()
        return self._scribe.opening(plan.training, plan.settings.digest(), plan.catalogue.digest(), nodes)

    def go_on(self, plan: Plan) -> None:
        """Write the line after the opening, unless it is there, where the plan goes on from a finished model."""
        if plan.update is not None and isinstance(self._book.chain.last, Opening):
            self.append(self._scribe.continued(plan.update.model, 0, self._signatures))

    def round(
        self,
        outcome: RoundOutcome,
        shared: SharedModel,
        names: Sequence[str],
        keys: Mapping[str, str],
        privacy: PrivacyRecord | None = None,
    ) -> bytes:
        """The line of a round.

        names: the nodes' names, by number.
        keys: of nodes that the ledger may not have yet.
        privacy: the cost of all releases so far.
        """
        return self._scribe.round(
            outcome.name.stage,
            outcome.name.number,
            [names[number] for number in outcome.contributors],
            [RefusedContribution(node=each.node, reason=each.reason) for each in outcome.refused],
            None if outcome.total is None else digest_of(outcome.total.arrays),
            shared.digest(),
            self._signatures,
            {name: key for name, key in keys.items() if name not in self._book.chain.nodes},
            None if privacy is None else privacy.epsilon_spent,
        )

    def append(self, line: bytes) -> None:
        """Write a line to the disk, unless it is there: a server that was killed may have written it before.

        Raises HierfedError for a line that does not follow the last one.
        """
        if line in self._book.lines():
            return
        try:
            self._book.append(line)
        except BrokenLink as broken:
            raise HierfedError(
                f"{self._book.path}: is not the ledger of this training as it was left: the next entry {broken}; put "
                "the file back, or choose another --name"
            ) from broken
        self._signatures, self._unsigned = {}, {}

    def seal(self, models: Mapping[str, SharedModel]) -> Request:
        """The request at the end of the training: nodes countersign its seal."""
        if not isinstance(self._book.chain.last, Seal):
            digests = {stage: model.digest() for stage, model in models.items()}
            self.append(self._scribe.seal(digests, file_digests(self._folder, (MODEL, RANKING)), self._signatures))
        return Request("ledger", self.facts())

    def end(self) -> Request:
        """The request that gives nodes the last entry to keep."""
        self.append(self._scribe.end(self._signatures))
        return Request("ledger", self.facts())

    def facts(self, name: str = "") -> dict[str, Fact]:
        """Facts for any request: the last entry, and a few before it for nodes that missed one.

        name: of a node that may have missed many; it gets all since this was called for it last.
        """
        lines = self._book.lines()
        first = max(len(lines) - RECENT, 0)
        if name:
            first, self._told[name] = min(first, self._told.get(name, 0)), len(lines)
        return {ENTRIES: b"\n".join(lines[first:])}

    def with_lines(self, setup: Request) -> Request:
        """A setup with the whole ledger so far, since its node may have missed a part."""
        return replace(setup, facts={**setup.facts, LEDGER: b"\n".join(self._book.lines())})

    def keep_countersignature(self, answer: NodeAnswer) -> str:
        """Keep the countersignature in an answer.

        Gives a line for the user where a node does not countersign, and "" where all is well.
        """
        facts = {} if answer.reply is None else answer.reply.facts
        signature, reason = facts.get(COUNTERSIGNATURE), facts.get(UNSIGNED)
        key, chain = self.known_key(answer.name), self._book.chain
        if isinstance(signature, str) and key is not None and is_signed(key, signature, node_text(chain.head)):
            self._signatures[answer.name] = signature
        elif reason is not None and self._unsigned.get(answer.name) != reason:
            self._unsigned[answer.name] = str(reason)
            return f"node {answer.name} does not countersign: {' '.join(str(reason).split())}"
        return ""

    def _read(self) -> None:
        self._book = Book(self._folder / FILE)
        self._scribe = Scribe(self._key, self._book.chain)

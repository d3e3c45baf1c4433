"""A node's side of a federation's ledger: its own copy, and countersignatures of entries that it can check."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from hierfed.atomic import write_atomically
from hierfed.deployment.plan import Plan
from hierfed.deployment.protocol import COUNTERSIGNATURE, ENTRIES, UNSIGNED
from hierfed.engines.exchange import REFUSAL, Fact, Reply, Request
from hierfed.engines.secure_round import MASK
from hierfed.federated.contract import SharedModel, digest_of
from hierfed.federated.stage import RATING
from hierfed.ledger.book import Book, name_of
from hierfed.ledger.chain import BrokenLink
from hierfed.ledger.entries import FILE, Continued, End, Entry, Opening, RoundEntry, Seal, line_hash, read_line
from hierfed.ledger.files import file_digests
from hierfed.ledger.keys import kept_key, public_text
from hierfed.ledger.scribe import countersign
from hierfed.sealed import MALFORMED, damaged, read_json, sealed_json

SEEN = "witness.json"


class Witness:
    """Countersigns entries of the server's ledger.

    name, folder: the node's.
    tell: takes a line for each entry that it does not sign.

    A signature says that the entry follows all entries that the node knows, and that no other stands in its place. The
    settings, the catalogue and the server's key are those that the node was sent. The entry lists the node as a
    contributor if it sent a contribution, and only then. The model is the one that the node was sent next. A signature
    says nothing of other contributors, of the sum, or of how the model was made from it: a node cannot see these. Under
    asynchronous rounds it cannot see either whether an answer of its own was left out, or is under way.
    """

    def __init__(self, name: str, folder: Path, tell: Callable[[str], None]):
        self._name, self._folder, self._tell = name, folder, tell
        self._key = kept_key(folder)
        self.public = public_text(self._key)
        self._server = ""
        self._plan: Plan | None = None
        self._book = Book(folder / FILE)
        self._asked: tuple[str, int] | None = None
        self._answered: set[tuple[str, int]] = set()
        self._judged = self._objection = ""
        self._anew = set[str]()
        self._recall()

    def meet(self, server: str) -> None:
        """Note the key that the server signs with."""
        self._server = server

    def begin(self, plan: Plan, lines: bytes) -> None:
        """Begin a training, or come back to it; the copy of another training's ledger is kept under another name.

        lines: the ledger so far.
        """
        chain = self._book.chain
        if chain.entries and chain.opening.training != plan.training:
            self._book.path.rename(self._folder / f"ledger-{chain.opening.training}.jsonl")
            self._book, self._answered, self._objection = Book(self._book.path), set(), ""
            self._remember()
        self._plan = plan
        try:
            for line in lines.split(b"\n") if lines else []:
                self._take(line)
        except BrokenLink as broken:
            self._tell(f"the server's ledger is not the one that this node knows: an entry {broken}")

    def begun_anew(self) -> list[str]:
        """The stages of asynchronous rounds that this node has to begin anew, since this was called last.

        See hierfed.federated.recorded.RecordedStep.
        """
        found, self._anew = sorted(self._anew), set()
        return found

    def note_contribution(self, request: Request, reply: Reply) -> None:
        """Note a contribution of this node to a round: its answer, or its masked vector under secure sums."""
        if request.kind == "round":
            self._asked = str(request.facts["stage"]), int(request.facts["round"])
        elif request.kind == "judge":
            self._asked = None
        masked = request.kind == MASK and REFUSAL not in reply.facts
        sent = masked or (request.kind == "round" and bool(reply.contribution.arrays))
        if sent and self._asked is not None and self._asked not in self._answered:
            self._answered.add(self._asked)
            self._remember()

    def countersign(self, request: Request, models: Mapping[str, SharedModel]) -> dict[str, Fact]:
        """Facts for the answer to a request that holds entries: a countersignature, or the reason for none.

        models: the finished shared models, by stage.
        """
        entries = request.facts.get(ENTRIES)
        if not isinstance(entries, bytes):
            return {}
        lines = entries.split(b"\n")
        try:
            entry = [self._take(line) for line in lines][-1]
        except BrokenLink as broken:
            return self._refuse(f"the entry {broken}")
        known = self._book.chain.nodes.get(self._name)
        if isinstance(entry, End) or known is None:
            return {}
        reason = self._objection
        if known != self.public:
            reason = "comes with another key of this node's than its own"
        elif entry.position + 1 < len(self._book.chain.entries):
            reason = "is not the last one that this node knows"
        reason = reason or self._wrong_model(entry, request, models)
        if reason:
            return self._refuse(f"{name_of(entry)} {reason}")
        return {COUNTERSIGNATURE: countersign(self._key, lines[-1])}

    def _refuse(self, reason: str) -> dict[str, Fact]:
        self._tell(f"not countersigned: {reason}")
        return {UNSIGNED: reason}

    def _take(self, line: bytes) -> Entry:
        """Add a line to the copy, unless it is there; raises BrokenLink for a line that does not follow."""
        chain = self._book.chain
        try:
            entry = read_line(line).entry
        except ValueError as error:
            raise BrokenLink(str(error)) from error
        if entry.position < len(chain.entries):
            if self._book.lines(entry.position)[0] != line:
                raise BrokenLink(f"is another number {entry.position} than the one that this node knows")
            return entry
        reason = self._unagreed(entry) if isinstance(entry, Opening) else self._begun_otherwise(entry)
        if reason:
            raise BrokenLink(reason)
        chain.check(line)
        # Written before the line: after a crash between the two writes, the same line gets the same verdict.
        if self._judged != line_hash(line):
            self._judged, self._objection = line_hash(line), ""
            if isinstance(entry, RoundEntry):
                self._objection = self._misplaced(entry)
                self._answered -= self._due(entry)
                refused = {each.node for each in entry.refused}.difference(entry.contributors)
                if self._late(entry) and (entry.sum is None or self._name in refused):
                    self._anew.add(entry.stage)
            self._remember()
        self._book.append(line)
        return entry

    def _begun_otherwise(self, entry: Entry) -> str:
        """The error in an entry about the model that the training goes on from, which stands after the opening."""
        update = None if self._plan is None else self._plan.update
        if isinstance(entry, Continued):
            return "" if update and update.model == entry.model else "goes on from another model than the plan"
        late = update is not None and entry.position == 1
        return "begins from the start, where the plan goes on from a model" if late else ""

    def _unagreed(self, opening: Opening) -> str:
        plan = self._plan
        if plan is None or opening.training != plan.training:
            return "is of a training that this node was not told of"
        if opening.server != self._server:
            return "names another key of the server than its greeting"
        if opening.settings != plan.settings.digest() or opening.catalogue != plan.catalogue.digest():
            return "names other settings or another catalogue than the plan"
        return ""

    def _misplaced(self, entry: RoundEntry) -> str:
        """The error in the entry about this node's contribution; empty if there is none."""
        sent, listed = bool(self._answered & self._due(entry)), self._name in entry.contributors
        if listed and not sent:
            return "lists a contribution of this node, which sent none"
        refused = self._name in {each.node for each in entry.refused} or self._late(entry)
        left_out = sent and not listed and not refused and entry.sum is not None
        return "leaves out the contribution that this node has sent" if left_out else ""

    def _late(self, entry: RoundEntry) -> bool:
        """True in a stage whose server steps before everybody has answered."""
        plan = self._plan
        return plan is not None and plan.settings.federation.mode == "async" and entry.stage == RATING

    def _due(self, entry: RoundEntry) -> set[tuple[str, int]]:
        """The rounds, by stage, that an answer of this node in the entry was to."""
        if not self._late(entry):
            return {(entry.stage, entry.round)}
        named = {*entry.contributors, *(each.node for each in entry.refused)}
        before = {(stage, number) for stage, number in self._answered if stage == entry.stage and number <= entry.round}
        return before if self._name in named else set()

    def _wrong_model(self, entry: Entry, request: Request, models: Mapping[str, SharedModel]) -> str:
        """The error in the entry about models; empty if there is none."""
        if isinstance(entry, Seal):
            if {stage: model.digest() for stage, model in models.items()} != entry.models:
                return "holds other models than this node was sent"
            own = file_digests(self._folder, list(entry.files))
            return "holds other files than this node has made" if own != entry.files else ""
        if not isinstance(entry, RoundEntry):
            return ""
        of_the_stage = request.kind in ("round", "finish") and request.facts["stage"] == entry.stage
        sent = models.get(entry.stage)
        digest = digest_of(request.arrays) if of_the_stage else "" if sent is None else sent.digest()
        return "holds another model than this node was sent" if digest != entry.model else ""

    def _remember(self) -> None:
        record = {"answered": sorted(self._answered), "judged": self._judged, "objection": self._objection}
        write_atomically(self._folder / SEEN, sealed_json(record), 0o600)

    def _recall(self) -> None:
        path = self._folder / SEEN
        if not path.is_file():
            return
        record = read_json(path)
        try:
            self._answered = {(str(stage), int(number)) for stage, number in record["answered"]}
            self._judged, self._objection = str(record["judged"]), str(record["objection"])
        except MALFORMED as error:
            raise damaged(path, error) from error

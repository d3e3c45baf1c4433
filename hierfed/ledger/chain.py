"""The chain of entries: each follows the one before it, signed by the server and countersigned by nodes."""

from __future__ import annotations

from collections.abc import Mapping

from hierfed.ledger.entries import (
    End,
    Entry,
    Following,
    Opening,
    RoundEntry,
    Seal,
    line_hash,
    node_text,
    read_line,
    server_text,
)
from hierfed.ledger.keys import is_public, is_signed


class BrokenLink(Exception):
    """An entry cannot follow those before it; the text continues "the entry"."""


class Chain:
    """The entries of one ledger, from the opening on; `extend` takes the next one or raises BrokenLink.

    head: sha256 of the last line.
    nodes: public keys by name.
    models: sha256 of the last model of each stage.
    """

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.head = ""
        self.nodes: dict[str, str] = {}
        self.models: dict[str, str] = {}
        self._rounds: dict[str, int] = {}

    @property
    def opening(self) -> Opening:
        """The first entry; raises BrokenLink without one."""
        if not self.entries or not isinstance(self.entries[0], Opening):
            raise BrokenLink("comes before any opening")
        return self.entries[0]

    @property
    def last(self) -> Entry | None:
        """The last entry; None without one."""
        return self.entries[-1] if self.entries else None

    @property
    def ended(self) -> bool:
        """True if the training is sealed and the countersignatures of the seal are in."""
        return isinstance(self.last, End)

    def extend(self, written: bytes) -> Entry:
        """Take the next line, without its line feed; raises BrokenLink, and changes nothing, if it does not fit."""
        entry = self.check(written)
        if isinstance(entry, RoundEntry):
            self.nodes |= entry.joined
            self.models[entry.stage] = entry.model
            self._rounds[entry.stage] = entry.round + (entry.sum is not None)
        elif isinstance(entry, Opening):
            self.nodes = dict(entry.nodes)
        self.entries.append(entry)
        self.head = line_hash(written)
        return entry

    def check(self, written: bytes) -> Entry:
        """The entry in a line; raises BrokenLink if it may not come next."""
        try:
            line = read_line(written)
        except ValueError as error:
            raise BrokenLink(str(error)) from error
        entry = line.entry
        if isinstance(entry, Opening):
            self._check_opening(entry)
        else:
            self._check_following(entry)
        server = entry.server if isinstance(entry, Opening) else self.opening.server
        if not is_signed(server, line.signature, server_text(entry)):
            raise BrokenLink("is not what the server signed")
        if isinstance(entry, Following):
            self._check_countersignatures(entry.countersignatures)
        if isinstance(entry, RoundEntry):
            self._check_round(entry)
        elif isinstance(entry, Seal):
            self._check_seal(entry)
        return entry

    def countersigners(self, position: int) -> list[str]:
        """The nodes that countersigned that entry, from the next entry; empty without a next one."""
        following = self.entries[position + 1] if position + 1 < len(self.entries) else None
        return sorted(following.countersignatures) if isinstance(following, Following) else []

    def _check_opening(self, entry: Opening) -> None:
        if self.entries:
            raise BrokenLink("is a second opening: of another ledger, or out of order")
        _check_keys({**entry.nodes, "": entry.server}, {})

    def _check_following(self, entry: Following) -> None:
        opening = self.opening
        if entry.training != opening.training:
            raise BrokenLink(f"is of another training, {entry.training}, than the opening's, {opening.training}")
        if entry.settings != opening.settings:
            raise BrokenLink("names other settings than the opening")
        if entry.position != len(self.entries):
            raise BrokenLink(
                f"says that it is number {entry.position}, and is number {len(self.entries)}: entries are missing, "
                "doubled or out of order"
            )
        if entry.previous != self.head:
            raise BrokenLink("does not follow the entry before it: one of the two was changed or exchanged")
        if self.ended or (isinstance(self.last, Seal) and not isinstance(entry, End)):
            raise BrokenLink("stands behind the end")
        if isinstance(entry, End) and not isinstance(self.last, Seal):
            raise BrokenLink("ends what was not sealed")

    def _check_countersignatures(self, countersignatures: Mapping[str, str]) -> None:
        for name, signature in countersignatures.items():
            if name not in self.nodes:
                raise BrokenLink(f"holds a countersignature of {name!r}, whose key the ledger does not know")
            if not is_signed(self.nodes[name], signature, node_text(self.head)):
                raise BrokenLink(f"holds a countersignature of the entry before it that {name!r} did not make")

    def _check_round(self, entry: RoundEntry) -> None:
        _check_keys(entry.joined, self.nodes | {"": self.opening.server})
        known = self.nodes | entry.joined
        strangers = [name for name in entry.contributors if name not in known]
        if strangers:
            raise BrokenLink(f"names {strangers[0]!r} as a contributor, whose key the ledger does not know")
        if len(set(entry.contributors)) < len(entry.contributors):
            raise BrokenLink("names a contributor twice")
        before, due = self.models.get(entry.stage), self._rounds.get(entry.stage, entry.round)
        if before is not None and next(reversed(self.models)) != entry.stage:
            raise BrokenLink(f"goes back to stage {entry.stage!r}, which was over")
        if entry.round != due:
            raise BrokenLink(f"is round {entry.round} of {entry.stage!r}, where round {due} is due")
        if entry.sum is None and before not in (None, entry.model):
            raise BrokenLink("changes the model without a sum")

    def _check_seal(self, entry: Seal) -> None:
        for stage, digest in self.models.items():
            if entry.models.get(stage) != digest:
                raise BrokenLink(f"seals another model of stage '{stage}' than its last round's")


def _check_keys(new: Mapping[str, str], known: Mapping[str, str]) -> None:
    """Raise BrokenLink for a new key that is no key, that another name has, or whose name has a key."""
    names, keys = set(known), set(known.values())
    for name, key in new.items():
        if not is_public(key):
            raise BrokenLink(f"names no public key as that of {repr(name) if name else 'the server'}")
        if name in names or key in keys:
            raise BrokenLink(
                f"names a key of {repr(name) if name else 'the server'} where name or key are in the ledger already"
            )
        names.add(name)
        keys.add(key)

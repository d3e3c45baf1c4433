"""The last sums of peers that are gone: what is left of a total once those that are there have taken out their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hierfed.federated.contract import Contribution, DatedSums, SharedModel, SumMethod, ordered_sum

_BEFORE = "before "


@dataclass(frozen=True)
class _Round:
    """One peer's round. own: its contribution. made_with: the model before. total: over the members alone."""

    members: tuple[int, ...]
    own: Contribution
    made_with: SharedModel
    total: Contribution | None = None
    gone: Contribution | None = None


@dataclass
class AbsentSums:
    """One peer's part in keeping the last sums of peers that are gone in the totals, as those of late nodes are.

    In the first round without them, the others exchange what they sent in the round before, too. What that lacks to the
    total of then is what those that are gone had sent; so it needs no message more, and no copy of anybody's sum.

    method: of sums that can only be added; see hierfed.engines.asynchronous.LateSums.
    kept: sums of peers that are gone, and the model that each was made with.
    """

    method: SumMethod
    kept: list[tuple[Contribution, SharedModel]] = field(default_factory=list)
    _last: _Round | None = None
    _now: _Round | None = None

    def outgoing(self, own: Contribution, now: SharedModel, members: Sequence[int]) -> Contribution:
        """The arrays that this peer exchanges in its round from the model `now`: the same names at all members."""
        self._now, last = _Round(tuple(members), own, now), self._last
        if last is None or not self._are_gone(members):
            return own
        return Contribution({**own.arrays, **{_BEFORE + name: array for name, array in last.own.arrays.items()}})

    def total(self, exchanged: Contribution) -> Contribution:
        """The total of the round: of what the members have exchanged, and the last sums of those that are gone."""
        assert self._now is not None
        arrays, last, gone, kept = exchanged.arrays, self._last, None, list(self.kept)
        fresh = Contribution({name: arrays[name] for name in self._now.own.arrays})
        if last is not None and last.total is not None and self._are_gone(self._now.members):
            gone = Contribution({name: array - arrays[_BEFORE + name] for name, array in last.total.arrays.items()})
            kept.append((gone, last.made_with))
        self._now = _Round(self._now.members, self._now.own, self._now.made_with, fresh, gone)
        return ordered_sum([fresh, *(self._brought(*each, self._now.made_with) for each in kept)])

    def finish(self) -> None:
        """The round is over."""
        assert self._now is not None
        if self._now.gone is not None and self._last is not None:
            self.kept.append((self._now.gone, self._last.made_with))
        self._last, self._now = self._now, None

    def _are_gone(self, members: Sequence[int]) -> bool:
        """True where peers are gone since the last round, which had sums that later ones have too."""
        last = self._last
        return last is not None and last.made_with.round >= 0 and set(last.members) > set(members)

    def _brought(self, sums: Contribution, made_with: SharedModel, now: SharedModel) -> Contribution:
        return self.method.brought(sums, made_with, now) if isinstance(self.method, DatedSums) else sums

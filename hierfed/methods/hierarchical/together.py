"""Personal models of many nodes, made block by block: what one node costs in Python, a block of nodes costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from hierfed.federated.private import ModelsTogether
from hierfed.methods.hierarchical.personal import PersonalFactors
from hierfed.methods.hierarchical.pieces import PiecewiseFactors
from hierfed.methods.hierarchical.users import Posterior
from hierfed.models.kernel import ItemKernel
from hierfed.models.kriging import Observations


@dataclass(frozen=True)
class NodeBlock:
    """The models of neighbouring nodes as one.

    model: of all their users, with numbers as ModelsTogether.among gives them.
    users [nodes + 1]: where each node's users begin. newcomer [nodes, t]: each node's prior mean of a new user.
    """

    model: PersonalFactors
    users: np.ndarray
    newcomer: Tensor

    @cached_property
    def rows(self) -> Tensor:
        """Where each user's ratings begin, [users + 1]."""
        return torch.nn.functional.pad(self.model.own.counts.cumsum(0), (1, 0))

    def of(self, node: int, numbers: Tensor) -> PersonalFactors:
        """The model of one node; numbers: those of its users."""
        whole, here = self.model, slice(int(self.users[node]), int(self.users[node + 1]))
        rows = slice(int(self.rows[here.start]), int(self.rows[here.stop]))
        own = whole.own
        parts: dict[str, Any] = {
            name: None if value is None else value[rows] for name, value in vars(own).items() if name != "counts"
        }
        return replace(
            whole,
            users=numbers,
            posterior=Posterior(**{name: value[here] for name, value in vars(whole.posterior).items()}),
            precision=whole.precision[here],
            prior_mean=whole.prior_mean[here],
            observe=lambda: Observations(counts=own.counts[here], **parts),
            newcomer=self.newcomer[node],
        )


class FactorsTogether(ModelsTogether):
    """The hierarchical models of many nodes; the last block is kept.

    rows: the number of ratings of each node, [nodes]. at_once: about how many ratings a block has.
    make: gives the block of these nodes. alone: gives the model of one node with more ratings than that.
    """

    def __init__(
        self,
        rows: np.ndarray,
        at_once: int,
        stride: int,
        make: Callable[[range], NodeBlock],
        alone: Callable[[int], PersonalFactors | PiecewiseFactors],
    ):
        self._rows, self._at_once, self.stride, self._make, self._alone = rows, at_once, stride, make, alone
        ends, cuts = np.cumsum(rows), [0]
        while cuts[-1] < len(rows):
            before = ends[cuts[-1] - 1] if cuts[-1] else 0
            cuts.append(max(int(np.searchsorted(ends, before + at_once, side="right")), cuts[-1] + 1))
        self._cuts, self._large = np.array(cuts), rows > at_once
        self._last: tuple[int, NodeBlock] | None = None

    def __len__(self) -> int:
        return len(self._large)

    @property
    def blocks(self) -> Sequence[range]:
        """See ModelsTogether."""
        return [range(begin, end) for begin, end in zip(self._cuts[:-1].tolist(), self._cuts[1:].tolist(), strict=True)]

    def together(self, block: range) -> PersonalFactors:
        """See ModelsTogether."""
        return self._block(int(np.searchsorted(self._cuts, block.start))).model

    @overload
    def __getitem__(self, place: int) -> PersonalFactors | PiecewiseFactors: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[PersonalFactors | PiecewiseFactors]: ...
    def __getitem__(
        self, place: int | slice
    ) -> PersonalFactors | PiecewiseFactors | Sequence[PersonalFactors | PiecewiseFactors]:
        if isinstance(place, slice):
            return [self[each] for each in range(len(self))[place]]
        place = range(len(self))[place]
        number = int(np.searchsorted(self._cuts, place, side="right")) - 1
        kept = self._last is not None and self._last[0] == number
        # Who goes through all nodes begins with the first of a block. Others ask for one node, which is made alone.
        if self._large[place] or not (kept or place == self._cuts[number]):
            return self._alone(place)
        block, node = self._block(number), place - int(self._cuts[number])
        some = block.model.users[int(block.users[node]) : int(block.users[node + 1])]
        return block.of(node, some - place * self.stride)

    def with_kriging(self, kernel: ItemKernel, noise_share: float) -> FactorsTogether:
        """See PersonalFactors."""

        def make(block: range) -> NodeBlock:
            found = self._block(int(np.searchsorted(self._cuts, block.start)))
            return replace(found, model=found.model.with_kriging(kernel, noise_share))

        def alone(place: int) -> PersonalFactors | PiecewiseFactors:
            return self._alone(place).with_kriging(kernel, noise_share)

        return FactorsTogether(self._rows, self._at_once, self.stride, make, alone)

    def _block(self, number: int) -> NodeBlock:
        if self._last is None or self._last[0] != number:
            self._last = None
            self._last = number, self._make(self.blocks[number])
        return self._last[1]

"""Personal models of more users than memory should hold at once. They are made on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from hierfed.data.ratings import Ratings
from hierfed.federated.private import UncertainModel
from hierfed.methods.hierarchical.knowledge import SharedKnowledge
from hierfed.methods.hierarchical.personal import PersonalFactors
from hierfed.models.kernel import ItemKernel
from hierfed.models.places import numbers_of, places_among


class PiecewiseFactors(UncertainModel):
    """The users of one node in pieces. A piece is made when one of its users is asked for; the last one is kept.

    users: their numbers, ascending, [users].
    pieces: the places of each piece's users.
    """

    interpolates: ClassVar[bool] = True

    def __init__(
        self,
        knowledge: SharedKnowledge,
        users: Tensor,
        pieces: Sequence[slice],
        make: Callable[[int], PersonalFactors],
    ):
        self.knowledge, self.users, self._pieces, self._make = knowledge, users, pieces, make
        self._last: tuple[int, PersonalFactors] | None = None

    def piece(self, number: int) -> PersonalFactors:
        """The users of the piece with this number."""
        if self._last is None or self._last[0] != number:
            self._last = None
            self._last = number, self._make(number)
        return self._last[1]

    def with_kriging(self, kernel: ItemKernel, noise_share: float) -> PiecewiseFactors:
        """See PersonalFactors."""
        knowledge = replace(self.knowledge, kernel=kernel, noise_share=noise_share)
        return PiecewiseFactors(
            knowledge, self.users, self._pieces, lambda number: self.piece(number).with_kriging(kernel, noise_share)
        )

    def within(self, ratings: Tensor) -> Tensor:
        """See UncertainModel."""
        return ratings.clamp(self.knowledge.scale.lowest, self.knowledge.scale.highest)

    def distribution(self, rows: Ratings) -> tuple[Tensor, Tensor]:
        """Predictions piece by piece; see UncertainModel."""
        mean, variance = (torch.empty(len(rows), dtype=torch.float64) for _ in range(2))
        for own, piece in self.parts(rows):
            mean[own], variance[own] = piece.distribution(rows.take(own))
        return mean, variance

    def parts(self, rows: Ratings) -> Iterator[tuple[np.ndarray, PersonalFactors]]:
        """The pieces that are asked for; see PersonalModel."""
        place, known = places_among(self.users, numbers_of(rows)[0])
        ends = torch.tensor([piece.stop for piece in self._pieces])
        # For an unknown user, every piece gives the same prediction.
        numbers = torch.where(known, torch.searchsorted(ends, place, right=True), 0)
        for number in torch.unique(numbers).tolist():
            yield (numbers == number).nonzero()[:, 0].numpy(), self.piece(number)

    @property
    def timed(self) -> bool:
        """See PersonalModel."""
        return self.piece(0).timed

    @property
    def weights(self) -> Tensor:
        """See PersonalFactors."""
        return torch.cat([self.piece(number).weights for number in range(len(self._pieces))])

    def tensors(self) -> Iterator[tuple[int | None, dict[str, Tensor]]]:
        """The tensors of each piece, which is made when its first user is reached; see PersonalModel."""
        for number in range(len(self._pieces)):
            yield from self.piece(number).tensors()

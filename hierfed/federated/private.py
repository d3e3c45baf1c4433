"""The type of everything that must never leave its node."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import ClassVar, NoReturn, TypeVar, overload

import numpy as np
import torch
from torch import Tensor

from hierfed.data.ratings import Ratings, rows_to_predict
from hierfed.models.influence import Influence


class PrivateState:
    """State that must never leave its node: it is no Contribution, and refuses to be pickled into a message."""

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} is private to its node and cannot be sent")

    def kept(self) -> dict[str, Tensor]:
        """The tensors, by name, that the node's own disk must hold; all else follows from the node's rows."""
        return {}


@dataclass(frozen=True)
class StoredState(PrivateState):
    """The tensors of `kept`, read back from the node's disk; the method that kept them takes them for its own state."""

    tensors: Mapping[str, Tensor]

    def kept(self) -> dict[str, Tensor]:
        """The same tensors; see PrivateState."""
        return dict(self.tensors)


class PersonalModel(PrivateState):
    """A node's own model after personalisation, with what its users keep.

    interpolates: whether it nearly repeats the ratings that it was fitted on, so that its errors there say nothing.
    """

    interpolates: ClassVar[bool] = False

    def predict(self, rows: Ratings) -> Tensor:
        """Expected ratings of these rows, float64 [rows]; their own values are not looked at."""
        raise NotImplementedError

    def parts(self, rows: Ratings) -> Iterator[tuple[np.ndarray, PersonalModel]]:
        """Models that predict some of the rows, after the places of these; itself for all, unless it is in pieces."""
        yield np.arange(len(rows)), self

    @property
    def timed(self) -> bool:
        """True where predictions for a moment, the time of a row, differ from those for rows without a time."""
        return False

    @property
    def finite(self) -> bool:
        """True where its parameters are finite: a training can diverge on a node that has no rows to judge it on."""
        return True

    def scores(self, user: Tensor, items: int) -> Tensor:
        """Scores of all items, float64 [users, items], for user numbers, int64 [users]: the expected ratings."""
        every = torch.arange(items).repeat(len(user))
        return self.predict(rows_to_predict(user.repeat_interleave(items), every)).view(len(user), items)

    def influence(self, item: Tensor, time: int | None = None) -> Influence | None:
        """The change of each item's expected rating by own ratings of the only user, on the scale of the ratings.

        None for models that cannot say, and for users without ratings. time: the moment for which one asks, in seconds
        since 1970; None for none.
        """
        return None

    def likeness(self, item: int) -> Tensor | None:
        """The correlation, between users, of what they think of an item with what they think of each: float64 [items].

        None for models that cannot say.
        """
        return None

    def strangeness(self, rows: Ratings) -> Tensor | None:
        """log B_n of new ratings of the only user, in their order, as hierfed.models.strangeness has it: [rows].

        None for models that cannot say.
        """
        return None

    def numbered(self, user: int) -> PersonalModel:
        """The model of the only user, under another number."""
        raise NotImplementedError

    def weight_change(self, shared: Mapping[str, Tensor]) -> float:
        """The L2 norm of what personalisation changed in the first layer; NaN for models without layers.

        shared: the arrays of the shared model.
        """
        return nan

    def tensors(self) -> Iterator[tuple[int | None, dict[str, Tensor]]]:
        """The named tensors for the node's own disk, each set after its user's number; None for what users share."""
        raise NotImplementedError


class UncertainModel(PersonalModel):
    """A personal model that says how sure it is."""

    def distribution(self, rows: Ratings) -> tuple[Tensor, Tensor]:
        """Mean and variance of these rows' ratings, noise included, float64 [rows]; unknown users get the prior's."""
        raise NotImplementedError

    def within(self, ratings: Tensor) -> Tensor:
        """The ratings, moved into the scale."""
        raise NotImplementedError

    def predict(self, rows: Ratings) -> Tensor:
        """The means, within the scale; see PersonalModel."""
        return self.within(self.distribution(rows)[0])


class ModelsTogether(Sequence[PersonalModel]):
    """The personal models of many nodes, none of which is held; those of neighbours are made together.

    stride: above all users' numbers.
    """

    stride: int

    @property
    def blocks(self) -> Sequence[range]:
        """The places of the nodes whose models are made together, in order."""
        raise NotImplementedError

    def together(self, block: range) -> UncertainModel:
        """One model of the users of these nodes, whose numbers are as `among` gives them."""
        raise NotImplementedError

    def among(self, place: np.ndarray, user: np.ndarray) -> np.ndarray:
        """The number of a user of the node at this place, in place of the node's own, int64 [rows]."""
        numbers: np.ndarray = place.astype(np.int64) * self.stride + user
        return numbers


Model_co = TypeVar("Model_co", bound=PersonalModel, covariant=True)


class ModelsOnDemand(Sequence[Model_co]):
    """Models that are made anew on each access and are not kept."""

    def __init__(self, count: int, make: Callable[[int], Model_co]):
        self._places, self._make = range(count), make

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, place: int) -> Model_co: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Model_co]: ...
    def __getitem__(self, place: int | slice) -> Model_co | Sequence[Model_co]:
        if isinstance(place, slice):
            return [self._make(each) for each in self._places[place]]
        return self._make(self._places[place])

"""The type of everything that must never leave its node."""

from __future__ import annotations

from typing import NoReturn

from torch import Tensor


class PrivateState:
    """What must never leave a node: it is no Contribution, and refuses to be pickled into a message."""

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} is private to its node and cannot be sent")


class PersonalModel(PrivateState):
    """A node's own model after personalisation, with what its users keep."""

    def predict(self, user: Tensor, item: Tensor) -> Tensor:
        """Expected ratings, float64 [rows], for user and item numbers, int64 [rows]."""
        raise NotImplementedError

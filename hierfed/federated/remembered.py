"""The memory of steps at a node, beside that of its method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from hierfed.federated.private import PrivateState, StoredState
from hierfed.federated.steps import NOTHING

_OF_STEPS = "steps/"


@dataclass(frozen=True)
class Remembered(PrivateState):
    """A node's state between rounds. method: the method's own; None for none. arrays: of steps, by name."""

    method: PrivateState | None
    arrays: Mapping[str, Tensor]

    def kept(self) -> dict[str, Tensor]:
        """The tensors of both; see PrivateState."""
        own = {} if self.method is None else self.method.kept()
        return own | {_OF_STEPS + name: array for name, array in self.arrays.items()}


def beside(method: PrivateState | None, arrays: Mapping[str, Tensor]) -> PrivateState | None:
    """A method's state, with the arrays of steps if there are any."""
    return Remembered(method, arrays) if arrays else method


def of_method(state: PrivateState | None) -> PrivateState | None:
    """The method's part of a node's state; None where the method kept nothing."""
    if isinstance(state, Remembered):
        return state.method
    if isinstance(state, StoredState) and of_steps(state):
        own = {name: array for name, array in state.tensors.items() if not name.startswith(_OF_STEPS)}
        return StoredState(own) if own else None
    return state


def of_steps(state: PrivateState | None) -> Mapping[str, Tensor]:
    """The steps' arrays in a node's state."""
    if isinstance(state, Remembered):
        return state.arrays
    if isinstance(state, StoredState):
        found = state.tensors.items()
        return {name.removeprefix(_OF_STEPS): array for name, array in found if name.startswith(_OF_STEPS)}
    return NOTHING

"""The one contract of every federated method: start, contribute, combine, personalise.

Nodes send contributions, which can be added and scaled and nothing else; so every method gets secure sums, noise,
any topology and any engine without knowing of them. What a node keeps between rounds and after them is a
PrivateState, which is no Contribution and refuses to be pickled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from hierfed.data.federation import Node, Nodes
from hierfed.federated.checks import Check
from hierfed.federated.private import PrivateState

WORDS = {torch.int8: 8, torch.int16: 16, torch.int32: 32}
"""Types of words, with their bits: they add modulo 2^bits."""


@dataclass(frozen=True)
class Contribution:
    """The message of a node: named float64 arrays that can be added and multiplied by a number.

    Steps may turn them into words, which add modulo their range, or into bytes (uint8), which nobody adds.
    """

    arrays: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        for name, array in self.arrays.items():
            if not isinstance(array, Tensor) or array.dtype not in (torch.float64, torch.uint8, *WORDS):
                kind = array.dtype if isinstance(array, Tensor) else type(array).__name__
                raise TypeError(f"contribution '{name}' is {kind}; only float64 tensors and words are sent and added")

    def __add__(self, other: Contribution) -> Contribution:
        self.check_alike(other)
        return Contribution({name: array + other.arrays[name] for name, array in self.arrays.items()})

    @property
    def words(self) -> dict[str, int]:
        """The bits of the arrays that are words."""
        return {name: WORDS[array.dtype] for name, array in self.arrays.items() if array.dtype in WORDS}

    def __mul__(self, factor: float) -> Contribution:
        return Contribution({name: array * factor for name, array in self.arrays.items()})

    __rmul__ = __mul__

    def check_alike(self, other: Contribution) -> None:
        """Raise ValueError unless the other one has arrays of the same names, shapes and types."""
        mine, theirs = (
            {name: (tuple(array.shape), array.dtype) for name, array in each.arrays.items()} for each in (self, other)
        )
        if mine != theirs:
            raise ValueError(f"cannot add contributions of different arrays: {theirs} to {mine}")

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays as they are sent."""
        return sum(array.nbytes for array in self.arrays.values())


@dataclass(frozen=True)
class SharedModel:
    """The server's model, which every node may see: named arrays after this many finished rounds.

    round: below 0 while opening rounds are to come, which gather sums that no model depends on (counts, a mean).
    The next round is round + 1; a method's first one is start().round + 1.
    server: arrays of the server's own, such as the moments of its optimizer. Checkpoints hold them; no node is sent
    them, and they are no part of the digest.
    """

    arrays: Mapping[str, Tensor]
    round: int = 0
    server: Mapping[str, Tensor] = field(default_factory=dict, kw_only=True)
    _made: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # A message's arrays are contiguous, and products of others may differ from theirs in the last digits.
        contiguous = {name: array.contiguous() for name, array in self.arrays.items()}
        object.__setattr__(self, "arrays", contiguous)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays as they are sent to one node."""
        return sum(array.nbytes for array in self.arrays.values())

    @property
    def finite(self) -> bool:
        """True where every number is finite; else the training has diverged."""
        return all(bool(array.isfinite().all()) for array in self.arrays.values())

    def once(self, name: str, make: Callable[[], Tensor]) -> Tensor:
        """A tensor that all users need and that follows from the arrays, such as a product: made once, kept by name."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    def digest(self) -> str:
        """Equal for equal models, wherever they were computed; see digest_of."""
        return digest_of(self.arrays)


class SumMethod(Protocol):
    """A shared model that is learned from sums, by functions without hidden state; engines run it."""

    def start(self) -> SharedModel:
        """The server's model before any round."""
        ...

    def contribute(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> Iterator[tuple[Contribution, PrivateState | None]]:
        """Each node's contribution to round shared.round + 1, and its state for the next, in the order of `nodes`.

        private: what each node kept from its last round, None at its first or where the method keeps nothing. A node's
        part does not depend on the other nodes.
        """
        ...

    def combine(self, shared: SharedModel, total: Contribution) -> SharedModel:
        """The server's model after round shared.round + 1, from the sum of the contributions."""
        ...

    def checks(self, shared: SharedModel) -> Sequence[Check]:
        """Checks that every honest contribution to round shared.round + 1 passes; see hierfed.federated.checks."""
        ...


OnDone = Callable[[float], None]
"""Called with the share of a round's ratings that is in its sum."""


def ignore_share(share: float) -> None:
    """The OnDone that does nothing."""


@runtime_checkable
class DatedSums(SumMethod, Protocol):
    """A method of whose sums some are told from where the model stood that they were made with.

    A server that adds an old sum to newer ones has to bring it to the present model first.
    """

    def brought(self, sums: Contribution, made_with: SharedModel, now: SharedModel) -> Contribution:
        """The sums as told from `now`; they are made with `made_with`."""
        ...


@runtime_checkable
class SteeredMethod(SumMethod, Protocol):
    """A method of whose opening rounds some only steer later ones, and leave no number in the model.

    Asynchronous rounds make them without the slow nodes.
    """

    @property
    def steering_rounds(self) -> range:
        """The numbers of these rounds."""
        ...


@runtime_checkable
class PooledMethod(SumMethod, Protocol):
    """A method that adds up the contributions of many small nodes without an object for each of them.

    An attribute `exact_sums`, if it has one, is True where its sums are exact, so that their order changes no bit.
    """

    def contribute_pooled(
        self,
        shared: SharedModel,
        nodes: Nodes,
        private: Sequence[PrivateState | None],
        on_done: OnDone = ignore_share,
    ) -> tuple[Contribution, Sequence[PrivateState | None]]:
        """The sum of these nodes' contributions to round shared.round + 1, and the states of all nodes for the next.

        private: the state of each node of the federation, at the place of its number, whether or not it takes part.
        on_done: called from time to time with the share of the nodes' ratings that is in the sum.
        The sum is that of `contribute`, up to rounding where a method says so; any number of threads gives the same
        bits.
        """
        ...


def digest_of(arrays: Mapping[str, Tensor]) -> str:
    """sha256 over names, types, shapes and values."""
    state = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name].detach().cpu().contiguous()
        state.update(f"{name} {array.dtype} {tuple(array.shape)}\n".encode())
        state.update(array.numpy().data)
    return state.hexdigest()


def ordered_sum(contributions: Iterable[Contribution]) -> Contribution:
    """The sum, added one by one in the given order in float64. It has the same bits wherever the nodes are.

    Raises ValueError if there is none.
    """
    total: Contribution | None = None
    for contribution in contributions:
        if total is None:
            total = Contribution({name: array.clone() for name, array in contribution.arrays.items()})
            continue
        total.check_alike(contribution)
        for name, array in contribution.arrays.items():
            total.arrays[name].add_(array)
    if total is None:
        raise ValueError("no node contributed")
    return total

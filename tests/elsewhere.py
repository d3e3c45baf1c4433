"""A device that is none: main memory under another name, where to mix devices is an error, as it is on a GPU.

So what is computed there has the bits of the CPU, and code that forgets to move a tensor fails without any GPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

# The one other device that torch has everywhere; the tensors here have numbers all the same.
ELSEWHERE = torch.device("meta")
COPY, MOVE, ADAM = torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default, torch.ops.aten._fused_adam_.default


class FarTensor(Tensor):
    """A tensor on that device; `held`: its numbers."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> FarTensor:
        strides = held.stride() if held.layout is torch.strided else None
        far: FarTensor = Tensor._make_wrapper_subclass(
            cls, held.shape, strides=strides, dtype=held.dtype, device=ELSEWHERE
        )
        far.held = held
        return far

    @classmethod
    def __torch_dispatch__(
        cls, operation: Any, types: Any, arguments: Sequence[Any] = (), named: Mapping[str, Any] | None = None
    ) -> Any:
        return compute(operation, arguments, dict(named or {}))


class _Moves(TorchDispatchMode):
    def __torch_dispatch__(
        self, operation: Any, types: Any, arguments: Sequence[Any] = (), named: Mapping[str, Any] | None = None
    ) -> Any:
        return compute(operation, arguments, dict(named or {}))


@contextmanager
def elsewhere() -> Iterator[torch.device]:
    """Within, on this thread, tensors can be moved to the device and made on it."""
    with _Moves():
        yield ELSEWHERE


def compute(operation: Any, arguments: Sequence[Any], named: dict[str, Any]) -> Any:
    """The operation on the numbers; what comes of it lies where its tensors lie, or where it is told to be made."""
    tensors = [leaf for leaf in tree_leaves((arguments, named)) if isinstance(leaf, Tensor)]
    far = [tensor for tensor in tensors if isinstance(tensor, FarTensor)]
    if far and operation not in (COPY, MOVE):
        # Numbers may come from main memory, but Adam's steps may not.
        near = [each for each in tensors if not isinstance(each, FarTensor) and (each.dim() or operation is ADAM)]
        assert not near, f"{operation} of tensors on two devices"
    wanted = named.get("device")
    if wanted is not None:
        named["device"] = torch.device("cpu")
        there = torch.device(wanted) == ELSEWHERE
    else:
        there = isinstance(arguments[0], FarTensor) if operation is COPY else bool(far)

    def numbers(leaf: Any) -> Any:
        return leaf.held if isinstance(leaf, FarTensor) else leaf

    found = operation(*tree_map(numbers, arguments), **tree_map(numbers, named))
    if not there:
        return found
    # What was written into is given back as it is.
    written = {id(tensor.held): tensor for tensor in far}

    def far_away(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        return written[id(leaf)] if id(leaf) in written else FarTensor(leaf)

    return tree_map(far_away, found)

"""Checks of contributions: sums that no honest ratings can give are refused before they enter a total.

Every check holds for a sum wherever it holds for its parts. So the same checks serve a server that sees each
contribution, a node that looks at its own before a secure sum, and the total of a secure sum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Float64 sums of the same numbers in another order differ by less than this, relative to their size.
ROUNDING = 1e-6
# More users and ratings than any federation has.
MOST_COUNTED = 1e12
# Smaller roots of diagonals count as so much; its square is a number.
SMALLEST = 1e-150
LEFT_BY_PRODUCTS = 1e-11


@dataclass(frozen=True)
class Sent:
    """A contribution, or a total of some, as it was decoded.

    error: the largest error of an entry, from the declared steps and the encoding of secure sums; 0 without them.
    """

    arrays: Mapping[str, Tensor]
    error: float = 0.0

    def __getitem__(self, name: str) -> Tensor:
        return self.arrays[name]


Check = Callable[[Sent], str]
"""Gives the reason why a contribution cannot be honest; empty where it can."""

Value = Callable[[Sent], Tensor]
"""A tensor that follows from a contribution."""


def first_reason(checks: Sequence[Check], sent: Sent) -> str:
    """The first check's reason against a contribution; empty where it passes them all. All numbers must be finite."""
    wild = not_finite(sent.arrays)
    if wild:
        return wild
    for check in checks:
        reason = check(sent)
        if reason:
            return reason
    return ""


def not_finite(arrays: Mapping[str, Tensor]) -> str:
    """The reason against arrays whose numbers are not all finite; empty where they are."""
    # A finite sum has finite parts, and takes a tenth of the time; one that overflows may have such parts too.
    wild = [name for name, array in arrays.items() if not array.sum().isfinite() and not array.isfinite().all()]
    return f"holds values that are not finite in {', '.join(wild)}" if wild else ""


def with_uncounted(counted: Tensor, users: Tensor) -> Tensor:
    """The largest numbers that a sum can be of: of those who were counted, and of nodes that missed the count.

    A node may miss the round of counts and take part in the next, or join later. Such nodes are let in with as many
    users as were counted; no number of theirs is known.

    counted: numbers of users, for each item or of all.
    users: at all counted nodes, or a number above that.
    """
    return counted + users


def counts(*names: str) -> Check:
    """Whole numbers from 0 to MOST_COUNTED."""

    def check(sent: Sent) -> str:
        for name in names:
            array = sent[name]
            whole = (array - array.round()).abs() <= sent.error
            if not whole.all() or (array < -sent.error).any() or (array > MOST_COUNTED).any():
                return f"{name} are counts, and are not whole numbers from 0 to {MOST_COUNTED:g}"
        return ""

    return check


def within(name: str, bound: Value, factor: float = 1.0) -> Check:
    """No entry has a larger absolute value than its bound.

    factor: how much errors of entries may be multiplied in the bound.
    """

    def check(sent: Sent) -> str:
        most = bound(sent)
        beyond = sent[name].abs() > most + ROUNDING * most.abs() + (1 + factor) * sent.error
        return f"{name} are beyond what ratings can give" if beyond.any() else ""

    return check


def between(name: str, low: Value, high: Value, factor: float = 1.0) -> Check:
    """Every entry lies between its bounds; see within."""

    def check(sent: Sent) -> str:
        least, most = low(sent), high(sent)
        slack = ROUNDING * torch.maximum(least.abs(), most.abs()) + (1 + factor) * sent.error
        outside = (sent[name] < least - slack) | (sent[name] > most + slack)
        return f"{name} are outside of what ratings can give" if outside.any() else ""

    return check


def not_negative(*names: str) -> Check:
    """No entry is below 0."""

    def check(sent: Sent) -> str:
        for name in names:
            if (sent[name] < -sent.error).any():
                return f"{name} are below 0"
        return ""

    return check


def semidefinite(
    name: str, matrices: Callable[[Sent], Iterable[Tensor]], factor: float = 1.0, packed: bool = False
) -> Check:
    """Symmetric matrices [..., size, size] without a negative eigenvalue.

    matrices: those of an array, some at a time.
    factor: see within.
    packed: True if they were sent as triangles, so that they are symmetric as they are made.
    """

    def check(sent: Sent) -> str:
        for found in matrices(sent):
            diagonal = found.diagonal(dim1=-2, dim2=-1)
            apart = 0.0 if packed else (found - found.mT).abs().amax() - ROUNDING * diagonal.abs().amax()
            # Coordinates of any size count alike, so that the slack of a large one hides nothing of a small one.
            # But for what products of float64 leave of the largest: an honest sum of less rank is that far from 0.
            left = LEFT_BY_PRODUCTS * diagonal.abs().amax(-1, keepdim=True)
            root = (diagonal.clamp_min(0) + factor * sent.error + left).sqrt().clamp_min(SMALLEST)
            scaled = (found / root[..., :, None]).div_(root[..., None, :])
            slack = ROUNDING + found.shape[-1] * factor * sent.error / root.square()
            scaled.diagonal(dim1=-2, dim2=-1).add_(slack)
            failed = torch.linalg.cholesky_ex(scaled).info
            # A sum is a number only if all of its parts are.
            if apart > 2 * factor * sent.error or failed.any() or not scaled.sum().isfinite():
                return f"{name} are no sums of squares: a matrix of them has a negative eigenvalue"
        return ""

    return check

"""Exact numbers of raters in what nodes receive: as they are, as a multiple, or by arithmetic that any node can do.

Looked at are all rows and columns of arrays that have a place for each item, and what follows from them:

- A_i, item_precision: from the covariances of one model and the spread of the one before, over a precision;
- G, the co-raters of EASE, up to a factor: the inverse of I - B, whose rows' factors its symmetry tells;
- means and biases: the number of ratings by which they are whole sums of half stars.

Found is what n follows from by one factor and one shift for nearly all items, each to less than half a rater.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch

from hierfed.models.symmetric import unpack

NEARLY_ALL, NEAR, LEAST = 0.9, 0.45, 5
SHRINKAGE = 5.0
# Stars come in halves.
STEPS = 2.0
MOST_COLUMNS, MOST_RATERS = 64, 400


def exact_counts(
    models: Sequence[tuple[str, Mapping[str, torch.Tensor]]], raters: np.ndarray, shrinkage: float = SHRINKAGE
) -> list[str]:
    """What tells the numbers of raters of nearly all items with LEAST of them or more; a line each.

    models: the arrays of each message, in their order, and a name for it. raters: of each item, by node.
    shrinkage: of item biases, in ratings.
    """
    found: list[str] = []
    totals = {"of all nodes": raters.sum(0), **{f"of node {node}": own for node, own in enumerate(raters)}}
    before: Mapping[str, torch.Tensor] = {}
    for name, arrays in models:
        for what, number in totals.items():
            if len(np.unique(number[number >= LEAST])) > 2:
                told = [array for array, values in vectors(arrays, before) if follows(values, number)]
                told += [array for array, values in co_raters(arrays) if beside_classes(values, arrays, number)]
                told += [array for array, means in means_of(arrays, shrinkage) if whole_sums(means, number)]
                found += [f"{name}: {array} tells exact numbers of raters {what}" for array in told]
        before = arrays if "item_spread" in arrays else before
    return list(dict.fromkeys(found))


def vectors(arrays: Mapping[str, torch.Tensor], before: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, np.ndarray]]:
    """Vectors by item, or by known item.

    before: the arrays of the model before, if any.
    """
    for name, array in arrays.items():
        for axis, size in enumerate(array.shape):
            if size > 1 and array.is_floating_point():
                rows = array.movedim(axis, 0).reshape(size, -1).double().numpy()
                yield from ((name, column) for column in rows.T[:MOST_COLUMNS])
    if before.keys() >= {"item_spread", "precision"} and "item_covariance" in arrays:
        for spread in (before["item_spread"], arrays["item_spread"]):
            sure = torch.linalg.inv(unpack(arrays["item_covariance"], len(spread))) - torch.linalg.inv(spread)
            yield "item_covariance", (sure[:, 0, 0] / before["precision"]).numpy()


def co_raters(arrays: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, np.ndarray]]:
    """The diagonal of G + K + penalty I, up to a factor, from EASE's weights."""
    if "weights" in arrays and arrays["weights"].ndim == 2 and len(arrays["weights"]) > 1:
        weights = arrays["weights"].double()
        inverse = torch.linalg.inv(torch.eye(len(weights), dtype=torch.float64) - weights)
        ratio = inverse[:, :1] / inverse[:1].T
        yield "weights", (inverse.diagonal() / ratio[:, 0]).nan_to_num().numpy()


def means_of(arrays: Mapping[str, torch.Tensor], shrinkage: float) -> Iterator[tuple[str, np.ndarray]]:
    """Possible means of each item's ratings, for each number of raters: [items, numbers], from 0."""
    numbers = np.arange(MOST_RATERS + 1.0)
    if "means" in arrays:
        yield "means", np.repeat(arrays["means"].numpy()[:, None], len(numbers), 1)
    if arrays.keys() >= {"bias", "mean"}:
        undone = (numbers + shrinkage) / np.maximum(numbers, 1)
        yield "bias", float(arrays["mean"]) + arrays["bias"].numpy()[:, None] * undone


def follows(values: np.ndarray, numbers: np.ndarray) -> bool:
    """True if the numbers are a factor times the values, plus a shift; values: of all items, or of those with LEAST."""
    known = numbers >= LEAST
    if len(values) == len(numbers):
        values = values[known]
    own = numbers[known]
    if len(values) != len(own) or not np.isfinite(values).all() or np.ptp(values) == 0:
        return False
    # Of the pairs of items of the fewest and the most raters, the line that most items lie on.
    order = np.argsort(own, kind="stable")
    few, many = order[: max(len(order) // 4, 1)], order[-max(len(order) // 4, 1) :]
    for low, high in zip(few, many[::-1], strict=True):
        if values[high] != values[low] and own[high] != own[low]:
            factor = (own[high] - own[low]) / (values[high] - values[low])
            off = np.abs(own[low] + factor * (values - values[low]) - own)
            if np.mean(off < NEAR) >= NEARLY_ALL:
                return True
    return False


def beside_classes(values: np.ndarray, arrays: Mapping[str, torch.Tensor], numbers: np.ndarray) -> bool:
    """True if the numbers follow from these values and the classes, which are in K."""
    edges, own = arrays["raters"].numpy(), numbers[numbers >= LEAST]
    edges = edges[edges > 0]
    if not len(values) == len(edges) == len(own):
        return False
    known = np.column_stack([values, edges, np.ones(len(own))])
    off = np.abs(known @ np.linalg.lstsq(known, own, rcond=None)[0] - own)
    return bool(np.mean(off < NEAR) >= NEARLY_ALL)


def whole_sums(means: np.ndarray, numbers: np.ndarray) -> bool:
    """True if for nearly all items the true number of raters gives a whole sum of half stars, and few others do."""
    known = np.flatnonzero((numbers >= LEAST) & (numbers <= MOST_RATERS))
    if len(means) != len(numbers) or not len(known):
        return False
    sums = means * np.arange(means.shape[1]) * STEPS
    whole = np.abs(sums - np.round(sums)) < 1e-6
    true = whole[known, numbers[known].astype(int)]
    return bool(true.mean() >= NEARLY_ALL and whole[known, 1:].mean() < 0.5)

"""Public classes of numbers of raters: what nodes are told in place of exact ones.

    edges 14/3 f^k, f = 2^(1/2):  ... 5-6, 7-9, 10-13, 14-18, 19-26, 27-37, ...

A number stands for all of its class once it is rounded up to the upper edge, which no whole number is equal to.
Upwards, so that bounds which follow from numbers of raters stay bounds. Below five raters a class has one whole number,
and hides nothing: where the threshold is lower than that, it was lowered on purpose.
"""

from __future__ import annotations

import numpy as np

# No whole number is such an edge times a power of f, so rounding errors move no count into another class.
FIRST_EDGE = 14 / 3
CLASSES_PER_DOUBLING = 2
# Scales of ratings have so many steps at the least: five stars.
STEPS_OF_SCALE = 4


def next_edge(numbers: np.ndarray) -> np.ndarray:
    """The upper edges of the classes of numbers above 0, float64 of the same shape."""
    return _edge(_class(numbers) + 1)


def whole_classes_from(threshold: float) -> float:
    """The first edge that no smaller whole number than the threshold lies above; 0 for a threshold of 0.

    Whoever knows an item's class, and also that it has as many raters as a threshold within that class, would know a
    part of the class alone. So items pass thresholds class by class.
    """
    if threshold <= 0:
        return 0.0
    return float(_edge(_class(np.ceil(threshold) - 1 + 1e-9) + 1))


def rounded_up(numbers: np.ndarray, threshold: float) -> np.ndarray:
    """The upper edges of the numbers' classes; 0 for numbers below the threshold, or below 1.

    numbers: of raters, at least 0.
    threshold: where it parts a class, the upper part goes with the next class.
    """
    known = numbers >= max(threshold, 1)
    return np.where(known, next_edge(np.maximum(np.where(known, numbers, 1.0), whole_classes_from(threshold))), 0.0)


def in_order(numbers: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Each number's class, and its place there: the numbers of a class spread evenly over it in their order.

    So lists by popularity are those of the exact numbers. Of equal numbers the first comes highest, as in lists.

    numbers: of raters. edges: see rounded_up; both [items]. Gives 0 for items without an edge.
    """
    order = np.lexsort((-np.arange(len(numbers)), numbers, edges))
    _, first, sizes = np.unique(edges[order], return_index=True, return_counts=True)
    places = np.arange(len(numbers)) - np.repeat(first, sizes)
    below = (np.repeat(sizes, sizes) - places - 0.5) / np.repeat(sizes, sizes)
    found = np.zeros(len(numbers))
    found[order] = edges[order] * 2 ** (-below / CLASSES_PER_DOUBLING)
    return found


def rounded_means(sums: np.ndarray, numbers: np.ndarray, edges: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """The means of ratings, in steps within which every number of raters of the class has a possible mean.

    A mean of n ratings in steps of s is a multiple of s / n: exact, it would tell n. A step here is the range of the
    scale, by STEPS_OF_SCALE, by the lower edge of the class. 0 for items without an edge.

    sums: of ratings. numbers: of ratings. edges: see rounded_up; all [items].
    limits: the lowest and the highest possible rating.
    """
    low, high = limits
    known = edges > 0
    steps = (high - low) / STEPS_OF_SCALE / np.where(known, edges * 2 ** (-1 / CLASSES_PER_DOUBLING), 1.0)
    means = sums / np.where(known, numbers, 1.0) - low
    # Where there is one possible rating, that is the mean.
    rounded = np.round(means / steps) * steps if high > low else 0.0 * means
    return np.where(known, np.clip(rounded + low, low, high), 0.0)


def _class(numbers: np.ndarray | float) -> np.ndarray:
    # An edge is in the class that it begins, however its logarithm is rounded.
    found: np.ndarray = np.floor(np.log2(np.asarray(numbers) / FIRST_EDGE) * CLASSES_PER_DOUBLING + 1e-9)
    return found


def _edge(classes: np.ndarray) -> np.ndarray:
    found: np.ndarray = FIRST_EDGE * np.exp2(classes / CLASSES_PER_DOUBLING)
    return found

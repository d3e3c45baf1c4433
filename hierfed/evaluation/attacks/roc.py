"""ROC curves of scores that tell members from others, the areas under them, and intervals of these areas.

There are two intervals, since neither serves both kinds of attack. DeLong's for clusters is for many scores that depend
on each other, such as those of all ratings of a film. Newcombe's is for few independent scores, such as those of some
dozen trainings; it has a width even where the scores separate all members from all others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

CONFIDENCE = 0.95
EDGE = 1e-9


@dataclass(frozen=True)
class Area:
    """The area under a ROC curve (the chance that a member scores above another), and its 95% interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """A ROC curve: false_positive and true_positive, the rates at every threshold, both ascending from 0 to 1."""

    false_positive: np.ndarray
    true_positive: np.ndarray

    def true_positive_at(self, false_positive: float) -> float:
        """The highest rate of true positives with at most this rate of false ones."""
        return float(self.true_positive[self.false_positive <= false_positive].max())


def roc_curve(scores: np.ndarray, member: np.ndarray) -> Curve:
    """The curve of scores [n] with bool member [n]: higher scores are guesses of membership."""
    members, others = _counts(member)
    order = np.argsort(-scores, kind="stable")
    last_of_equals = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    true = np.cumsum(member[order])[last_of_equals]
    false = last_of_equals + 1 - true
    return Curve(np.append(0, false / others), np.append(0, true / members))


def clustered_area(scores: np.ndarray, member: np.ndarray, cluster: np.ndarray) -> Area:
    """The area with DeLong's interval (DeLong et al., 1988), where scores of one cluster may depend on each other.

    scores, member, cluster: [n]; cluster: numbers from 0. Obuchowski (1997), whose variance is DeLong's where each
    score is a cluster of its own. Clusters, not scores, must be many.
    """
    members, others = _counts(member)
    ranks = rankdata(scores)
    above = np.empty(len(scores))  # of the other kind: the share that this member beats, or that beats this other
    above[member] = (ranks[member] - rankdata(scores[member])) / others
    above[~member] = 1 - (ranks[~member] - rankdata(scores[~member])) / members
    area = float(above[member].mean())
    of_members = _cluster_sums(above - area, cluster, member)
    of_others = _cluster_sums(above - area, cluster, ~member)
    clusters = len(np.unique(cluster))
    variance = (
        _spread(of_members, of_members, len(np.unique(cluster[member]))) / members**2
        + _spread(of_others, of_others, len(np.unique(cluster[~member]))) / others**2
        + 2 * _spread(of_members, of_others, clusters) / (members * others)
    )
    reach = _quantile() * math.sqrt(max(variance, 0.0))
    return Area(area, max(area - reach, 0.0), min(area + reach, 1.0))


def area_of_few(scores: np.ndarray, member: np.ndarray) -> Area:
    """The area with Newcombe's interval (2006, part 2, method 5), for few independent scores [n].

    Its ends are the areas that differ from the found one by 1.96 of the standard deviations that they themselves imply
    (Hanley and McNeil, 1982, with the mean of both numbers in place of each).
    """
    members, others = _counts(member)
    area = float((rankdata(scores)[member].sum() - members * (members + 1) / 2) / (members * others))
    balance = (members + others) / 2 - 1

    def excess(possible: float) -> float:
        bracket = 1 + balance * (1 - possible) / (2 - possible) + balance * possible / (1 + possible)
        variance = possible * (1 - possible) * bracket / (members * others)
        return (possible - area) ** 2 - _quantile() ** 2 * variance

    # At an area of 0 or 1 itself the excess is 0, since the variance is; the end that is sought lies further inside.
    low = float(brentq(excess, 0.0, min(area, 1 - EDGE))) if area > 0 else 0.0
    high = float(brentq(excess, max(area, EDGE), 1.0)) if area < 1 else 1.0
    return Area(area, low, high)


def rank_p_value(scores: np.ndarray, member: np.ndarray) -> float:
    """One-sided p-value of Mann and Whitney's test that members do not score above others.

    The normal approximation, with ties and a continuity correction.
    """
    members, others = _counts(member)
    ranks = rankdata(scores)
    statistic = ranks[member].sum() - members * (members + 1) / 2
    every = members + others
    _, ties = np.unique(scores, return_counts=True)
    variance = members * others / 12 * (every + 1 - (ties**3 - ties).sum() / (every * (every - 1)))
    if variance == 0:
        return 1.0
    return float(ndtr(-(statistic - members * others / 2 - 0.5) / math.sqrt(variance)))


def _counts(member: np.ndarray) -> tuple[int, int]:
    members = int(member.sum())
    if not 0 < members < len(member):
        raise ValueError(f"{members} of {len(member)} scores are of members: a ROC curve needs both kinds")
    return members, len(member) - members


def _cluster_sums(values: np.ndarray, cluster: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    sums: np.ndarray = np.bincount(cluster[chosen], values[chosen], minlength=int(cluster.max()) + 1)
    return sums


def _spread(left: np.ndarray, right: np.ndarray, clusters: int) -> float:
    return float(left @ right) * clusters / max(clusters - 1, 1)


def _quantile() -> float:
    return float(ndtri(0.5 + CONFIDENCE / 2))

"""Canaries: an invented user, planted into some trainings; does the model tell which?

The answer is also a lower bound on the epsilon of whatever differential privacy the training has, claimed or not
(Jagielski et al., 2020).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv

from hierfed.data.ratings import Ratings, concatenated


@dataclass(frozen=True)
class Canary:
    """An invented user's ratings: item [rows] and value [rows]."""

    item: np.ndarray
    value: np.ndarray

    def rows(self, user: int) -> Ratings:
        """The ratings under this number of user; they have no times."""
        return Ratings(np.full(len(self.item), user, np.int32), self.item.astype(np.int32), self.value)

    def score(self, predicted: np.ndarray) -> float:
        """The distance, in stars, that a model puts between what the canary likes and what it does not.

        predicted [rows]: of the canary's items.
        """
        liked = self.value > self.value.mean()
        return float(predicted[liked].mean() - predicted[~liked].mean())


def extreme_canary(items: np.ndarray, count: int, limits: tuple[float, float], rng: np.random.Generator) -> Canary:
    """A canary that rates so many of these items, half of them with the highest rating, the others with the lowest."""
    chosen = rng.choice(items, count, replace=False)
    return Canary(chosen, np.resize(np.array(limits, np.float32), count))


def planted(ratings: Ratings, canary: Ratings) -> Ratings:
    """The ratings, followed by those of a canary; without times, which a canary does not have."""
    return concatenated([ratings, canary])


def epsilon_lower_bound(scores: np.ndarray, member: np.ndarray, delta: float) -> float:
    """An epsilon that the trainings exceed with 95% confidence, 0 where they show none; Jagielski et al. (2020).

    scores, member [trainings]. Any (epsilon, delta)-private training keeps P(guessed | in) <= e^epsilon
    P(guessed | out) + delta for every guess. One half of the trainings chooses the threshold, the other half counts;
    both rates are bounded by Clopper and Pearson (1934). Few trainings cannot show much: see `most_that_can_be_shown`.
    """
    order = np.concatenate([np.flatnonzero(member), np.flatnonzero(~member)])
    choosing, counting = order[::2], order[1::2]
    # Midway between scores: a threshold at the lowest score of a member would miss the members that score just below.
    ordered = np.unique(scores[choosing])
    thresholds = np.append(ordered[0], (ordered[1:] + ordered[:-1]) / 2)
    _, threshold = max((_bound(scores[choosing] >= each, member[choosing], delta), each) for each in thresholds)
    return max(_bound(scores[counting] >= threshold, member[counting], delta), 0.0)


def most_that_can_be_shown(member: np.ndarray, delta: float) -> float:
    """The lower bound that so many trainings give where every guess is right."""
    return epsilon_lower_bound(member.astype(np.float64), member, delta)


def _bound(guessed: np.ndarray, member: np.ndarray, delta: float) -> float:
    """The larger of the bounds by guesses of in and by guesses of out; both hold together with 95% confidence."""
    least_true, _ = clopper_pearson(int(guessed[member].sum()), int(member.sum()))
    _, most_false = clopper_pearson(int(guessed[~member].sum()), int((~member).sum()))
    pairs = ((least_true, most_false), (1 - most_false, 1 - least_true))
    return max(math.log((true - delta) / false) if true > delta else -math.inf for true, false in pairs)


def clopper_pearson(successes: int, trials: int) -> tuple[float, float]:
    """A lower and an upper bound of a probability, each exceeded with a chance of at most 2.5%."""
    low = float(betaincinv(successes, trials - successes + 1, 0.025)) if successes else 0.0
    high = float(betaincinv(successes + 1, trials - successes, 0.975)) if successes < trials else 1.0
    return low, high

"""Membership inference: was this rating, or this user, in the training data?

The game is the one of Carlini et al. (2022): many trainings, each with every candidate in or out by chance; the
attacker knows the candidate, sees something of one training, and may have trained as many models as it likes on data of
the same kind. Since chances are even, a score that knows nothing has an area under the curve of a half.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.linalg import lsqr

# Of an observation's variance over all trainings: what is equal in all trainings but a member's own is certain.
LEAST_VARIANCE = 1e-9


def draw_members(trainings: int, group: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The members of each training, bool [trainings, candidates]: in each a new random half of every group.

    group [candidates]: numbers from 0. Halves are rounded down, and have one size in all trainings, so that how much
    somebody holds tells of no one.
    """
    counts = np.bincount(group)
    place = np.arange(len(group)) - np.repeat(np.cumsum(counts) - counts, counts)
    members = np.zeros((trainings, len(group)), bool)
    for row in members:
        row[np.lexsort((rng.random(len(group)), group))] = place < np.repeat(counts // 2, counts)
    return members


def loss_scores(predicted: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """Yeom et al. (2018): the smaller the loss, the likelier a member. The negative squared errors, alike shaped."""
    scores: np.ndarray = -((predicted.astype(np.float64) - actual) ** 2)
    return scores


def likelihood_ratios(observed: np.ndarray, member: np.ndarray) -> np.ndarray:
    """The logarithms of the likelihood ratios of in and out, float64 [trainings, candidates]; Carlini et al. (2022).

    observed, member: [trainings, candidates], what the attacker saw of each candidate in each training, and whether it
    was in. Each training is attacked with all others as its shadow models, online: normal distributions of what is seen
    are fitted to those with the candidate and those without it. Both have one variance, since some dozen trainings tell
    no two; an even chance where fewer than two trainings are of a kind. What is seen should be near normal: a
    prediction, whose distance from a known rating is a signed error, not a squared one.
    """
    trainings, observed = len(observed), observed - observed.mean(0)
    counts = [kind.sum(0) for kind in (~member, member)]
    sums = [(kind * observed).sum(0) for kind in (~member, member)]
    squares = (observed**2).sum(0)
    floor = LEAST_VARIANCE * squares / trainings + np.finfo(np.float64).tiny
    ratios = np.empty(observed.shape)
    for row, (seen, inside) in enumerate(zip(observed, member, strict=True)):
        out_count, in_count = counts[0] - ~inside, counts[1] - inside
        out_mean = (sums[0] - ~inside * seen) / np.maximum(out_count, 1)
        in_mean = (sums[1] - inside * seen) / np.maximum(in_count, 1)
        left = squares - seen**2 - out_count * out_mean**2 - in_count * in_mean**2
        variance = np.maximum(left / max(trainings - 3, 1), floor)
        ratio = ((seen - out_mean) ** 2 - (seen - in_mean) ** 2) / (2 * variance)
        ratios[row] = np.where(np.minimum(out_count, in_count) < 2, 0.0, ratio)
    return ratios


def mean_by_user(observed: np.ndarray, user: np.ndarray, users: int) -> np.ndarray:
    """The mean of what is seen of each user's rows, 0 without rows: [trainings, rows] to float64 [trainings, users].

    The likelihood ratio of such a mean weighs rows that move together as they should be; the sum of the rows' own
    ratios takes each row for new evidence.
    """
    sums = np.stack([np.bincount(user, row, minlength=users) for row in observed])
    means: np.ndarray = sums / np.maximum(np.bincount(user, minlength=users), 1)
    return means


def solve_members(counts: np.ndarray, rated: csr_array) -> np.ndarray:
    """Scores of users by least squares, [users], from exact counts of raters [items].

    rated [items, users]: 1 where a candidate has rated an item, all candidates being known to the attacker. Counts are
    a linear function of who was in, so as many counts as users tell exactly.
    """
    found: np.ndarray = lsqr(rated.astype(np.float64), counts, atol=1e-12, btol=1e-12)[0]
    return found

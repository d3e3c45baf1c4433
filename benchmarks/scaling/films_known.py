"""How near the truth a predictor of generated ratings comes that knows all films, and learns the users alone.

Between the Bayes predictor, which knows the users too, and any that learns: films, the users' prior, their noise and
the cuts between stars are the truth's; b_u and p_u are found by EM from the user's own ratings as the intervals that
these are, and the expectation is over their posterior as if that were normal.

And what straight lines cost: each user's best line through the true latent values, which bend towards the ends of the
scale, fitted to what the Bayes predictor expects of the user's own ratings.
"""

from pathlib import Path

import numpy as np
from scipy.special import ndtr

from hierfed.data.division import Allocation
from hierfed.generated.files import read_truth
from hierfed.generated.truth import FACTOR_DECAY, FACTOR_SPREAD, RANK, USER_SPREAD, Truth

USERS, SWEEPS = 5000, 30


def know_films(allocation: Allocation, folder: Path) -> dict[str, float]:
    """RMSE on the held-out ratings of some users: of this predictor, and of the Bayes predictor."""
    dataset, nodes, truth = allocation.dataset, allocation.personal_nodes, read_truth(folder)
    user_ids, item_ids = dataset.user_ids.to_numpy() - 1, dataset.catalogue.frame["item_id"].to_numpy() - 1
    places = np.random.default_rng(0).choice(len(nodes), min(USERS, len(nodes)), replace=False)
    errors, best, straight = [], [], []
    for place in places:
        node = nodes[place]
        user = user_ids[node.train.user[0]]
        own, asked = item_ids[node.train.item], item_ids[node.test.item]
        errors.append(expected(truth, user, own, node.train.value, asked) - node.test.value)
        best.append(truth.prediction(np.full(len(asked), user), asked)[0] - node.test.value)
        straight.append(line(truth, user, own, asked) - node.test.value)
    films, bayes, lines = (float(np.sqrt(np.mean(np.concatenate(each) ** 2))) for each in (errors, best, straight))
    return {
        "knowing_films": films,
        "knowing_films_bayes": bayes,
        "knowing_films_users": len(places),
        "straight_lines": lines,
    }


def line(truth: Truth, user: int, own: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Ratings of the items asked for, on the user's best line through the true latent values of the own items."""
    known, wanted = (truth.latent_mean(np.full(len(items), user), items) for items in (own, asked))
    means = truth.prediction(np.full(len(own), user), own)[0]
    return np.clip(np.polyval(np.polyfit(known, means, 1), wanted), 0.5, 5)


def expected(truth: Truth, user: int, own: np.ndarray, value: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """The user's expected ratings of the items asked for, from the own ones."""
    noise, cuts = truth.user_noise[user], truth.cuts[int(truth.whole_stars[user])]
    spread = FACTOR_DECAY ** np.arange(RANK)
    spread *= FACTOR_SPREAD / np.sqrt(np.sum(spread**2))
    prior = np.diag(np.concatenate([[USER_SPREAD], spread]) ** -2.0)
    vectors, mean = _vectors(truth, own), truth.mean + truth.item_bias[own]
    edges, star = np.concatenate([[-np.inf], cuts, [np.inf]]), np.rint(2 * value).astype(int) - 1
    covariance = np.linalg.inv(prior + vectors.T @ vectors / noise**2)
    found = np.zeros(1 + RANK)
    for _ in range(SWEEPS):
        latent = mean + vectors @ found
        low, high = ((edges[star + above] - latent) / noise for above in (0, 1))
        inside = np.maximum(ndtr(high) - ndtr(low), 1e-12)
        moved = noise * (_density(low) - _density(high)) / inside
        found = covariance @ (vectors.T @ (vectors @ found + moved)) / noise**2
    vectors = _vectors(truth, asked)
    deviation = np.sqrt(noise**2 + np.einsum("na,ab,nb->n", vectors, covariance, vectors))
    latent = truth.mean + truth.item_bias[asked] + vectors @ found
    return 0.5 + ndtr((latent[:, None] - cuts) / deviation[:, None]).sum(1) / 2


def _vectors(truth: Truth, items: np.ndarray) -> np.ndarray:
    return np.column_stack([np.ones(len(items)), truth.item_factors[items]])


def _density(values: np.ndarray) -> np.ndarray:
    return np.exp(-np.square(values) / 2) / np.sqrt(2 * np.pi)

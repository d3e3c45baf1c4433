"""Would an ordered likelihood of stars predict better than a normal one? A prototype on validation rows.

    python benchmarks/ordered.py --data FOLDER [--seeds 1]

The hierarchical model's preset under protocol warm. A fifth of the train rows, drawn at random, is left out of the
training; cut points and priors are fitted on half of them, and the other half is judged, and the other way round.
Test rows are not looked at. Beside RMSE stands the mean log chance that the normal model, cut in the middle between
stars, and `shared` give the star that came. All forms see the same predictions m and their deviations s:

    shared    P(stars <= k) = Phi((cut k - m) / s), with cut points of all users, by maximum likelihood
    own       the same with cut points stretched and moved for each user, under a prior, by the user's fitted rows
    moved     the control of `own`: normal predictions, moved for each user under a prior by the same rows
    latent    the whole training on each star's mean on the latent scale of an ordered probit, then `shared`

`own` and `moved` know more rows of a user than the others do, so that their difference counts.
"""

import argparse
from dataclasses import replace

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.stats import norm

from hierfed.data.division import assign, divide, load_dataset
from hierfed.data.federation import Node
from hierfed.data.ratings import Dataset, Ratings
from hierfed.engines.in_process import run_rounds
from hierfed.federated.private import UncertainModel
from hierfed.methods import Case, prepare
from hierfed.randomness import generator
from hierfed.settings import Settings, load_settings

Predicted = tuple[np.ndarray, np.ndarray]
VALIDATION = 0.2
MOVES = np.linspace(-0.6, 0.6, 13)
STRETCHES = np.exp(np.linspace(-0.6, 0.6, 9))


def chances(cuts: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """The chance of each star, [rows, stars]."""
    below = norm.cdf((cuts[None, :] - mean[:, None]) / deviation[:, None])
    zero = np.zeros((len(mean), 1))
    return np.diff(np.hstack([zero, below, zero + 1]), axis=1).clip(1e-12)


def fitted_cuts(grade: np.ndarray, mean: np.ndarray, deviation: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Cut points and a factor on the deviations by maximum likelihood; the factor is the last number."""

    def loss(free: np.ndarray) -> float:
        cuts = free[0] + np.concatenate([[0], np.exp(free[1:-1]).cumsum()])
        found = chances(cuts, mean, deviation * np.exp(free[-1]))
        return -float(np.log(found[np.arange(len(grade)), grade]).mean())

    middles = (levels[1:] + levels[:-1]) / 2
    best = minimize(loss, np.concatenate([middles[:1], np.log(np.diff(middles)), [0]]), method="L-BFGS-B").x
    return np.concatenate([best[0] + np.concatenate([[0], np.exp(best[1:-1]).cumsum()]), [np.exp(best[-1])]])


def own_cuts(
    fit: np.ndarray, grade: np.ndarray, user: np.ndarray, parts: list[np.ndarray], levels: np.ndarray
) -> np.ndarray:
    """Expected stars with a move and a stretch for each user, whose prior has the likeliest widths.

    fit: which rows are known. parts: the chances of stars [rows, stars] of each pair of a move and a stretch.
    """
    users = int(user.max()) + 1
    rows = np.flatnonzero(fit)
    told = np.stack([np.bincount(user[rows], np.log(each[rows, grade[rows]]), users) for each in parts], 1)
    move, stretch = (each.ravel() for each in np.meshgrid(MOVES, np.log(STRETCHES), indexing="ij"))
    best, weights = -np.inf, np.empty(0)
    for wide in (0.02, 0.05, 0.1, 0.2):
        for wider in (0.02, 0.1, 0.2, 0.4):
            prior = -((move / wide) ** 2 + (stretch / wider) ** 2) / 2
            prior = prior - np.log(np.exp(prior).sum())
            joint = told + prior
            top = joint.max(1, keepdims=True)
            evidence = float((top[:, 0] + np.log(np.exp(joint - top).sum(1))).sum())
            if evidence > best:
                best, weights = evidence, np.exp(joint - top) / np.exp(joint - top).sum(1, keepdims=True)
    expected = np.stack([each @ levels for each in parts], 1)
    return (weights[user] * expected).sum(1)


def moved(fit: np.ndarray, left: np.ndarray, deviation: np.ndarray, user: np.ndarray) -> np.ndarray:
    """The move of each row's user, by the known errors, under a normal prior of the likeliest width."""
    users, weight = int(user.max()) + 1, fit / deviation**2
    precision, pull = np.bincount(user, weight, users), np.bincount(user, weight * left, users)
    scores = []
    for wide in (0.02, 0.05, 0.1, 0.15, 0.2, 0.3):
        total = precision + wide**-2
        scores.append((float((pull**2 / total / 2 - np.log(wide**2 * total) / 2).sum()), wide))
    return (pull / (precision + max(scores)[1] ** -2))[user]


def predictions(settings: Settings, dataset: Dataset, nodes: list[Node], held: list[Ratings]) -> Predicted:
    """Means and deviations of all held rows, node after node."""
    method = prepare(Case(settings, dataset.catalogue, dataset.ratings.limits)).method
    trained = run_rounds(method, nodes, settings.training.rounds)
    found = []
    for model, rows in zip(method.personalise(trained.shared, nodes, trained.private), held, strict=True):
        assert isinstance(model, UncertainModel)
        mean, variance = model.distribution(rows)
        found.append((mean.numpy(), np.sqrt(variance.numpy())))
    return np.concatenate([each for each, _ in found]), np.concatenate([each for _, each in found])


def latent(values: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """The mean of each star on the latent scale of an ordered probit without users, brought to the stars' range."""
    shares = np.cumsum([(values == level).mean() for level in levels])
    edges = norm.pdf(norm.ppf(np.concatenate([[0], shares[:-1], [1]])))
    means = (edges[:-1] - edges[1:]) / np.diff(np.concatenate([[0], shares]))
    return levels[0] + (means - means[0]) / (means[-1] - means[0]) * (levels[-1] - levels[0])


def main() -> None:
    """Print the RMSE of each form and seed, and what it gains."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for seed in range(options.seeds):
        settings = load_settings("hierarchical", {"source": options.data, "protocol": "warm", "seed": seed})
        dataset = load_dataset(settings)
        nodes, _ = assign(dataset, divide(dataset, settings), settings)
        held, kept, places = [], [], []
        for node in nodes:
            drawn = generator(seed, 0, node.number, "validation of ordered ratings").random(len(node.train))
            held.append(node.train.take(np.flatnonzero(drawn < VALIDATION)).untimed)
            kept.append(replace(node, train=node.train.take(np.flatnonzero(drawn >= VALIDATION))))
            places.append(node.number * 10**6 + held[-1].user)
        value = np.concatenate([rows.value for rows in held])
        user = np.unique(np.concatenate(places), return_inverse=True)[1]
        levels = np.unique(np.concatenate([rows.train.value for rows in kept])).astype(float)
        grade = np.searchsorted(levels, value)
        of_star = latent(np.concatenate([rows.train.value for rows in kept]), levels)
        turned = [
            replace(each, train=replace(each.train, value=turn(each.train.value, levels, of_star))) for each in kept
        ]
        mean, deviation = predictions(settings, dataset, kept, held)
        hidden = predictions(settings, dataset, turned, held)
        half = generator(seed, 0, 0, "halves of validation rows").random(len(value)) < 0.5
        found = {name: np.empty(len(value)) for name in ("shared", "own", "moved", "latent")}
        log_chance = {name: np.empty(len(value)) for name in ("normal", "shared")}
        for fit in (half, ~half):
            for name, (middle, wide) in (("shared", (mean, deviation)), ("latent", hidden)):
                cuts = fitted_cuts(grade[fit], middle[fit], wide[fit], levels)
                found[name][~fit] = chances(cuts[:-1], middle[~fit], wide[~fit] * cuts[-1]) @ levels
                if name == "shared":
                    rated = np.flatnonzero(~fit), grade[~fit]
                    middles = (levels[1:] + levels[:-1]) / 2
                    log_chance["normal"][~fit] = np.log(chances(middles, mean, deviation)[rated])
                    log_chance["shared"][~fit] = np.log(chances(cuts[:-1], mean, deviation * cuts[-1])[rated])
                    parts = [
                        chances(cuts[:-1], (middle - levels.mean()) * by + levels.mean() + move, wide * cuts[-1])
                        for move in MOVES
                        for by in STRETCHES
                    ]
                    found["own"][~fit] = own_cuts(fit, grade, user, parts, levels)[~fit]
            found["moved"][~fit] = (mean + moved(fit, value - mean, deviation, user))[~fit]
        normal = rmse(mean.clip(*dataset.ratings.limits), value)
        print(
            f"seed {seed}: {len(value):,} validation rows, normal {normal:.5f}; log chance of the star, "
            f"normal {log_chance['normal'].mean():.4f}, shared {log_chance['shared'].mean():.4f}",
            flush=True,
        )
        for name, expected in found.items():
            error = rmse(expected.clip(*dataset.ratings.limits), value)
            print(f"seed {seed}: {name} {error:.5f}, {error - normal:+.5f}", flush=True)


def turn(values: np.ndarray, levels: np.ndarray, of_star: np.ndarray) -> np.ndarray:
    """Stars on the latent scale."""
    return of_star[np.searchsorted(levels, values)].astype(np.float32)


def rmse(expected: np.ndarray, value: np.ndarray) -> float:
    """The root of the mean squared error."""
    return float(np.sqrt(np.mean((expected - value) ** 2)))


if __name__ == "__main__":
    main()

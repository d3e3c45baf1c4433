"""The mixture of `benchmarks/kinds.py`: its steps against densities of ratings and plain loops, without its algebra."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from hierfed.methods.hierarchical.beliefs import Beliefs
from hierfed.methods.hierarchical.users import Evidence, Posterior

PATH = Path(__file__).parent.parent / "benchmarks" / "mixture.py"
USERS, KINDS, SIZE, COVARIATES = 6, 3, 4, 2
FIELDS = ("shares", "weights", "spreads")


@pytest.fixture(scope="module")
def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mixture", PATH)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules["mixture"] = found
    spec.loader.exec_module(found)
    return found


@pytest.fixture(scope="module")
def world(module) -> dict[str, Any]:
    """Three kinds, and users with ratings of items that are known for sure."""
    rng = np.random.default_rng(0)
    roots = rng.standard_normal((KINDS, SIZE, SIZE))
    kinds = module.Kinds(
        torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64),
        torch.from_numpy(rng.standard_normal((KINDS, COVARIATES, SIZE))),
        torch.from_numpy(roots @ roots.transpose(0, 2, 1) + 0.3 * np.eye(SIZE)),
    )
    counts = [1, 2, 3, 5, 8, 13]
    x, y = [rng.standard_normal((n, SIZE)) for n in counts], [2 * rng.standard_normal(n) for n in counts]
    covariates = np.column_stack([np.ones(USERS), rng.standard_normal(USERS)])
    seen = Evidence(
        products=torch.from_numpy(np.stack([each.T @ each for each in x])),
        targets=torch.from_numpy(np.stack([each.T @ rated for each, rated in zip(x, y, strict=True)])),
        squares=torch.from_numpy(np.array([rated @ rated for rated in y])),
        covariates=torch.from_numpy(covariates),
    )
    return {"kinds": kinds, "x": x, "y": y, "seen": seen, "precision": rng.uniform(0.5, 2, USERS)}


def test_shares_and_bound_are_those_of_the_ratings_densities(module, world):
    _, shares, bound = module.expected(world["kinds"], world["seen"], torch.from_numpy(world["precision"]))
    totals = []
    for user, (x, y) in enumerate(zip(world["x"], world["y"], strict=True)):
        noise, logs = np.eye(len(y)) / world["precision"][user], []
        for share, weights, spread in zip(*(vars(world["kinds"])[name].numpy() for name in FIELDS), strict=True):
            mean = x @ (world["seen"].covariates[user].numpy() @ weights)
            logs.append(np.log(share) + multivariate_normal(mean, x @ spread @ x.T + noise).logpdf(y))
        assert shares[user].numpy() == pytest.approx(np.exp(logs - logsumexp(logs)), rel=1e-9)
        # The bound leaves out what is the same for all kinds: the noise's own density of the ratings.
        totals.append(logsumexp(logs) - multivariate_normal(np.zeros(len(y)), noise).logpdf(y))
    assert bound == pytest.approx(np.mean(totals), rel=1e-9)


def test_a_collapsed_posterior_has_the_mixture_s_moments(module, world):
    precision = torch.from_numpy(world["precision"])
    found, shares, _ = module.expected(world["kinds"], world["seen"], precision)
    one: Posterior = module.collapsed(found, shares)
    for user in range(USERS):
        mean = sum(shares[user, k] * found[k].mean[user] for k in range(KINDS))
        square = sum(
            shares[user, k] * (found[k].covariance[user] + torch.outer(found[k].mean[user], found[k].mean[user]))
            for k in range(KINDS)
        )
        torch.testing.assert_close(one.mean[user], mean)
        torch.testing.assert_close(one.covariance[user] + torch.outer(mean, mean), square)
        x, y = torch.from_numpy(world["x"][user]), torch.from_numpy(world["y"][user])
        error = (y - x @ mean).square().sum() + torch.einsum("na,ab,nb->", x, one.covariance[user], x)
        torch.testing.assert_close(one.squared_error[user], error)


def test_kinds_of_certain_users_are_ridges_and_moments_of_their_own(module, world):
    found, _, _ = module.expected(world["kinds"], world["seen"], torch.from_numpy(world["precision"]))
    certain = torch.nn.functional.one_hot(torch.tensor([0, 0, 0, 1, 1, 2]), KINDS).double()
    rng = np.random.default_rng(1)
    prior = {"covariate_weights": (COVARIATES, SIZE), "user_spread": (SIZE, SIZE)}
    empty = dict.fromkeys(Beliefs.__dataclass_fields__, torch.zeros(1))
    everyone = Beliefs(**{**empty, **{name: torch.from_numpy(rng.standard_normal(of)) for name, of in prior.items()}})
    kinds = module.maximised(found, certain, world["seen"].covariates, everyone)
    ridge = np.diag([module.CONSTANTS, module.WEIGHTS])
    for kind in range(KINDS):
        mine = certain[:, kind].numpy() > 0
        h, z = world["seen"].covariates.numpy()[mine], found[kind].mean.numpy()[mine]
        weights = np.linalg.solve(h.T @ h + ridge, h.T @ z + ridge @ everyone.covariate_weights.numpy())
        away = z - h @ weights
        moments = sum(np.outer(d, d) + c for d, c in zip(away, found[kind].covariance.numpy()[mine], strict=True))
        spread = (moments + module.SPREADS * everyone.user_spread.numpy()) / (mine.sum() + module.SPREADS)
        assert kinds.weights[kind].numpy() == pytest.approx(weights)
        assert kinds.spreads[kind].numpy() == pytest.approx(spread)
    assert kinds.shares.numpy() == pytest.approx(np.array([4, 3, 2]) / 9)


def test_a_split_moves_two_means_apart_and_keeps_all_other_kinds(module, world):
    products = torch.eye(SIZE, dtype=torch.float64)
    two = world["kinds"].split(1, 0, products)
    values, vectors = np.linalg.eigh(world["kinds"].spreads[1].numpy())
    along = np.sqrt(values[-1]) * vectors[:, -1]
    apart = (two.weights[2, 0] - two.weights[3, 0]).numpy() / 2
    assert np.abs(apart) == pytest.approx(np.abs(along))
    assert torch.equal(two.shares, torch.tensor([0.6, 0.1, 0.15, 0.15], dtype=torch.float64))
    assert torch.equal(two.weights[:2], world["kinds"].weights[[0, 2]])
    left = values.copy()
    left[-1] *= 0.3
    assert np.linalg.eigvalsh(two.spreads[3].numpy()) == pytest.approx(np.sort(left))

"""The evidence lower bound, written out: no update may lower it, and learned priors stand at its maximum.

    ln p(ratings) >= E ln p(ratings | g, z, tau) - sum KL(q(g_i) || N(G' F_i, S_i)) - sum KL(q(z_u) || N(m_u, S_u))
                     - sum KL(q(tau_u) || Gamma(a0, a0 / tau))

The priors are points. Their ridges and shrinkage are densities of their own, with which each is a maximum alone; see
the tests for which of them still are together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Gamma, MultivariateNormal, kl_divergence

from hierfed.methods.hierarchical.beliefs import Beliefs, Strengths
from hierfed.methods.hierarchical.items import update_items, update_users
from hierfed.methods.hierarchical.users import Evidence, Posterior, item_sums, posterior, precision_of
from hierfed.models.symmetric import pack, unpack

STRENGTHS = Strengths(noise=6.0, covariates=5.0, content=3.0, moments=4.0)
NEXT_TO_NOTHING = 1e-9


@dataclass(frozen=True)
class State:
    """q(g), q(z) and q(tau), and their priors. rate [users]: of q(tau), whose shape is a0 + n / 2."""

    beliefs: Beliefs
    found: Posterior
    rate: Tensor
    prior: Tensor

    def precision(self, problem) -> Tensor:
        return (STRENGTHS.noise + problem.users.rows.counts / 2) / self.rate


def points(mean: Tensor, covariance: Tensor) -> Tensor:
    """Points of equal weight with exactly this mean and covariance."""
    steps = torch.linalg.cholesky(covariance).mT * len(mean) ** 0.5
    return torch.cat([mean + steps, mean - steps])


def item_covariances(problem, beliefs: Beliefs) -> Tensor:
    return unpack(beliefs.item_covariance, problem.size)


def likelihood(problem, state: State) -> Tensor:
    """E ln p(ratings | g, z, tau), rating by rating, the squared error as the mean over pairs of points."""
    shape = STRENGTHS.noise + problem.users.rows.counts / 2
    tau, log_tau = shape / state.rate, torch.digamma(shape) - state.rate.log()
    covariances = item_covariances(problem, state.beliefs)
    total = torch.zeros((), dtype=torch.float64)
    for user, item, stars in zip(problem.user, problem.item, problem.value, strict=True):
        of_item = points(state.beliefs.item_mean[item], covariances[item])
        of_user = points(state.found.mean[user], state.found.covariance[user])
        slopes = problem.design.slopes[item].expand(len(of_item), -1)
        vectors = torch.cat([torch.ones_like(of_item[:, :1]), of_item[:, 1:], slopes], 1)
        error = (stars - of_item[:, :1] - vectors @ of_user.T).square().mean()
        total = total + (log_tau[user] - np.log(2 * np.pi) - tau[user] * error) / 2
    return total


def item_part(problem, state: State) -> Tensor:
    """-KL of the shared items; the others' posteriors are their priors."""
    beliefs, on = state.beliefs, problem.design.shared > 0
    prior = MultivariateNormal((problem.features @ beliefs.item_weights)[on], beliefs.item_spread)
    return -kl_divergence(
        MultivariateNormal(beliefs.item_mean[on], item_covariances(problem, beliefs)[on]), prior
    ).sum()


def user_part(state: State) -> Tensor:
    """-KL of the users' weights."""
    prior = MultivariateNormal(state.prior, state.beliefs.user_spread)
    return -kl_divergence(MultivariateNormal(state.found.mean, state.found.covariance), prior).sum()


def noise_part(problem, state: State) -> Tensor:
    """-KL of the users' precisions."""
    shape = STRENGTHS.noise + problem.users.rows.counts / 2
    prior = Gamma(torch.full_like(shape, STRENGTHS.noise), STRENGTHS.noise / state.beliefs.precision.expand_as(shape))
    return -kl_divergence(Gamma(shape, state.rate), prior).sum()


def bound(problem, state: State) -> float:
    parts = likelihood(problem, state), item_part(problem, state), user_part(state), noise_part(problem, state)
    return float(sum(parts))


def own_evidence(problem, beliefs: Beliefs) -> Evidence:
    return problem.evidence(beliefs)


def users_step(problem, state: State) -> State:
    known = own_evidence(problem, state.beliefs)
    found = posterior(known, state.beliefs.user_spread, state.prior, state.precision(problem))
    return replace(state, found=found)


def noise_step(problem, state: State) -> State:
    tau = precision_of(STRENGTHS.noise, state.beliefs.precision, problem.users.rows.counts, state.found.squared_error)
    return replace(state, rate=(STRENGTHS.noise + problem.users.rows.counts / 2) / tau)


def sums_of(problem, state: State) -> dict[str, Tensor]:
    tau, rows = state.precision(problem), problem.users.rows
    precision, pull = item_sums(problem.design, problem.users, state.found, tau, state.beliefs.rank)
    return {"item_precision": problem.among_shared(rows, precision), "item_pull": problem.among_shared(rows, pull)}


def items_step(problem, state: State) -> State:
    found = update_items(state.beliefs, problem.design, problem.features, sums_of(problem, state), STRENGTHS, False)
    return replace(state, beliefs=replace(state.beliefs, item_mean=found[0], item_covariance=found[1]))


def start(problem, seed: int = 0) -> State:
    """Posteriors that are far from any maximum; items that are not shared are at their prior, as they always are."""
    rng = np.random.default_rng(seed)
    users, size = len(problem.users.rows.counts), problem.weights
    roots = torch.from_numpy(rng.normal(0, 0.5, (users, size, size + 2)))
    found = Posterior(
        torch.from_numpy(rng.normal(0, 1, (users, size))), roots @ roots.mT, torch.ones(users, dtype=torch.float64)
    )
    beliefs, off = problem.beliefs, problem.design.shared == 0
    beliefs = replace(
        beliefs,
        item_mean=torch.where(off[:, None], problem.features @ beliefs.item_weights, beliefs.item_mean),
        item_covariance=torch.where(off[:, None], pack(beliefs.item_spread), beliefs.item_covariance),
    )
    prior = own_evidence(problem, beliefs).covariates @ beliefs.covariate_weights
    rate = torch.from_numpy(rng.uniform(2, 8, users))
    return State(beliefs, found, rate, prior)


STEPS: tuple[Callable[..., State], ...] = (users_step, noise_step, items_step)


@pytest.mark.parametrize("threshold", [0, 4])
@pytest.mark.parametrize("seed", [0, 1])
def test_with_the_priors_held_no_step_lowers_the_bound(make_problem, seed, threshold):
    problem = make_problem(seed=seed, users=5, items=6, rank=2, threshold=threshold)
    state = start(problem, seed)
    before = first = bound(problem, state)
    for _ in range(8):
        for step in STEPS:
            state = step(problem, state)
            after = bound(problem, state)
            assert after >= before - 1e-9 * abs(before), step.__name__
            before = after
    assert before > first + 1


def test_the_bound_is_the_log_evidence_where_the_posterior_is_exact(make_problem):
    """One user of known items and a known precision: the bound of this very test, against the ratings' density."""
    problem = make_problem(users=1, items=4, rank=1)
    beliefs = replace(
        problem.beliefs,
        item_mean=problem.features @ problem.beliefs.item_weights,
        item_covariance=pack(1e-14 * torch.eye(2, dtype=torch.float64)).repeat(4, 1),
        item_spread=1e-14 * torch.eye(2, dtype=torch.float64),
    )
    state = replace(start(problem), beliefs=beliefs)
    state = users_step(problem, state)
    tau, count = float(state.precision(problem)), len(problem.value)
    vectors = np.array([problem.vector(item, beliefs.item_mean[item, 1:].numpy()) for item in problem.item])
    centre = beliefs.item_mean[problem.item, 0] + torch.from_numpy(vectors) @ state.prior[0]
    covariance = vectors @ beliefs.user_spread.numpy() @ vectors.T + np.eye(count) / tau
    density = MultivariateNormal(centre, torch.from_numpy(covariance)).log_prob(torch.from_numpy(problem.value))
    # With q(tau) in place of tau the expected log precision is below the log of the expected.
    shape = STRENGTHS.noise + count / 2
    gap = count / 2 * (torch.digamma(torch.tensor(shape, dtype=torch.float64)) - np.log(shape))
    found = likelihood(problem, state) + user_part(state) - gap
    assert float(found) == pytest.approx(float(density), abs=1e-7)


def gradient(value: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """The gradient at a point, symmetrised where the point is a symmetric matrix."""
    point = at.clone().requires_grad_()
    (found,) = torch.autograd.grad(value(point), point)
    return found


@pytest.fixture(scope="module")
def settled(make_problem):
    """A problem with some items that are not shared, and a state after some sweeps."""
    problem = make_problem(seed=5, users=7, items=8, rank=2, threshold=3, density=0.4)
    assert 0 < problem.design.shared.sum() < 8
    state = start(problem)
    for _ in range(3):
        for step in STEPS:
            state = step(problem, state)
    return problem, state


def test_every_posterior_is_where_the_bound_is_level(settled):
    """More than not falling: after its step, each posterior is at a stationary point of the bound."""
    problem, state = settled
    at = users_step(problem, state)

    def of_users(mean: Tensor, covariance: Tensor) -> Tensor:
        moved = replace(at, found=replace(at.found, mean=mean, covariance=covariance))
        return likelihood(problem, moved) + user_part(moved)

    assert gradient(lambda mean: of_users(mean, at.found.covariance), at.found.mean).abs().max() < 1e-9
    assert gradient(lambda covariance: of_users(at.found.mean, covariance), at.found.covariance).abs().max() < 1e-8

    at = noise_step(problem, at)

    def of_noise(rate: Tensor) -> Tensor:
        moved = replace(at, rate=rate)
        return likelihood(problem, moved) + noise_part(problem, moved)

    assert gradient(of_noise, at.rate).abs().max() < 1e-9

    at = items_step(problem, at)
    on = problem.design.shared > 0

    def of_items(mean: Tensor, packed: Tensor) -> Tensor:
        moved = replace(at, beliefs=replace(at.beliefs, item_mean=mean, item_covariance=packed))
        return likelihood(problem, moved) + item_part(problem, moved)

    beliefs = at.beliefs
    assert gradient(lambda mean: of_items(mean, beliefs.item_covariance), beliefs.item_mean)[on].abs().max() < 1e-9
    assert gradient(lambda each: of_items(beliefs.item_mean, each), beliefs.item_covariance)[on].abs().max() < 1e-8


def shrinkage(spread: Tensor, to: list[float]) -> Tensor:
    """ln of a density of S, up to a constant: as if k deviations of covariance S0 had been seen."""
    inverse = torch.linalg.inv(spread)
    return -STRENGTHS.moments / 2 * (torch.logdet(spread) + torch.trace(inverse @ torch.diag(inverse.new_tensor(to))))


def ridge(weights: Tensor, spread: Tensor, strength: float, constant: float) -> Tensor:
    """ln of the density of prior weights, given S: as if so many items (or users) without anything had been seen."""
    strengths = torch.full_like(weights[:, 0], strength)
    strengths[0] *= constant
    return -torch.einsum("d,da,ab,db->", strengths, weights, torch.linalg.inv(spread), weights) / 2


def test_the_items_prior_is_a_maximum_of_the_bound_and_its_own_prior(settled):
    """G for any S_i, and S_i for that G; the ridge is not in the moments that S_i is made of."""
    problem, state = settled
    found = update_items(state.beliefs, problem.design, problem.features, sums_of(problem, state), STRENGTHS, True)
    beliefs = replace(
        state.beliefs, item_mean=found[0], item_covariance=found[1], item_weights=found[2], item_spread=found[3]
    )
    at = replace(state, beliefs=beliefs)

    def of_weights(weights: Tensor) -> Tensor:
        moved = replace(at, beliefs=replace(beliefs, item_weights=weights))
        return item_part(problem, moved) + ridge(weights, beliefs.item_spread, STRENGTHS.content, 0.05)

    def of_spread(spread: Tensor) -> Tensor:
        moved = replace(at, beliefs=replace(beliefs, item_spread=(spread + spread.T) / 2))
        return item_part(problem, moved) + shrinkage(spread, [0.2, 0.02, 0.02])

    assert gradient(of_weights, beliefs.item_weights).abs().max() < 1e-8
    assert gradient(of_spread, beliefs.item_spread).abs().max() < 1e-8
    assert gradient(of_weights, beliefs.item_weights + 0.01).abs().max() > 1e-3, "the test sees a move"


def user_sums(problem, state: State, covariates: Tensor) -> dict[str, Tensor]:
    """What one node sends of its users' priors, where nodes have no means of their own."""
    tau, deviations = state.precision(problem), state.found.mean - state.prior
    users = tau.new_tensor([len(tau)])
    return {
        "covariate_products": covariates.T @ covariates,
        "covariate_targets": covariates.T @ state.found.mean,
        "user_moments": deviations.T @ deviations + state.found.covariance.sum(0),
        "users": users,
        "precision": tau.sum().reshape(1),
        "squared_error": state.found.squared_error.sum().reshape(1),
        "ratings": problem.users.rows.counts.sum().reshape(1),
        "node_moments": torch.ones(6, problem.weights, dtype=torch.float64),
    }


def learn_users_prior(problem, state: State, strengths: Strengths) -> tuple[State, Tensor]:
    """The state with the users' prior learned, and the covariates that it was learned with."""
    covariates = own_evidence(problem, state.beliefs).covariates
    sums = user_sums(problem, state, covariates)
    weights, spread, precision, _ = update_users(state.beliefs, problem.design, sums, strengths, True)
    beliefs = replace(state.beliefs, covariate_weights=weights, user_spread=spread, precision=precision)
    return replace(state, beliefs=beliefs, prior=covariates @ weights), covariates


def test_the_users_prior_is_a_maximum_of_the_bound_and_its_own_prior(settled):
    """B for any S_u; S_u about the prior means of before; and the precision, on which a0 users agree."""
    problem, state = settled
    at, covariates = learn_users_prior(problem, state, STRENGTHS)
    beliefs = at.beliefs

    def of_weights(weights: Tensor) -> Tensor:
        moved = replace(at, prior=covariates @ weights)
        return user_part(moved) + ridge(weights, beliefs.user_spread, STRENGTHS.covariates, 0.01)

    def of_spread(spread: Tensor) -> Tensor:
        moved = replace(at, prior=state.prior, beliefs=replace(beliefs, user_spread=(spread + spread.T) / 2))
        return user_part(moved) + shrinkage(spread, [0.15, 0.02, 0.02, 0.02, 0.02])

    def of_precision(precision: Tensor) -> Tensor:
        return noise_part(problem, replace(at, beliefs=replace(beliefs, precision=precision)))

    assert gradient(of_weights, beliefs.covariate_weights).abs().max() < 1e-8
    assert gradient(of_spread, beliefs.user_spread).abs().max() < 1e-8
    assert gradient(of_precision, beliefs.precision).abs().max() < 1e-9
    assert gradient(of_precision, beliefs.precision + 0.01).abs().max() > 1e-3, "the test sees a move"


def test_the_common_precision_of_the_first_rounds_is_the_likeliest(settled):
    problem, state = settled
    covariates = own_evidence(problem, state.beliefs).covariates
    sums = user_sums(problem, state, covariates)
    found = update_users(state.beliefs, problem.design, sums, STRENGTHS, False)[2]

    def expected(precision: Tensor) -> Tensor:
        return (sums["ratings"] * precision.log() - precision * sums["squared_error"]).sum() / 2

    assert gradient(expected, found).abs().max() < 1e-10


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_with_weak_priors_of_priors_no_round_lowers_the_bound(make_problem, seed):
    """Whole rounds as the method makes them: users, noise, then items with their prior, and the users' prior.

    The users' prior mean is learned from content alone here: it sees the items' factors otherwise, which then move it
    without the bound being asked; nor does S know of the ridges. Both are next to nothing, and so nothing may fall.
    """
    problem = make_problem(seed=seed, users=12, items=9, rank=1, density=0.5)
    strengths = replace(STRENGTHS, covariates=NEXT_TO_NOTHING, content=NEXT_TO_NOTHING)
    only_content = torch.zeros_like(problem.beliefs.covariate_weights)
    only_content[: -problem.beliefs.rank] = problem.beliefs.covariate_weights[: -problem.beliefs.rank]
    problem = replace(problem, beliefs=replace(problem.beliefs, covariate_weights=only_content))
    to_items, to_users = [0.2, 0.02], [0.15, 0.02, 0.02, 0.02]

    def penalised(state: State) -> float:
        spreads = shrinkage(state.beliefs.item_spread, to_items) + shrinkage(state.beliefs.user_spread, to_users)
        return bound(problem, state) + float(spreads)

    def learn_items(problem, state: State) -> State:
        found = update_items(state.beliefs, problem.design, problem.features, sums_of(problem, state), strengths, True)
        names = ("item_mean", "item_covariance", "item_weights", "item_spread")
        return replace(state, beliefs=replace(state.beliefs, **dict(zip(names, found, strict=True))))

    def learn_users(problem, state: State) -> State:
        covariates = own_evidence(problem, state.beliefs).covariates[:, : -problem.beliefs.rank]
        sums = user_sums(problem, state, covariates)
        weights, spread, precision, _ = update_users(state.beliefs, problem.design, sums, strengths, True)
        beliefs = replace(state.beliefs, user_spread=spread, precision=precision)
        return replace(state, beliefs=beliefs, prior=covariates @ weights)

    state = start(problem, seed)
    before = first = penalised(state)
    for _ in range(6):
        for step in (users_step, noise_step, learn_items, learn_users):
            state = step(problem, state)
            after = penalised(state)
            assert after >= before - 1e-7 * abs(before), step.__name__
            before = after
    assert before > first + 1

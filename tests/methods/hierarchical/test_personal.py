"""Users of the hierarchical model: their predictions by dense matrices, their intervals, and what they keep."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from hierfed.data.federation import Node
from hierfed.data.ratings import Ratings, rows_to_predict
from hierfed.engines.in_process import Trained, run_rounds
from hierfed.evaluation.judging import judge_intervals, judge_node
from hierfed.methods.hierarchical.cavity import own_ratings, without_own
from hierfed.methods.hierarchical.cohort import cohort_of
from hierfed.methods.hierarchical.hierarchical import HierarchicalFactors
from hierfed.methods.hierarchical.observations import noise_weights
from hierfed.methods.hierarchical.personal import PersonalFactors, newcomer, restored
from hierfed.methods.hierarchical.users import evidence, item_moments, posterior, precision_of
from hierfed.models.symmetric import unpack
from tests.models.dense import dense_kriging

USERS, ITEMS = 20, 15


@dataclass(frozen=True)
class Case:
    """A trained method, its nodes, and their personal models."""

    method: HierarchicalFactors
    nodes: list[Node]
    trained: Trained
    models: list[PersonalFactors]


@pytest.fixture(scope="module")
def nodes(make_pairs, divide_users) -> list[Node]:
    found: list[Node] = divide_users(make_pairs(USERS, ITEMS, seed=1), [user % 2 for user in range(USERS)])
    return found


@pytest.fixture(scope="module", params=[True, False], ids=["kriging", "factors alone"])
def case(request, make_factors, make_content, nodes) -> Case:
    method = make_factors(make_content(ITEMS), **({} if request.param else {"kernel": None}))
    trained = run_rounds(method, nodes, 6)
    return Case(method, nodes, trained, method.personalise(trained.shared, nodes, trained.private))


def expected_quadratic(covariance: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> float:
    """E (1, p) C (1, p)' for p of this mean and covariance: the variance of an item's part to a user."""
    factors = np.concatenate([[1.0], mean])
    products = np.outer(factors, factors)
    products[1:, 1:] += spread
    return float((covariance * products).sum())


def test_predictions_are_the_prior_mean_and_what_the_own_ratings_add(case: Case):
    knowledge = case.method.knowledge(case.trained.shared)
    beliefs, rank = knowledge.beliefs, knowledge.beliefs.rank
    slopes = knowledge.design.slopes.numpy()
    spread = beliefs.user_spread.numpy()
    centre, unit = case.trained.shared.arrays["scale"].tolist()
    covariances = unpack(beliefs.item_covariance, 1 + rank).numpy()
    every = torch.arange(ITEMS)
    kernel = np.zeros((ITEMS, ITEMS))
    if knowledge.kernel is not None:
        kernel = knowledge.kernel.between(every[None], every[None])[0].numpy()
    share = 0.4 if knowledge.kernel is not None else 1.0
    for model, node, state in zip(case.models, case.nodes, case.trained.private, strict=True):
        (users,), memory = state.arranged, state.memory
        known = evidence(item_moments(beliefs, knowledge.design), users)
        found = posterior(known, beliefs.user_spread, model.prior_mean, memory.precision)
        left_out = without_own(beliefs, users.rows, knowledge.design, memory.posterior, memory.precision)
        user, item, value = own_ratings(users.rows)
        assert state.cohort.users.tolist() == np.unique(node.train.user).tolist()
        for number, name in enumerate(state.cohort.users.tolist()):
            mine = user == number
            items = item[mine].numpy()
            tau, prior = float(memory.precision[number]), model.prior_mean[number].numpy()
            weights, of_weights = found.mean[number].numpy(), found.covariance[number].numpy()
            factors = weights[1 : 1 + rank], of_weights[1 : 1 + rank, 1 : 1 + rank]
            queries = np.column_stack([np.ones(ITEMS), beliefs.item_mean[:, 1:], slopes])
            bias = beliefs.item_mean[:, 0].numpy()
            uncertain = [expected_quadratic(each, *factors) for each in covariances]
            if knowledge.kernel is None:
                mean = queries @ weights
                variance = np.einsum("na,ab,nb->n", queries, of_weights, queries) + uncertain + 1 / tau
            else:
                without_mean = left_out[0][mine].numpy()
                without = unpack(left_out[1][mine], 1 + rank).numpy()
                raters = knowledge.design.raters.numpy()[items]
                loud = np.exp(-0.1 * np.log1p(raters))
                noise = np.array([share / tau + expected_quadratic(each, *factors) for each in without])
                noise *= loud / loud.mean()
                x = np.column_stack([np.ones(len(items)), without_mean[:, 1:], slopes[items]])
                residuals = value[mine].numpy() - without_mean[:, 0] - x @ prior
                unknown = beliefs.covariate_weights[0].numpy()
                quality, own_quality = bias + queries @ unknown, without_mean[:, 0] + x @ unknown
                known = x @ spread @ x.T + kernel[np.ix_(items, items)]
                known += 0.1 * np.outer(own_quality, own_quality)
                cross = queries @ spread @ x.T + kernel[:, items] + 0.1 * np.outer(quality, own_quality)
                itself = np.einsum("na,ab,nb->n", queries, spread, queries) + np.diag(kernel) + 0.1 * quality**2
                dense = dense_kriging(known, noise, cross, itself, residuals)
                mean = queries @ prior + dense.mean
                variance = dense.variance + uncertain + dense.loudness * share / tau
            got = model.distribution(rows_to_predict(torch.full((ITEMS,), name), every))
            np.testing.assert_allclose(got[0], centre + unit * (bias + mean), rtol=0, atol=1e-6)
            np.testing.assert_allclose(got[1], unit**2 * variance, rtol=0, atol=1e-6)


def test_a_stranger_gets_the_prior_of_the_node(case: Case):
    beliefs = case.method.knowledge(case.trained.shared).beliefs
    slopes = case.method.design(case.trained.shared).slopes.numpy()
    centre, unit = case.trained.shared.arrays["scale"].tolist()
    covariances = unpack(beliefs.item_covariance, 1 + beliefs.rank).numpy()
    x = np.column_stack([np.ones(ITEMS), beliefs.item_mean[:, 1:], slopes])
    spread = beliefs.user_spread.numpy()
    for model, node in zip(case.models, case.nodes, strict=True):
        stranger = 10**6
        assert stranger not in node.train.user
        mean, variance = model.distribution(rows_to_predict(torch.full((ITEMS,), stranger), torch.arange(ITEMS)))
        prior = model.newcomer.numpy()
        np.testing.assert_allclose(mean, centre + unit * (beliefs.item_mean[:, 0].numpy() + x @ prior), atol=1e-10)
        rank = beliefs.rank
        uncertain = [
            expected_quadratic(each, prior[1 : 1 + rank], spread[1 : 1 + rank, 1 : 1 + rank]) for each in covariances
        ]
        expected = np.einsum("na,ab,nb->n", x, spread, x) + uncertain + 1 / float(beliefs.precision)
        np.testing.assert_allclose(variance, unit**2 * expected, rtol=1e-9)


def test_known_and_unknown_users_may_be_asked_for_at_once_in_any_order(case: Case):
    model, node = case.models[0], case.nodes[0]
    rng = np.random.default_rng(0)
    users = torch.from_numpy(rng.choice([*np.unique(node.train.user), 10**6, 1, 10**7], 60)).long()
    items = torch.from_numpy(rng.integers(ITEMS, size=60))
    mean, variance = model.distribution(rows_to_predict(users, items))
    for row in range(60):
        one = model.distribution(rows_to_predict(users[row : row + 1], items[row : row + 1]))
        assert float(one[0]) == pytest.approx(float(mean[row]), abs=1e-9)
        assert float(one[1]) == pytest.approx(float(variance[row]), abs=1e-9)
    nothing = torch.empty(0, dtype=torch.int64)
    assert [len(each) for each in model.distribution(rows_to_predict(nothing, nothing))] == [0, 0]


def test_a_user_who_sent_nothing_has_nothing_taken_out(case: Case):
    """New users: their precision and posterior by turns, three times, and the items as they are."""
    shared = case.trained.shared
    (model,) = case.method.personalise(shared, case.nodes[:1], [None])
    knowledge = case.method.knowledge(shared)
    beliefs = knowledge.beliefs
    cohort = cohort_of(case.nodes[:1])
    users = cohort.arranged(slice(0, len(cohort)), shared.arrays["scale"], knowledge.design)
    known = evidence(item_moments(beliefs, knowledge.design), users)
    prior = known.covariates @ beliefs.covariate_weights
    torch.testing.assert_close(model.prior_mean, prior)
    precision = beliefs.precision.expand(len(prior))
    for _ in range(2):
        found = posterior(known, beliefs.user_spread, prior, precision)
        precision = precision_of(6.0, beliefs.precision, users.rows.counts, found.squared_error)
    torch.testing.assert_close(model.precision, precision)
    torch.testing.assert_close(model.posterior.mean, posterior(known, beliefs.user_spread, prior, precision).mean)
    items = model.own.items
    torch.testing.assert_close(model.own.vectors, knowledge.kriging_vectors(items))
    took_part = case.models[0]
    assert not torch.allclose(model.own.vectors, took_part.own.vectors, atol=1e-6)


def test_what_a_user_keeps_is_the_user_s_alone_and_gives_the_predictions_again(case: Case):
    knowledge = case.method.knowledge(case.trained.shared)
    for model, node in zip(case.models, case.nodes, strict=True):
        kept = dict(model.tensors())
        assert set(kept) == set(node.train.user.tolist())
        for user, tensors in kept.items():
            mine = np.flatnonzero(node.train.user == user)
            pairs = zip(node.train.item[mine].tolist(), node.train.value[mine].tolist(), strict=True)
            stored = zip(tensors["items"].tolist(), tensors["ratings"].tolist(), strict=True)
            (items, stars), (its, theirs) = (zip(*sorted(each), strict=True) for each in (pairs, stored))
            assert its == items
            assert theirs == pytest.approx(stars)
            assert all(tensor.is_contiguous() for tensor in tensors.values())
            assert set(tensors) == {
                *("items", "ratings", "item_mean", "noise"),
                *("mean", "covariance", "precision", "prior_mean"),
            }
            assert len({len(tensors[name]) for name in ("items", "ratings", "item_mean", "noise")}) == 1
            loaded = restored(knowledge, tensors)
            every = torch.arange(ITEMS)
            again = loaded.distribution(rows_to_predict(torch.zeros(ITEMS, dtype=torch.int64), every))
            for one, other in zip(
                again, model.distribution(rows_to_predict(torch.full((ITEMS,), user), every)), strict=True
            ):
                torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


def test_another_kernel_and_share_of_noise_are_as_if_they_had_been_there_from_the_start(case: Case):
    if case.method.kernel is None:
        pytest.skip("nothing is kriged")
    other = replace(case.method.kernel.scaled(0.5), noise_share=0.7)
    shared, method = case.trained.shared, replace(case.method, kernel=other)
    again = method.personalise(shared, case.nodes, case.trained.private)
    made = method.knowledge(shared).kernel
    assert made is not None
    for model, expected, node in zip(case.models, again, case.nodes, strict=True):
        found = model.with_kriging(made, other.noise_share)
        torch.testing.assert_close(found.own.noise, expected.own.noise, rtol=1e-12, atol=0)
        user, item = (torch.from_numpy(column).long() for column in (node.train.user, node.train.item))
        for one, two in zip(
            found.distribution(rows_to_predict(user, item)),
            expected.distribution(rows_to_predict(user, item)),
            strict=True,
        ):
            torch.testing.assert_close(one, two, rtol=0, atol=1e-10)


def test_the_noise_of_rare_items_is_larger_and_the_mean_of_a_user_s_weights_is_1(case: Case):
    design, model = case.method.design(case.trained.shared), case.models[0]
    weights = noise_weights(design, model.own.items, model.own.counts)
    for own, items in zip(
        torch.split(weights, model.own.counts.tolist()),
        torch.split(model.own.items, model.own.counts.tolist()),
        strict=True,
    ):
        assert float(own.mean()) == pytest.approx(1)
        raters = design.raters[items]
        assert float(own[raters.argmin()]) == float(own.max())
        assert float(own[raters.argmax()]) == float(own.min())


def test_a_newcomer_to_no_node_gets_the_shared_prediction(case: Case):
    knowledge = case.method.knowledge(case.trained.shared)
    every = torch.arange(ITEMS)
    found = newcomer(knowledge).predict(rows_to_predict(torch.zeros(ITEMS, dtype=torch.int64), every))
    rows = Ratings(np.zeros(ITEMS, np.int32), np.arange(ITEMS, dtype=np.int32), np.ones(ITEMS, np.float32))
    torch.testing.assert_close(found, case.method.predict(case.trained.shared, rows), rtol=0, atol=1e-12)


def test_personal_models_cannot_be_sent(case: Case):
    with pytest.raises(TypeError, match="PersonalFactors is private to its node"):
        pickle.dumps(case.models[0])


def test_intervals_are_as_wide_as_they_are_told_to_be(case: Case):
    wide = replace(case.method, deviation_scale=1.5)
    models = wide.personalise(case.trained.shared, case.nodes, case.trained.private)
    user = torch.from_numpy(case.nodes[0].train.user).long()
    item = torch.from_numpy(case.nodes[0].train.item).long()
    for one, other in zip(models[:1], case.models[:1], strict=True):
        mean, variance = one.distribution(rows_to_predict(user, item))
        torch.testing.assert_close(mean, other.distribution(rows_to_predict(user, item))[0])
        torch.testing.assert_close(variance, 2.25 * other.distribution(rows_to_predict(user, item))[1])


def simulate(make_factors, content, users: int, items: int, seed: int) -> tuple[HierarchicalFactors, Ratings]:
    """Ratings drawn from the model itself: items, users and each user's noise from their priors."""
    rng = np.random.default_rng(seed)
    rank = 2
    quality, factors = rng.normal(0, 0.45, items), rng.normal(0, 0.6, (items, rank))
    bias, taste = rng.normal(0, 0.4, users), rng.normal(0, 0.6, (users, rank))
    deviation = rng.gamma(6, 1.5 / 6, users) ** -0.5
    user, item = np.nonzero(rng.random((users, items)) < 0.5)
    mean = quality[item] + bias[user] + (taste[user] * factors[item]).sum(1)
    value = mean + deviation[user] * rng.normal(0, 1, len(user))
    method = make_factors(content, kernel=None, rank=rank, embedding_rank=0, limits=(-50.0, 50.0))
    return method, Ratings(user.astype(np.int32), item.astype(np.int32), value.astype(np.float32))


def test_intervals_hold_what_they_say_on_data_of_the_model(make_factors, make_content, divide_users):
    method, ratings = simulate(make_factors, make_content(60), 250, 60, 0)
    held = np.random.default_rng(1).random(len(ratings)) < 0.2
    (whole,) = divide_users(ratings, [0] * 250)
    node = replace(whole, train=ratings.take(~held), test=ratings.take(held))
    trained = run_rounds(method, [node], 25)
    (model,) = method.personalise(trained.shared, [node], trained.private)
    record, judged = judge_node(method, trained.shared, node, model)
    found = judge_intervals([judged])
    assert found.level == 0.9
    assert 0.87 < found.coverage < 0.93
    assert record.rmse_after < 0.96 * record.rmse_before

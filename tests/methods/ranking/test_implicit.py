"""Implicit factors from sums against direct minimisation of their loss, and what nodes do not send."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.sparse import csr_array
from torch import Tensor

from hierfed.data.federation import Node, make_nodes
from hierfed.data.rater_classes import rounded_up
from hierfed.data.ratings import Ratings
from hierfed.engines.in_process import run_rounds
from hierfed.federated.contract import SharedModel, ordered_sum
from hierfed.federated.private import PrivateState
from hierfed.methods.ranking.implicit import ImplicitFactors, RatedByUsers
from hierfed.models import symmetric
from hierfed.models.lists import rated_matrix
from hierfed.randomness import generator

USERS, ITEMS, LEAST = 20, 12, 4
METHOD = ImplicitFactors(ITEMS, seed=3, rank=3, unobserved=0.2, penalty=0.05, least_raters=LEAST)


def pooled(seed: int) -> Ratings:
    """Ratings of 20 users: items 0 and 1 have 1 and 3 raters, the others at least 4, and each user has one of these."""
    rng = np.random.default_rng(seed)
    rated = rng.random((USERS, ITEMS)) < rng.uniform(0.2, 0.6, ITEMS)
    for item, raters in enumerate([1, 3] + [LEAST] * (ITEMS - 2)):
        first = rng.permutation(USERS) < raters
        rated[:, item] = first | (rated[:, item] & (item > 1))
    rated[~rated[:, 2:].any(1), 2] = True
    user, item = np.nonzero(rated)
    return Ratings(user.astype(np.int32), item.astype(np.int32), np.ones(len(user), np.float32))


def nodes_of(ratings: Ratings, node_of_user: list[int]) -> list[Node]:
    nobody = ratings.take(np.empty(0, np.int64))
    place = np.unique(np.array(node_of_user)[ratings.user], return_inverse=True)[1]
    return list(make_nodes(ratings, place, nobody, np.empty(0, np.int64), int(place.max()) + 1))


def trained(ratings: Ratings, rounds: int, method: ImplicitFactors = METHOD) -> SharedModel:
    return run_rounds(method, nodes_of(ratings, [0] * USERS), rounds).shared


def known_rows(ratings: Ratings) -> Tensor:
    """Which of the items with enough raters each user has rated, 0 or 1."""
    rated = rated_matrix(ratings, USERS, ITEMS).toarray()
    return torch.from_numpy(rated[:, rated.sum(0) >= LEAST])


def loss(rated: Tensor, users: Tensor, items: Tensor) -> Tensor:
    """The loss in the form of its paper, over pairs: rated, all, and both penalties."""
    product = users @ items.T
    fit = (rated * (1 - product).square()).sum() + METHOD.unobserved * product.square().sum()
    # Items are penalised by their class of raters, users by their own number.
    numbers = rated.sum(1), torch.from_numpy(rounded_up(rated.sum(0).numpy(), METHOD.least_raters))
    weights = [METHOD.penalty * (numbers[axis] + METHOD.unobserved * rated.shape[1 - axis]) for axis in (0, 1)]
    return fit + sum(weight @ each.square().sum(1) for weight, each in zip(weights, (users, items), strict=True))


def minimum(objective: Callable[[Tensor], Tensor], shape: tuple[int, int]) -> Tensor:
    """The argument of a least squares problem, found by a method that knows nothing of its form."""

    def value_and_slope(point: np.ndarray) -> tuple[float, np.ndarray]:
        argument = torch.from_numpy(point.reshape(shape)).requires_grad_()
        value = objective(argument)
        (slope,) = torch.autograd.grad(value, argument)
        return value.item(), slope.numpy().ravel()

    options = {"ftol": 1e-16, "gtol": 1e-11, "maxiter": 10_000, "maxfun": 10_000}
    found = minimize(value_and_slope, np.zeros(math.prod(shape)), jac=True, method="L-BFGS-B", options=options)
    return torch.from_numpy(found.x.reshape(shape))


def own_vectors(shared: SharedModel, ratings: Ratings) -> Tensor:
    """The users' vectors, read off their scores."""
    seen = rated_matrix(ratings, USERS, ITEMS)
    scores = METHOD.scores(shared, seen)[:, shared.arrays["raters"] > 0]
    return torch.linalg.lstsq(shared.arrays["factors"], scores.T).solution.T


def test_each_half_step_is_the_minimum_of_the_loss_with_the_other_half_held():
    ratings = pooled(0)
    rated = known_rows(ratings)
    before, after = trained(ratings, 2), trained(ratings, 3)
    held = before.arrays["factors"]
    users = minimum(lambda users: loss(rated, users, held), (USERS, METHOD.rank))
    torch.testing.assert_close(own_vectors(before, ratings), users, rtol=0, atol=1e-6)
    items = minimum(lambda items: loss(rated, users, items), tuple(held.shape))
    torch.testing.assert_close(after.arrays["factors"], items, rtol=0, atol=1e-6)


def test_every_round_lowers_the_loss_until_nothing_is_left_to_gain():
    ratings = pooled(1)
    rated, found = known_rows(ratings), []
    run_rounds(METHOD, nodes_of(ratings, [0] * USERS), 400, lambda finished: found.append(finished.shared))
    losses = [float(loss(rated, own_vectors(shared, ratings), shared.arrays["factors"])) for shared in found]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(losses))
    assert losses[-1] < 0.9 * rated.sum()
    halves = [half.requires_grad_() for half in (own_vectors(found[-1], ratings), found[-1].arrays["factors"].clone())]
    for slope in torch.autograd.grad(loss(rated, *halves), halves):
        torch.testing.assert_close(slope, torch.zeros_like(slope), rtol=0, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 99), st.lists(st.integers(0, 4), min_size=USERS, max_size=USERS), st.randoms())
def test_any_division_of_the_users_in_any_order_gives_the_pooled_factors(seed, node_of_user, random):
    ratings = pooled(seed)
    nodes = nodes_of(ratings, node_of_user)
    random.shuffle(nodes)
    found, expected = run_rounds(METHOD, nodes, 3).shared, trained(ratings, 3)
    assert torch.equal(found.arrays["raters"], expected.arrays["raters"])
    torch.testing.assert_close(found.arrays["factors"], expected.arrays["factors"], rtol=0, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 99), st.integers(1, 9), st.integers(0, 2**32), st.integers(0, 3))
def test_many_nodes_at_once_send_the_sum_of_theirs(seed, count, order, rounds):
    """Users on several nodes are another one on each, in whatever order rows lie."""
    rng, ratings = np.random.default_rng(order), pooled(seed)
    node = rng.permutation(np.arange(len(ratings)) % count)
    rows = ratings.take(rng.permutation(len(ratings)))
    nodes = make_nodes(rows, node, rows.take(np.empty(0, np.int64)), np.empty(0, np.int64), count)
    shared = run_rounds(METHOD, list(nodes), rounds).shared if rounds else METHOD.start()
    for part in (nodes, nodes[::2]):
        one_by_one = ordered_sum(sent for sent, _ in METHOD.contribute(shared, part, [None] * len(part)))
        total, kept = METHOD.contribute_pooled(shared, part, [None] * count)
        torch.testing.assert_close(dict(total.arrays), dict(one_by_one.arrays), rtol=1e-12, atol=1e-12)
        assert list(kept) == [None] * count


def test_a_pooled_training_has_the_factors_of_one_by_one(monkeypatch):
    ratings, places = pooled(5), np.arange(USERS) % 7
    nobody = ratings.take(np.empty(0, np.int64))
    nodes = make_nodes(ratings, places[ratings.user], nobody, np.empty(0, np.int64), 7)
    monkeypatch.setattr("hierfed.engines.in_process.POOLED_FROM", 2)
    found, expected = run_rounds(METHOD, nodes, 5).shared, trained(ratings, 5)
    torch.testing.assert_close(dict(found.arrays), dict(expected.arrays), rtol=0, atol=1e-9)


def test_the_first_factors_are_small_and_depend_on_the_seed_alone():
    ratings = pooled(2)
    shared = trained(ratings, 0)
    draws = generator(3, 0, 0, "implicit factors").standard_normal((ITEMS, 3))
    known = np.flatnonzero(shared.arrays["raters"])
    np.testing.assert_allclose(shared.arrays["factors"], draws[known] * 0.1 / math.sqrt(3), rtol=1e-15)
    assert (shared.round, shared.arrays["users"].tolist()) == (0, [USERS])
    assert trained(ratings, 2).digest() == trained(ratings, 2).digest()
    assert trained(ratings, 2).digest() != trained(ratings, 2, replace(METHOD, seed=4)).digest()


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 99), st.sets(st.integers(0, USERS - 1), max_size=LEAST - 1))
def test_who_rates_an_item_below_the_threshold_changes_nothing_that_is_shared_or_sent_but_its_count(seed, raters):
    before = pooled(seed)
    others = before.take(before.item != 0)
    new = np.array(sorted(raters), np.int32)
    after = Ratings(
        np.concatenate([others.user, new]),
        np.concatenate([others.item, np.zeros(len(new), np.int32)]),
        np.ones(len(others) + len(new), np.float32),
    )
    shared = trained(before, 2)
    sent = [next(iter(METHOD.contribute(shared, nodes_of(rows, [0] * USERS), [None])))[0] for rows in (before, after)]
    assert all(torch.equal(sent[0].arrays[name], sent[1].arrays[name]) for name in sent[0].arrays)
    assert trained(after, 2).digest() == shared.digest()


def test_a_contribution_is_sums_over_the_nodes_users_of_the_known_items():
    ratings = pooled(4)
    shared = trained(ratings, 1)
    (first, _), (second, state) = METHOD.contribute(shared, nodes_of(ratings, [0] * 8 + [1] * 12), [None, None])
    users, rated = own_vectors(shared, ratings)[8:], known_rows(ratings)[8:]
    row, column = np.tril_indices(3)
    products = torch.einsum("ui,ua,ub->iab", rated, users, users)[:, row, column]
    expected = {"products": products, "factors": rated.T @ users, "all_products": users.T @ users}
    torch.testing.assert_close(dict(second.arrays), expected, rtol=0, atol=1e-10)
    assert first.nbytes == second.nbytes == 8 * (rated.shape[1] * (6 + 3) + 9)
    assert isinstance(state, PrivateState)


def test_what_a_node_keeps_spares_it_work_and_changes_nothing():
    nodes = nodes_of(pooled(5), [0] * 10 + [1] * 10)
    shared = run_rounds(METHOD, nodes, 1).shared
    anew = list(METHOD.contribute(shared, nodes, [None, None]))
    again = list(METHOD.contribute(shared, nodes, [kept for _, kept in anew]))
    for (first, made), (second, kept) in zip(anew, again, strict=True):
        assert isinstance(made, RatedByUsers)
        assert kept is made
        assert all(torch.equal(first.arrays[name], second.arrays[name]) for name in first.arrays)


def test_a_new_user_is_scored_and_one_of_whom_nothing_is_known_gets_0(monkeypatch):
    shared = trained(pooled(6), 5)
    seen = csr_array((np.ones(4), ([0, 0, 0, 1], [3, 4, 5, 0])), shape=(3, ITEMS))
    scores = METHOD.scores(shared, seen)
    assert scores[0, 3:6].min() > 0.1
    assert not scores[1:].any()
    assert not scores[:, :2].any()
    monkeypatch.setattr(symmetric, "SOLVED_AT_ONCE", 2)
    torch.testing.assert_close(METHOD.scores(shared, seen), scores, rtol=0, atol=1e-12)


@pytest.mark.parametrize("unobserved", [0.0, 0.2])
def test_where_no_item_is_known_every_score_is_0(unobserved):
    method = replace(METHOD, least_raters=USERS + 1, unobserved=unobserved)
    shared = trained(pooled(7), 2, method)
    assert shared.arrays["factors"].shape == (0, 3)
    assert not method.scores(shared, csr_array(np.ones((2, ITEMS)))).any()


@pytest.mark.parametrize("rank", [1, 5])
def test_factors_have_the_asked_rank(rank):
    assert trained(pooled(8), 1, replace(METHOD, rank=rank)).arrays["factors"].shape == (ITEMS - 2, rank)


def test_threads_do_not_change_a_bit(monkeypatch):
    """Threads share the nodes, and the items' half step."""
    nodes = nodes_of(pooled(2), [user % 5 for user in range(USERS)])
    once = run_rounds(METHOD, nodes, 4).shared.digest()
    monkeypatch.setattr(symmetric, "SOLVED_AT_ONCE", 3)
    assert run_rounds(replace(METHOD, threads=3), nodes, 4).shared.digest() == once


def test_a_training_goes_on_from_some_rounds():
    ratings = pooled(2)
    begun = replace(METHOD, begun=trained(ratings, 2))
    assert trained(ratings, 5, begun).digest() == trained(ratings, 5).digest()

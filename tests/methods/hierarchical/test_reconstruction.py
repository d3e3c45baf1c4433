"""Ratings from the sums of the hierarchical model."""

from __future__ import annotations

import numpy as np
import pytest

from hierfed.data.ratings import Ratings
from hierfed.engines.in_process import run_rounds
from hierfed.evaluation.attacks.curious_server import CuriousServer
from hierfed.methods.hierarchical.reconstruction import only_user, rated_once, reconstruct, unknown_user

USERS, ITEMS = 60, 80


@pytest.fixture(scope="module")
def ratings(make_pairs):
    return make_pairs(USERS, ITEMS, most=12)


@pytest.fixture(scope="module")
def watch(make_content, make_factors, divide_users, ratings):
    """What the server sees of a round with so many nodes and this threshold."""

    def look(nodes, threshold, number):
        method = make_factors(make_content(ITEMS), threshold=threshold)
        server = CuriousServer(method, {number})
        run_rounds(server, divide_users(ratings, [user % nodes for user in range(USERS)]), number)
        return method, server.seen[number]

    return look


def test_items_rated_once_are_those_without_another_rater():
    ratings = Ratings(np.array([0, 1, 1, 2]), np.array([4, 4, 2, 7]), np.array([1.0, 2.0, 3.0, 4.0], np.float32))
    assert rated_once(ratings).item.tolist() == [2, 7]


def test_a_node_of_one_user_gives_every_rating_away(watch, ratings):
    method, seen = watch(USERS, 0, 1)
    for user in (0, 7, 23):
        own = ratings.take(np.flatnonzero(ratings.user == user))
        sums = seen.contributions[user]
        found = reconstruct(method, seen.shared, sums, own.item, only_user(sums))
        np.testing.assert_allclose(found, own.value, atol=1e-12)


@pytest.mark.parametrize("number", [1, 3])
def test_of_an_item_with_one_rater_the_sum_of_all_tells_the_rating(watch, ratings, number):
    method, seen = watch(3, 0, number)
    once = rated_once(ratings)
    assert len(once) > 5
    found = reconstruct(method, seen.shared, seen.total, once.item, unknown_user(seen.shared))
    guess = method.predict(seen.shared, once).numpy()
    assert np.sqrt(np.mean((found - once.value) ** 2)) < 0.75 * np.sqrt(np.mean((guess - once.value) ** 2))


def test_what_is_reconstructed_is_that_users_rating_less_an_offset_that_the_user_alone_knows(watch, ratings):
    method, seen = watch(USERS, 0, 1)
    once = rated_once(ratings)
    for user, item, value in zip(once.user, once.item, once.value, strict=True):
        at = np.array([item])
        (found,) = reconstruct(method, seen.shared, seen.total, at, only_user(seen.contributions[user]))
        assert found == pytest.approx(value, abs=1e-12)


def test_under_the_threshold_nothing_is_summed(watch, ratings):
    method, seen = watch(3, 2, 1)
    found = reconstruct(method, seen.shared, seen.total, rated_once(ratings).item, unknown_user(seen.shared))
    assert np.isnan(found).all()
    raters = np.bincount(ratings.item, minlength=ITEMS)
    often = np.flatnonzero(raters >= 2)
    assert np.isfinite(reconstruct(method, seen.shared, seen.total, often, unknown_user(seen.shared))).all()

"""EASE from sums against ridge regressions column by column, and what nodes do not send."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from hierfed.data.federation import Node, make_nodes
from hierfed.data.rater_classes import rounded_up
from hierfed.data.ratings import Ratings
from hierfed.engines.in_process import run_rounds
from hierfed.engines.rounds import Round
from hierfed.errors import HierfedError
from hierfed.federated.contract import Contribution, SharedModel, ordered_sum
from hierfed.federated.rules import OPEN_SUM
from hierfed.federated.steps import Known
from hierfed.federated.words import Words
from hierfed.methods.ranking import ease
from hierfed.methods.ranking.ease import COPIES, STEP, CoRaters, Ease, public_likeness, weights_of, with_penalty
from hierfed.models.lists import rated_matrix
from hierfed.privacy.secure_sum.simulation import SecureSum

USERS, ITEMS, LEAST = 24, 15, 4
METHOD = Ease(ITEMS, penalty=7.0, least_raters=LEAST)


def pooled(seed: int) -> Ratings:
    """Ratings of 24 users: item 0 has one rater, item 1 has 3, item 2 has exactly 4, the others have any number."""
    rng = np.random.default_rng(seed)
    rated = rng.random((USERS, ITEMS)) < rng.uniform(0.1, 0.7, ITEMS)
    for item, raters in ((0, 1), (1, 3), (2, 4)):
        rated[:, item] = rng.permutation(USERS) < raters
    user, item = np.nonzero(rated)
    value = rng.integers(1, 6, len(user)).astype(np.float32)
    return Ratings(user.astype(np.int32), item.astype(np.int32), value)


def nodes_of(ratings: Ratings, node_of_user: list[int]) -> list[Node]:
    nobody = ratings.take(np.empty(0, np.int64))
    place = np.unique(np.array(node_of_user)[ratings.user], return_inverse=True)[1]
    return list(make_nodes(ratings, place, nobody, np.empty(0, np.int64), int(place.max()) + 1))


def dense(ratings: Ratings) -> np.ndarray:
    return rated_matrix(ratings, USERS, ITEMS).toarray()


def trained(ratings: Ratings) -> SharedModel:
    return run_rounds(METHOD, nodes_of(ratings, [0] * USERS), 1).shared


def sent_in_round_1(shared: SharedModel, node: Node) -> Contribution:
    (pair,) = METHOD.contribute(shared, [node], [None])
    return pair[0]


def in_classes(rated: np.ndarray) -> np.ndarray:
    """Co-raters, scaled to what they were if each item had as many raters as its class's upper edge."""
    raters = rated.sum(0)
    factor = np.sqrt(rounded_up(raters, 1) / raters)
    return rated.T @ rated * np.outer(factor, factor)


def test_each_items_weights_are_a_ridge_regression_on_the_other_items():
    ratings = pooled(0)
    rated, shared = dense(ratings), trained(ratings)
    known = np.flatnonzero(rated.sum(0) >= LEAST)
    assert 2 in known
    assert {0, 1}.isdisjoint(known)
    rows = rated[:, known]
    gram, expected = in_classes(rows), np.zeros((len(known), len(known)))
    for column in range(len(known)):
        others = np.arange(len(known)) != column
        left = gram[np.ix_(others, others)] + 7.0 * np.eye(len(known) - 1)
        expected[others, column] = np.linalg.solve(left, gram[others, column])
    assert shared.arrays["weights"].dtype == torch.float32
    expected = np.round(expected / STEP) * STEP
    np.testing.assert_allclose(shared.arrays["weights"], expected, rtol=0, atol=1e-12)
    assert not shared.arrays["weights"].diagonal().any()
    scores = METHOD.scores(shared, csr_array(rated)).numpy()
    np.testing.assert_allclose(scores[:, known], rows @ expected, rtol=0, atol=2e-6)
    assert not scores[:, [0, 1]].any()
    assert shared.round == 1


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 99), st.lists(st.integers(0, 5), min_size=USERS, max_size=USERS), st.randoms())
def test_any_division_of_the_users_in_any_order_gives_the_same_bits(seed, node_of_user, random):
    ratings = pooled(seed)
    nodes = nodes_of(ratings, node_of_user)
    random.shuffle(nodes)
    assert run_rounds(METHOD, nodes, 1).shared.digest() == trained(ratings).digest()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 99), st.integers(1, 9), st.integers(0, 2**32), st.sets(st.integers(0, 8), min_size=1))
def test_many_nodes_at_once_send_the_sum_of_theirs_bit_for_bit(seed, count, order, some):
    """Users on several nodes are another one on each, in whatever order rows lie."""
    rng, ratings = np.random.default_rng(order), pooled(seed)
    node = rng.permutation(np.arange(len(ratings)) % count)
    rows = ratings.take(rng.permutation(len(ratings)))
    nodes = make_nodes(rows, node, rows.take(np.empty(0, np.int64)), np.empty(0, np.int64), count)
    chosen = nodes.take(np.array(sorted({each % count for each in some})))
    for shared, part in itertools.product((METHOD.start(), run_rounds(METHOD, list(nodes), 0).shared), (nodes, chosen)):
        one_by_one = ordered_sum(sent for sent, _ in METHOD.contribute(shared, part, [None] * len(part)))
        total, kept = METHOD.contribute_pooled(shared, part, [None] * count)
        assert total.arrays.keys() == one_by_one.arrays.keys()
        assert all(torch.equal(array, one_by_one.arrays[name]) for name, array in total.arrays.items())
        assert list(kept) == [None] * count


def test_rows_that_are_in_use_are_left_as_they_lie():
    """Those of a user side by side, their items in any order."""
    ratings = pooled(6)
    order = np.lexsort((np.random.default_rng(0).permutation(len(ratings)), ratings.user))
    rows = ratings.take(order)
    nodes = make_nodes(rows, rows.user // 6, rows.take(np.empty(0, np.int64)), np.empty(0, np.int64), 4)
    before = nodes.train.ratings.item.copy()
    assert (np.diff(before)[np.diff(rows.user) == 0] < 0).any()
    METHOD.contribute_pooled(METHOD.start(), nodes, [None] * 4)
    assert np.array_equal(nodes.train.ratings.item, before)


def test_a_few_nodes_are_pooled_to_the_digest_of_one_by_one(monkeypatch):
    ratings, places, calls = pooled(5), np.arange(USERS) % 7, list[int]()
    nobody = ratings.take(np.empty(0, np.int64))
    nodes = make_nodes(ratings, places[ratings.user], nobody, np.empty(0, np.int64), 7)
    together = Ease.contribute_pooled

    def counting(method, shared, some, *rest):
        calls.append(len(some))
        return together(method, shared, some, *rest)

    monkeypatch.setattr(Ease, "contribute_pooled", counting)
    one_by_one = run_rounds(METHOD, list(nodes), 1).shared.digest()
    assert not calls
    assert run_rounds(METHOD, nodes, 1).shared.digest() == one_by_one == trained(ratings).digest()
    assert calls == [7, 7]


def test_nodes_send_counts_and_then_the_lower_triangle_of_the_known_items_co_raters():
    ratings = pooled(1)
    nodes = nodes_of(ratings, [user % 3 for user in range(USERS)])
    counts = [sent for sent, _ in METHOD.contribute(METHOD.start(), nodes, [None] * 3)]
    assert [list(sent.arrays) for sent in counts] == [["raters"]] * 3
    shared = METHOD.combine(METHOD.start(), ordered_sum(counts))
    known = np.flatnonzero(shared.arrays["raters"])
    for node, (sent, kept) in zip(nodes, METHOD.contribute(shared, nodes, [None] * 3), strict=True):
        rows = dense(node.train)[:, known]
        gram = rows.T @ rows
        expected = [gram[row, column] for row in range(len(known)) for column in range(row + 1)]
        assert sent.arrays["co_raters"].tolist() == expected
        assert sent.nbytes == 8 * len(known) * (len(known) + 1) // 2
        assert kept is None


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("rule", [OPEN_SUM, SecureSum()])
def test_counts_in_words_give_the_same_bits_openly_and_under_secure_sums(bits, rule):
    ratings, sent = pooled(2), list[int]()
    nodes = nodes_of(ratings, [user % 5 for user in range(USERS)])
    how = Round(rule, steps=(Words(bits),))
    shared = run_rounds(METHOD, nodes, 1, lambda done: sent.append(done.bytes_up), how).shared
    assert shared.digest() == trained(ratings).digest()
    if rule is OPEN_SUM:
        known = int((shared.arrays["raters"] > 0).sum())
        # The raters before them, then words and their check.
        assert sent == [5 * (8 * ITEMS + bits // 8 * known * (known + 1) // 2 + 4)]


@pytest.mark.parametrize(
    ("raters", "bits"), [(127.9, 8), (128.0, 16), (32_767.9, 16), (32_768.0, 32), (2.0**31 - 1, 32), (2.0**31, 64)]
)
def test_words_are_as_wide_as_the_most_rated_items_raters(raters, bits):
    shared = SharedModel({"raters": torch.tensor([0.0, 5.0, raters], dtype=torch.float64)})
    most = math.ceil(raters) - 1
    found = Contribution({"co_raters": torch.tensor([0.0, 1.0, most], dtype=torch.float64)})
    step, known = Words(8), Known.of(Ease(3), shared, (Words(8),))
    sent = step.at_node(found, known, 0)
    assert sent.words.get("co_raters", 64) == bits
    assert step.at_server(sent, known).arrays["co_raters"].tolist() == [0, 1, most]


def test_more_raters_than_fit_into_words_are_refused():
    known = Known.of(Ease(1), SharedModel({"raters": torch.tensor([100.0]).double()}), (Words(8),))
    found = Contribution({"co_raters": torch.tensor([70.0]).double()})
    sent = [Words(8).at_node(found, known, node) for node in (0, 1)]
    with pytest.raises(HierfedError, match="the total of 'co_raters' does not fit into words of 8 bits"):
        Words(8).at_server(ordered_sum(sent), known)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 99), st.sets(st.integers(0, USERS - 1), max_size=LEAST - 1))
def test_who_rates_an_item_below_the_threshold_changes_nothing_that_is_shared_or_sent_but_its_count(seed, raters):
    before = pooled(seed)
    others = before.take(before.item != 0)
    new = np.array(sorted(raters), np.int32)
    after = Ratings(
        np.concatenate([others.user, new]),
        np.concatenate([others.item, np.zeros(len(new), np.int32)]),
        np.concatenate([others.value, np.ones(len(new), np.float32)]),
    )
    shared = trained(before)
    assert trained(after).digest() == shared.digest()
    sent = [sent_in_round_1(shared, nodes_of(each, [0] * USERS)[0]).arrays["co_raters"] for each in (before, after)]
    assert torch.equal(*sent)


def test_a_rating_counts_once_whatever_its_value_and_however_often():
    ratings = pooled(2)
    twice = ratings.take(np.repeat(np.arange(len(ratings)), 2))
    assert trained(replace(twice, value=twice.value[::-1])).digest() == trained(ratings).digest()


def test_a_catalogue_that_does_not_fit_is_refused_with_the_threshold_that_would():
    ratings = pooled(3)
    raters = np.sort(dense(ratings).sum(0))[::-1]
    small = replace(METHOD, memory_gigabytes=COPIES * 8 * 5**2 / 1e9)
    fits = int(raters[5]) + 1
    with pytest.raises(HierfedError, match=rf"bound of 5: raise least_raters from 4 to {fits}, or memory_gigabytes$"):
        run_rounds(small, nodes_of(ratings, [0] * USERS), 1)
    raised = run_rounds(replace(small, least_raters=fits), nodes_of(ratings, [0] * USERS), 1).shared
    assert len(raised.arrays["weights"]) <= 5


def test_matrices_are_made_in_blocks_of_rows(monkeypatch, make_content):
    method, nodes = replace(METHOD, likeness=public_likeness(make_content(ITEMS))), nodes_of(pooled(3), [0] * USERS)
    whole = run_rounds(method, nodes, 1).shared.arrays["weights"]
    monkeypatch.setattr(ease, "ROWS", 4)
    torch.testing.assert_close(run_rounds(method, nodes, 1).shared.arrays["weights"], whole, rtol=0, atol=1e-6)


def test_where_no_item_is_known_every_score_is_0():
    method = replace(METHOD, least_raters=USERS + 1)
    shared = run_rounds(method, nodes_of(pooled(4), [0] * USERS), 1).shared
    assert shared.arrays["weights"].shape == (0, 0)
    assert not method.scores(shared, csr_array(np.ones((2, ITEMS)))).any()


def test_likeness_counts_as_co_raters_in_shares_of_the_raters(make_content, make_pairs):
    items = 15
    rows = make_pairs(users=12, items=items, seed=4)
    kernel = public_likeness(make_content(items, seed=2))
    ease = Ease(items, penalty=3.0, least_raters=2, likeness=kernel)
    found = run_rounds(ease, [Node(0, "1", rows, rows.take(np.empty(0, np.int64)))], 1).shared
    rated = np.zeros((12, items))
    rated[rows.user, rows.item] = 1
    kept = np.flatnonzero(rated.sum(0) >= 2)
    rated = rated[:, kept]
    everything = torch.arange(items)[None]
    alike = kernel.between(everything, everything)[0].numpy()[np.ix_(kept, kept)]
    edges = rounded_up(rated.sum(0), 1)
    gram = in_classes(rated) + alike * np.sqrt(np.outer(edges, edges))
    for place in range(len(kept)):
        others = np.delete(np.arange(len(kept)), place)
        solved = np.linalg.solve(gram[np.ix_(others, others)] + 3.0 * np.eye(len(others)), gram[others, place])
        np.testing.assert_allclose(found.arrays["weights"][others, place], solved, rtol=0, atol=STEP * 0.501)
        assert found.arrays["weights"][place, place] == 0


def test_one_training_makes_the_models_of_all_penalties():
    nodes = nodes_of(pooled(5), [0] * USERS)
    counted = run_rounds(CoRaters(**vars(METHOD)), nodes, 1).shared
    for penalty in (0.5, 7.0, 300.0):
        expected = run_rounds(replace(METHOD, penalty=penalty), nodes, 1).shared
        assert with_penalty(counted, penalty).digest() == expected.digest()


def test_a_penalty_that_single_precision_does_not_see_is_refused():
    with pytest.raises(HierfedError, match=r"ranking\.ease_penalty 1e-12: too small to solve .* raise it"):
        weights_of(torch.full((5, 5), 1000.0), 1e-12)

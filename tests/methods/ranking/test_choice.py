"""The choice of the blend: its lists against a loop over users, and its fall back to the best part."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from hierfed.data.federation import make_nodes
from hierfed.data.ratings import Ratings
from hierfed.evaluation.ranking import judge_lists
from hierfed.federated.rules import OpenSum
from hierfed.methods.ranking.choice import (
    PARTS,
    JudgedUsers,
    best_blend,
    best_of,
    grid,
    judged_users,
    ndcg_of_blends,
    ndcg_of_lists,
)
from hierfed.methods.ranking.scores import blend, standardise
from hierfed.methods.ranking.validation import hold_back
from hierfed.settings import load_settings

USERS, ITEMS = 12, 50


def judged(seed: int) -> tuple[JudgedUsers, list[torch.Tensor]]:
    rng = np.random.default_rng(seed)
    own, wanted = (rng.random((USERS, ITEMS)) < share for share in (0.2, 0.1))
    own[:, 0], wanted[:, 0] = False, True
    parts = [torch.from_numpy(rng.normal(0, 1, (USERS, ITEMS))) for _ in PARTS]
    return JudgedUsers(torch.arange(USERS), csr_array(own.astype(np.float64)), torch.from_numpy(wanted & ~own)), parts


def test_the_lists_of_every_candidate_are_those_of_its_blend():
    users, parts = judged(0)
    weights = grid()
    found = ndcg_of_blends([standardise(part) for part in parts], users, weights)
    named = dict(zip(PARTS, parts, strict=True))
    for candidate in (0, 3, 4, 40, len(weights) - 1):
        chosen = {name: weight for name, weight in zip(PARTS, weights[candidate].tolist(), strict=True) if weight}
        expected = judge_lists(blend(named, chosen), users.seen, users.wanted).ndcg
        torch.testing.assert_close(found[candidate], expected, rtol=0, atol=1e-12)
    for place, part in enumerate(parts):
        torch.testing.assert_close(ndcg_of_lists(part, users), found[place], rtol=0, atol=1e-12)


def test_the_grid_has_each_part_alone_first_and_every_blend_once():
    weights = grid()
    assert weights[: len(PARTS)].equal(torch.eye(len(PARTS), dtype=torch.float64))
    assert len(set(map(tuple, weights.tolist()))) == len(weights) == 84
    torch.testing.assert_close(weights.sum(1), torch.ones(84, dtype=torch.float64))


def test_only_sums_decide_and_a_part_that_no_blend_beats_makes_the_lists():
    users, parts = judged(1)
    parts[2] = users.wanted.double()
    found = ndcg_of_blends([standardise(part) for part in parts], users, grid())
    half = USERS // 2
    best, means, count = best_of([(0, found[:, :half]), (1, found[:, half:])], OpenSum())
    assert (best, count) == (2, USERS)
    torch.testing.assert_close(means, found.mean(1))


def rows(seed: int, times: bool) -> Ratings:
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(20, dtype=np.int32), 10)
    item = np.concatenate([rng.permutation(ITEMS)[:10] for _ in range(20)]).astype(np.int32)
    return Ratings(user, item, np.ones(200, np.float32), rng.permutation(200) if times else None)


def test_a_blend_makes_the_lists_only_if_its_gain_is_more_than_two_standard_errors():
    rng = np.random.default_rng(2)
    parts, gains = rng.random((len(PARTS), 400)) * [[1.0], [0.5], [0.5], [0.5]], rng.normal(0.0, 0.1, 400)
    for wanted, chosen in ((1.9, 0), (2.1, len(PARTS))):
        # The sum of squares about 0 is the sample's and that of the mean.
        shift = wanted * np.sqrt(np.var(gains) / (400 - wanted**2))
        blends = parts[0] + np.stack([gains - gains.mean() + shift, gains * 0 - 1.0])
        found = torch.from_numpy(np.concatenate([parts, blends]))
        best, means, count = best_blend([(0, found[:, :150]), (1, found[:, 150:])], OpenSum())
        assert (best, count) == (chosen, 400)
        torch.testing.assert_close(means, found.mean(1), rtol=1e-12, atol=0)
        assert int(means.argmax()) == len(PARTS)


@pytest.mark.parametrize("protocol", ["warm", "temporal", "loo"])
def test_validation_rows_are_held_back_as_the_protocol_holds_back_test_rows(protocol):
    ratings = rows(0, times=protocol != "warm")
    nothing = ratings.take(np.empty(0, np.int64))
    nodes = make_nodes(ratings, ratings.user % 3, nothing, np.empty(0, np.int64), 3)
    held = hold_back(nodes, load_settings("hierarchical", {"protocol": protocol}))
    assert held.judged is held.learning
    seen = 0
    for node, whole in zip(held.judged, nodes, strict=True):
        assert len(node.train) + len(node.test) == len(whole.train)
        for user in np.unique(whole.train.user):
            newest = node.test.user == user
            assert newest.sum() == (1 if protocol == "loo" else 2)
            if protocol != "warm":
                assert node.test.time[newest].min() > node.train.time[node.train.user == user].max()
            seen += 1
    assert seen == 20


def test_under_cold_new_users_judge_who_sent_nothing():
    ratings = rows(1, times=False)
    nothing = ratings.take(np.empty(0, np.int64))
    nodes = make_nodes(ratings, ratings.user % 3, nothing, np.empty(0, np.int64), 3)
    held = hold_back(nodes, load_settings("hierarchical", {"protocol": "cold"}))
    learning = np.unique(np.concatenate([node.train.user for node in held.learning]))
    new = np.unique(np.concatenate([node.train.user for node in held.judged]))
    assert 0 < len(new) < 10
    assert sorted([*learning, *new]) == list(range(20))
    assert not any(len(node.test) for node in held.learning)
    assert all((node.test.user[:, None] == node.train.user).any(1).all() for node in held.judged)
    assert sum(len(node.test) for node in held.judged) == 3 * len(new)


def test_users_who_judge_come_with_their_own_rows_alone_and_never_more_than_asked():
    ratings = rows(2, times=False)
    test = np.arange(200) % 10 == 0
    nodes = make_nodes(ratings.take(~test), ratings.user[~test] % 4, ratings.take(test), ratings.user[test] % 4, 4)
    everyone = list(judged_users(nodes, ITEMS, 1000, seed=0))
    assert sorted(itertools.chain.from_iterable(each.users.tolist() for _, each in everyone)) == list(range(20))
    for place, each in everyone:
        for row, user in enumerate(each.users.tolist()):
            node = nodes[place]
            own = node.train.item[node.train.user == user]
            assert set(each.seen[row].nonzero()[:, 0].tolist()) == set(own.tolist())
            assert each.wanted[row].nonzero()[:, 0].tolist() == node.test.item[node.test.user == user].tolist()
    assert sum(len(each.users) for _, each in judged_users(nodes, ITEMS, 8, seed=0)) == 8
    assert len(list(judged_users(nodes, ITEMS, 2, seed=0))) == 2

"""Models of many nodes made together against those of each node, and judged together against each alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hierfed.data.federation import make_nodes
from hierfed.data.ratings import Ratings
from hierfed.engines.in_process import run_rounds
from hierfed.evaluation.judging import judge_nodes
from hierfed.methods.hierarchical.factor_states import PooledStates
from hierfed.methods.hierarchical.together import FactorsTogether

USERS, ITEMS = 40, 30


@pytest.fixture(scope="module", params=[True, False], ids=["took part", "new users"])
def case(request, make_factors, make_content, make_pairs):
    """A method, nodes of one or two users with test rows, a model, and what they keep."""
    ratings = make_pairs(USERS, ITEMS, seed=4)
    node = np.array([user // 2 if user < 10 else user - 5 for user in range(USERS)])[ratings.user]
    node = np.unique(node, return_inverse=True)[1]
    # Each node keeps its first row to learn from.
    held = (np.arange(len(ratings)) % 5 == 0) & ~np.isin(np.arange(len(ratings)), np.unique(node, return_index=True)[1])
    # One node is asked of a user whom it does not know.
    test = ratings.take(held)
    test = Ratings(np.append(test.user, USERS + 3), np.append(test.item, 2), np.append(test.value, np.float32(3)))
    count = int(node.max()) + 1
    nodes = make_nodes(ratings.take(~held), node[~held], test, np.append(node[held], 1), count)
    method = make_factors(make_content(ITEMS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hierfed.engines.in_process.POOLED_FROM", 2)
        trained = run_rounds(method, nodes, 4)
    assert isinstance(trained.private, PooledStates)
    return method, nodes, trained.shared, trained.private if request.param else [None] * count


@pytest.fixture
def few(monkeypatch):
    """Make even few nodes many, in blocks of few ratings."""
    monkeypatch.setattr("hierfed.methods.hierarchical.models_of_nodes.KEPT_NODES", 3)
    monkeypatch.setattr("hierfed.methods.hierarchical.models_of_nodes.PIECE_ROWS", 60)


def models(case, **changes):
    method, nodes, shared, private = case
    return method.personalise(shared, nodes, private, **changes)


@pytest.mark.parametrize("changes", [{}, {"besides": lambda node: node.test}], ids=["own", "with test rows"])
def test_models_made_together_are_those_of_each_node(case, few, changes):
    nodes = case[1]
    together = models(case, **changes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hierfed.methods.hierarchical.models_of_nodes.KEPT_NODES", 1000)
        alone = models(case, **changes)
    assert isinstance(together, FactorsTogether)
    assert len(together.blocks) > 3
    assert max(map(len, together.blocks)) > 1
    for node, found, expected in zip(nodes, together, alone, strict=True):
        assert found.users.tolist() == expected.users.tolist()
        torch.testing.assert_close(found.newcomer, expected.newcomer)
        for one, other in zip(found.distribution(node.test), expected.distribution(node.test), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)
        for (user, kept), (same, wanted) in zip(found.tensors(), expected.tensors(), strict=True):
            assert user == same
            assert kept.keys() == wanted.keys()
            for name in kept:
                torch.testing.assert_close(kept[name], wanted[name], rtol=1e-8, atol=1e-8)


def test_nodes_are_judged_together_as_each_alone(case, few):
    method, nodes, shared, _ = case
    told: list[int] = []
    found = judge_nodes(method, shared, nodes, models(case), lambda done, _: told.append(done))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hierfed.methods.hierarchical.models_of_nodes.KEPT_NODES", 1000)
        expected = judge_nodes(method, shared, nodes, models(case), lambda *_: None)
    assert told[-1] == len(nodes)
    for (record, rows), (same, others) in zip(found, expected, strict=True):
        assert record.node == same.node
        np.testing.assert_allclose([record.rmse_before, record.rmse_after], [same.rmse_before, same.rmse_after])
        for name, values in vars(rows).items():
            np.testing.assert_allclose(values, getattr(others, name), rtol=1e-8, atol=1e-8)


def test_one_node_asked_for_in_the_middle_of_a_block_is_made_alone(case, few):
    together, made = models(case), []
    together._make = made.append
    block = next(block for block in together.blocks if len(block) > 1)
    assert together[block.start + 1].users.tolist() == np.unique(case[1][block.start + 1].train.user).tolist()
    assert not made

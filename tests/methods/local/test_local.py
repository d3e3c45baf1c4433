"""The method that sends nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hierfed.data.federation import Node
from hierfed.data.ratings import rows_to_predict
from hierfed.engines.in_process import run_rounds
from hierfed.federated.contract import ordered_sum
from hierfed.methods.local.local import LocalOnly

LIMITS = (0.5, 5.0)


@pytest.fixture(scope="module")
def method(make_content) -> LocalOnly:
    return LocalOnly(make_content(15), LIMITS)


@pytest.fixture(scope="module")
def nodes(make_pairs, divide_users) -> list[Node]:
    found: list[Node] = divide_users(make_pairs(12, 15), [0] * 5 + [1] * 7)
    return found


def test_nothing_is_sent_kept_or_learned(method: LocalOnly, nodes: list[Node]):
    pairs = list(method.contribute(method.start(), nodes, [None, None]))
    assert [(contribution.nbytes, kept) for contribution, kept in pairs] == [(0, None), (0, None)]
    assert method.train_loss(ordered_sum(contribution for contribution, _ in pairs)) == []
    trained = run_rounds(method, nodes, 2)
    assert trained.shared.arrays == {}
    assert trained.shared.nbytes == 0
    assert method.named(trained.shared) == {}


def test_the_shared_prediction_is_what_public_votes_say(method: LocalOnly, nodes: list[Node]):
    found = method.predict(method.start(), nodes[0].train).numpy()
    votes = method.content.vote_average[nodes[0].train.item]
    np.testing.assert_allclose(found, np.clip(3.3 + 0.6 * (votes - 6.4), 0.5, 5), rtol=1e-12)
    wider = LocalOnly(method.content, (1.0, 10.0)).predict(method.start(), nodes[0].train).numpy()
    np.testing.assert_allclose(wider, np.clip(1 + 2 * (found - 0.5), 1, 10), rtol=1e-12)


def test_a_user_s_predictions_are_the_same_whoever_else_is_there(method: LocalOnly, nodes: list[Node]):
    for node, model in zip(nodes, method.personalise(method.start(), nodes, [None, None]), strict=True):
        users = np.unique(node.train.user)
        user, item = torch.from_numpy(np.repeat(users, 15)).long(), torch.arange(15).repeat(len(users))
        together = model.distribution(rows_to_predict(user, item))
        for number in users.tolist():
            mine = node.train.take(np.flatnonzero(node.train.user == number))
            (alone,) = method.personalise(method.start(), [Node(0, "1", mine, mine)], [None])
            found = alone.distribution(rows_to_predict(torch.full((15,), number), torch.arange(15)))
            for one, other in zip(found, together, strict=True):
                torch.testing.assert_close(one, other[user == number], rtol=0, atol=1e-9)

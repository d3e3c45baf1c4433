"""Expected ratings as scores of whole catalogues, users in any order and users whom no model knows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hierfed.data.federation import Node
from hierfed.data.ratings import rows_to_predict
from hierfed.engines.in_process import run_rounds
from hierfed.methods.hierarchical.lists import expected_ratings
from hierfed.methods.hierarchical.personal import restored


def one_by_one(knowledge, models):
    """Users' models as they are made of the files of the users and of their node."""
    for model in models:
        kept = list(model.tensors())
        of_node = kept.pop(0)[1] if kept[0][0] is None else {}
        yield from (restored(knowledge, of_node | own).numbered(user) for user, own in kept)


@pytest.mark.parametrize("threshold", [1, 6])
@pytest.mark.parametrize("from_files", [False, True])
def test_every_user_is_scored_by_the_own_model_and_strangers_as_newcomers(
    make_content, make_pairs, make_factors, threshold, from_files
):
    """Under a threshold of 6 each node knows some items itself, and no other node's users are scored by them."""
    rows = make_pairs(users=12, items=15, seed=4)
    # Odd users are on the first node, even ones on the second; users 3 and 12 on none.
    rows = rows.take(rows.user != 3)
    nobody = rows.take(np.empty(0, np.int64))
    nodes = [Node(k, str(k + 1), rows.take(rows.user % 2 != k), nobody) for k in range(2)]
    method = make_factors(make_content(15), kernel=None, threshold=threshold, rare_at_node=True)
    trained = run_rounds(method, nodes, 3)
    whole = method.personalise(trained.shared, nodes, trained.private)
    assert all((model.knowledge.at_node is not None) == (threshold > 1) for model in whole)
    models = list(one_by_one(method.knowledge(trained.shared), whole)) if from_files else whole
    asked, items = torch.tensor([5, 12, 0, 3, 11]), torch.arange(15)
    found = expected_ratings(models)(asked)
    scale = models[0].knowledge.scale
    for row, user in zip(found, asked.tolist(), strict=True):
        model = method.restorer(trained.shared)({}) if user in (3, 12) else whole[0] if user % 2 else whole[1]
        mean, _ = model.distribution(rows_to_predict(torch.full_like(items, user), items))
        torch.testing.assert_close(scale.centre + scale.unit * row, mean, rtol=0, atol=1e-9)

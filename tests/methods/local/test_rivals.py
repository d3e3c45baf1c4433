"""Each user alone, as a rival: all users at once against pieces of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hierfed.data.federation import Node
from hierfed.data.ratings import rows_to_predict
from hierfed.federated.method import RivalRows
from hierfed.methods.local.local import LocalOnly
from hierfed.methods.local.rivals import each_user_alone, local_rmse


@pytest.mark.parametrize("piece", [1, 30, 75])
def test_users_alone_are_judged_alike_in_pieces_and_at_once(piece, make_content, make_ratings, monkeypatch):
    local, train, test = LocalOnly(make_content(23), (0.5, 5.0)), make_ratings(150), make_ratings(60, seed=4)
    train = train.take(train.user != 3)
    (model,) = local.personalise(local.start(), [Node(0, "everyone", train, test)], [None])
    user, item = (torch.from_numpy(column).long() for column in (test.user, test.item))
    expected = np.sqrt(np.mean(np.square(model.predict(rows_to_predict(user, item)).numpy() - test.value)))
    sizes = list[int]()

    def noted(local: LocalOnly, shared, nodes, private):
        sizes.append(len(nodes[0].train))
        return personalise(local, shared, nodes, private)

    personalise = LocalOnly.personalise
    monkeypatch.setattr(LocalOnly, "personalise", noted)
    monkeypatch.setattr("hierfed.methods.local.rivals._PIECE", piece)
    assert local_rmse(local, train, test) == pytest.approx(expected, rel=1e-12)
    assert sum(sizes) == len(train)
    assert max(sizes) < piece + np.bincount(train.user).max()


def test_users_alone_are_learned_from_once_where_the_personalisation_users_are_the_same(make_content, make_ratings):
    content, train, test = make_content(23), make_ratings(150), make_ratings(60, seed=4)
    own, held_out = make_ratings(90, seed=5), make_ratings(40, seed=6)
    local = LocalOnly(content, (0.5, 5.0))
    others = each_user_alone(content, (0.5, 5.0), 1, RivalRows([], [], train, test, own, held_out, False, 3))
    assert others.local_only == local_rmse(local, train, test)
    assert others.personal_local_only == local_rmse(local, own, held_out)
    assert others.local_only != others.personal_local_only
    same = each_user_alone(content, (0.5, 5.0), 1, RivalRows([], [], train, test, train, test, True, 3))
    assert same.personal_local_only == same.local_only == others.local_only
    assert np.isnan([same.centralised, same.personal_centralised]).all(), "nothing is trained in one place"

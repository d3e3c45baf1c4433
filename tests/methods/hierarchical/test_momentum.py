"""Momentum: means move on by their last change, from the second round, and nothing else does."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hierfed.engines.in_process import run_rounds
from hierfed.federated.contract import ordered_sum
from hierfed.methods.hierarchical.momentum import MOVED
from hierfed.methods.hierarchical.shared_model import RATERS
from hierfed.settings import load_settings

ITEMS, ETA = 15, 0.5


@pytest.fixture(scope="module")
def nodes(make_pairs, divide_users):
    return divide_users(make_pairs(20, ITEMS, seed=1), [user % 3 for user in range(20)])


@pytest.fixture(scope="module")
def plain(make_content, make_factors):
    return make_factors(make_content(ITEMS))


def test_means_move_on_by_their_last_change_and_nothing_else_does(plain, nodes):
    method = replace(plain, momentum=ETA)
    shared, private, before = method.start(), [None] * len(nodes), None
    while shared.round < 4:
        sent, private = zip(*method.contribute(shared, nodes, private), strict=True)
        total = ordered_sum(sent)
        found, shared = plain.combine(shared, total), method.combine(shared, total)
        for name, now in found.arrays.items():
            last = now if before is None or name not in MOVED else before.arrays[name]
            assert torch.equal(shared.arrays[name], now + ETA * (now - last)), name
        before = found if shared.round > 0 else None
    assert not torch.equal(shared.arrays["item_mean"], found.arrays["item_mean"])


def test_without_momentum_only_the_numbers_of_raters_are_kept(plain, nodes):
    assert run_rounds(plain, nodes, 2).shared.server.keys() == {RATERS}


def test_nothing_moves_on_where_only_some_nodes_take_part(plain, nodes):
    some = replace(plain, everyone=False)
    found = run_rounds(replace(some, momentum=ETA), nodes, 3).shared
    assert found.digest() == run_rounds(some, nodes, 3).shared.digest()


def test_momentum_gets_nearer_to_where_many_plain_rounds_end(plain, nodes):
    end = run_rounds(plain, nodes, 120).shared.arrays["item_mean"]
    off = [
        (run_rounds(replace(plain, momentum=eta), nodes, 12).shared.arrays["item_mean"] - end).norm()
        for eta in (0.0, 0.8)
    ]
    assert off[1] < 0.7 * off[0]


def test_the_preset_has_it():
    settings = load_settings("hierarchical")
    assert settings.factors.momentum > 0
    assert settings.training.rounds <= 20

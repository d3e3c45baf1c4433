"""The hierarchical model's rounds on a device: the sums of the CPU, all that is kept in main memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hierfed.data.federation import Nodes, make_nodes
from hierfed.data.ratings import rows_to_predict
from hierfed.engines.in_process import run_rounds
from hierfed.engines.rounds import Round
from hierfed.federated.participation import Participation
from tests.elsewhere import FarTensor, elsewhere

USERS, ITEMS, NODES, ROUNDS = 30, 15, 10, 6


@pytest.fixture
def nodes(make_pairs) -> Nodes:
    rows = make_pairs(USERS, ITEMS, seed=2)
    return make_nodes(rows, rows.user % NODES, rows.between(0, 0), rows.user[:0], NODES)


@pytest.fixture
def method(make_factors, make_content, monkeypatch):
    monkeypatch.setattr("hierfed.methods.hierarchical.cohort.PIECE_ROWS", 40)
    return make_factors(make_content(ITEMS), threshold=8)


@pytest.mark.parametrize("pooled_from", [2, NODES + 1], ids=["pooled", "node by node"])
@pytest.mark.parametrize("amount", [1.0, 4])
def test_rounds_elsewhere_have_the_bits_of_rounds_here(method, nodes, monkeypatch, pooled_from, amount):
    monkeypatch.setattr("hierfed.engines.in_process.POOLED_FROM", pooled_from)
    chosen, participation = replace(method, everyone=amount == 1), Participation(amount, 7)
    here = run_rounds(chosen, nodes, ROUNDS, how=Round(participation=participation))
    with elsewhere() as device:
        far = replace(chosen, device=device)
        there = run_rounds(far, nodes, ROUNDS, how=Round(participation=participation))
        models = far.personalise(there.shared, nodes, there.private)
    assert there.shared.digest() == here.shared.digest()
    assert not any(isinstance(array, FarTensor) for array in there.shared.arrays.values())
    for state in there.private:
        if state is not None and state.memory is not None:
            assert not any(isinstance(values, FarTensor) for values in vars(state.memory).values())
    users, items = torch.arange(USERS).repeat_interleave(ITEMS), torch.arange(ITEMS).repeat(USERS)
    for one, other in zip(models, chosen.personalise(here.shared, nodes, here.private), strict=True):
        torch.testing.assert_close(
            one.distribution(rows_to_predict(users, items)),
            other.distribution(rows_to_predict(users, items)),
            rtol=0,
            atol=0,
        )


def test_the_users_lie_there(method, nodes):
    with elsewhere() as device:
        trained = run_rounds(replace(method, device=device), nodes, 1)
    rows = trained.private[0].arranged[0].rows
    assert all(isinstance(each, FarTensor) for each in (rows.rated, rows.counts, rows.blocks[0].items))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("pooled_from", [2, NODES + 1])
def test_a_gpu_gives_the_numbers_of_the_cpu_to_rounding(method, nodes, monkeypatch, pooled_from):
    monkeypatch.setattr("hierfed.engines.in_process.POOLED_FROM", pooled_from)
    here = run_rounds(method, nodes, ROUNDS).shared.arrays
    there = run_rounds(replace(method, device=torch.device("cuda")), nodes, ROUNDS).shared.arrays
    for name, array in here.items():
        np.testing.assert_allclose(there[name], array, rtol=0, atol=1e-9, err_msg=name)

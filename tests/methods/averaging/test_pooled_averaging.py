"""Many small nodes added up at once: the bits of one by one, whatever the threads and chunks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hierfed.data.federation import Nodes, make_nodes
from hierfed.data.ratings import Ratings
from hierfed.engines.in_process import run_rounds
from hierfed.engines.rounds import Round
from hierfed.federated.contract import PooledMethod, SharedModel, ordered_sum
from hierfed.federated.participation import Participation
from hierfed.methods.averaging.averaging import FederatedAveraging
from hierfed.methods.averaging.network import Network
from hierfed.methods.averaging.node_level import NodePersonalisation
from hierfed.methods.averaging.pooled_averaging import PooledAveraging, pooled
from hierfed.methods.averaging.private_averaging import ExamplePrivateAveraging, NodePrivateAveraging
from hierfed.methods.averaging.stacked import train_stacked
from hierfed.methods.averaging.threads import ThreadedTrainer
from hierfed.methods.averaging.training import LocalTraining
from hierfed.methods.averaging.user_level import UserPersonalisation

ITEMS, FEATURES = 50, 5
TRAINING = LocalTraining(2, 4, 0.01)


def federation(sizes: list[int], seed: int = 0) -> Nodes:
    rng = np.random.default_rng(seed)
    node = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    value = (rng.integers(1, 11, len(node)) / 2).astype(np.float32)
    rows = Ratings(node, rng.integers(0, ITEMS, len(node), dtype=np.int32), value)
    return make_nodes(rows, node, rows.between(0, 0), node[:0], len(sizes))


def make_method(threads: int = 1, chunk_rows: int = 10**6, dropout: float = 0.3) -> PooledAveraging:
    plain = FederatedAveraging(
        predictor=Network(FEATURES, (8, 4), dropout),
        trainer=ThreadedTrainer(train_stacked, threads),
        features=torch.randn(ITEMS, FEATURES, generator=torch.Generator().manual_seed(0)),
        training=TRAINING,
        node_level=NodePersonalisation("none", TRAINING),
        user_level=UserPersonalisation("none", 0.0, 1.0),
        start_at_mean=True,
        seed=3,
    )
    return pooled(plain, train_stacked, threads, chunk_rows)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=90),
    st.integers(1, 3),
    st.integers(1, 300),
    st.sampled_from([0.0, 0.3]),
)
def test_a_round_s_sum_has_the_bits_of_one_by_one(sizes, threads, chunk_rows, dropout):
    nodes, method = federation(sizes), make_method(threads, chunk_rows, dropout)
    for shared in (method.start(), SharedModel(method.start().arrays, 0), SharedModel(method.start().arrays, 4)):
        one_by_one = ordered_sum(sent for sent, _ in method.contribute(shared, nodes, [None] * len(nodes)))
        told: list[float] = []
        total, kept = method.contribute_pooled(shared, nodes, [None] * len(nodes), told.append)
        assert total.arrays.keys() == one_by_one.arrays.keys()
        for name, array in one_by_one.arrays.items():
            assert torch.equal(total.arrays[name], array), name
        assert list(kept) == [None] * len(nodes)
        assert told == sorted(told)
        assert not told or told[-1] == 1


@pytest.fixture
def pooled_from(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    return lambda count: monkeypatch.setattr("hierfed.engines.in_process.POOLED_FROM", count)


@pytest.mark.parametrize("amount", [1.0, 0.3, 7])
def test_a_training_has_the_same_digest(pooled_from, amount):
    nodes = federation(np.random.default_rng(1).integers(1, 60, 80).tolist())
    found = set()
    for threads, chunk_rows, count in ((1, 10**6, 10**6), (1, 50, 2), (2, 50, 2), (2, 700, 2), (3, 10**6, 2)):
        pooled_from(count)
        method = make_method(threads, chunk_rows)
        found.add(run_rounds(method, nodes, 3, how=Round(participation=Participation(amount, 3))).shared.digest())
    assert len(found) == 1


def test_some_of_the_nodes_are_not_all_of_them(pooled_from):
    pooled_from(2)
    nodes = federation([5] * 40)
    some, all_of_them = (
        run_rounds(make_method(), nodes, 1, how=Round(participation=Participation(each))) for each in (0.5, 1)
    )
    assert some.shared.digest() != all_of_them.shared.digest()


@pytest.mark.parametrize("kind", [ExamplePrivateAveraging, NodePrivateAveraging, FederatedAveraging])
def test_what_protects_single_nodes_is_not_pooled(kind):
    """A sum without each node's noise would be a release without it."""
    assert not issubclass(kind, PooledAveraging)
    assert not hasattr(kind, "contribute_pooled")
    assert isinstance(make_method(), PooledMethod)

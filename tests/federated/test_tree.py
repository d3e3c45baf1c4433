"""Sums of edges' sums: the pooled sum, its bytes, and the star's own bits where sums are exact."""

from __future__ import annotations

import pytest
import torch

from hierfed.federated.contract import Contribution, ordered_sum
from hierfed.federated.exact_sum import EXACT_SUM
from hierfed.federated.rules import OPEN_SUM
from hierfed.federated.tree import TreeSum, edges_of
from hierfed.privacy.secure_sum.simulation import SecureSum


def given(nodes: int) -> list[tuple[int, Contribution]]:
    random = torch.Generator().manual_seed(nodes)
    arrays = (torch.randn(5, generator=random, dtype=torch.float64) for _ in range(nodes))
    return [(number, Contribution({"a": array})) for number, array in enumerate(arrays)]


@pytest.mark.parametrize(
    ("nodes", "fan_out", "sizes"),
    [(6, 3, [3, 3]), (7, 3, [2, 2, 3]), (2, 5, [2]), (640, 20, [20] * 32), (5, 2, [1, 2, 2])],
)
def test_nodes_are_shared_out_evenly(nodes, fan_out, sizes):
    edges = edges_of(nodes, fan_out)
    assert [len(edge) for edge in edges] == sizes
    assert [place for edge in edges for place in edge] == list(range(nodes))


@pytest.mark.parametrize(("nodes", "fan_out"), [(1, 2), (6, 3), (50, 7)])
def test_the_sum_is_the_stars_exact_one_and_bytes_are_of_both_levels(nodes, fan_out):
    contributions = given(nodes)
    found = TreeSum(fan_out)(contributions)
    assert torch.equal(found.total.arrays["a"], EXACT_SUM(contributions).total.arrays["a"])
    wanted = ordered_sum(each for _, each in contributions)
    torch.testing.assert_close(found.total.arrays["a"], wanted.arrays["a"], rtol=1e-13, atol=1e-13)
    assert found.bytes_up == nodes * 5 * 8 + -(-nodes // fan_out) * 5 * 18


def test_an_order_by_hand():
    """Added in order, 1e16 swallows each 1; exact sums lose none."""
    values = (1e16, 0.0, 1.0, 1.0)
    contributions = [
        (place, Contribution({"a": torch.tensor([each], dtype=torch.float64)})) for place, each in enumerate(values)
    ]
    assert OPEN_SUM(contributions).total.arrays["a"].item() == 1e16
    assert EXACT_SUM(contributions).total.arrays["a"].item() == 1e16 + 2
    assert TreeSum(2)(contributions).total.arrays["a"].item() == 1e16 + 2


def test_words_add_to_the_same_bits():
    random = torch.Generator().manual_seed(1)
    words = torch.randint(-(2**15), 2**15, (9, 40), generator=random, dtype=torch.int16)
    contributions = [(number, Contribution({"a": row})) for number, row in enumerate(words)]
    found = TreeSum(4)(contributions)
    assert torch.equal(found.total.arrays["a"], OPEN_SUM(contributions).total.arrays["a"])
    assert found.bytes_up == (9 + 3) * 40 * 2


def test_edges_can_add_securely():
    contributions = given(6)
    found = TreeSum(3, SecureSum())(contributions).total.arrays["a"]
    wanted = OPEN_SUM(contributions).total.arrays["a"]
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


def test_a_tree_without_nodes_is_an_error():
    with pytest.raises(ValueError, match="no node"):
        TreeSum(3)([])

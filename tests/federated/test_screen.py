"""The screen: what it leaves out, of any method's sums."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hierfed.errors import HierfedError
from hierfed.federated.contract import Contribution, SharedModel
from hierfed.federated.rules import rule_of_round
from hierfed.federated.screen import Screen, alike_in_direction, within

SHARED = SharedModel({})


def contributions(nodes: int = 8) -> list[Contribution]:
    """Nodes that send about the same vector, each with some noise."""
    rng = np.random.default_rng(2)
    return [Contribution({"sums": torch.from_numpy(1 + 0.3 * rng.normal(size=40))}) for _ in range(nodes)]


def test_honest_nodes_are_added():
    given = contributions()
    total = Screen()(enumerate(given)).total
    torch.testing.assert_close(total.arrays["sums"], sum(each.arrays["sums"] for each in given))


@pytest.mark.parametrize("factor", [10.0, -1.0])
def test_a_node_of_another_size_or_direction_is_left_out_whole(factor):
    given = contributions()
    lied = [given[0], given[1] * factor, *given[2:]]
    assert alike_in_direction(lied) == [True, False] + [True] * 6
    total = Screen()(enumerate(lied)).total
    torch.testing.assert_close(total.arrays["sums"], sum(each.arrays["sums"] for each in [given[0], *given[2:]]))


def test_means_are_compared_where_a_weight_is_declared():
    """Ten times its change is no more than a large node's sum, but much more than any node's mean."""
    rng, rows = np.random.default_rng(3), [10.0, 20.0, 50.0, 100.0, 300.0, 900.0, 2000.0, 5000.0]
    given = []
    for place, count in enumerate(rows):
        change = (10 if place == 1 else 1) * count * (1 + 0.3 * rng.normal(size=40))
        arrays = {"change": torch.from_numpy(change), "rows": torch.tensor([count]).double()}
        given.append(Contribution(arrays))
    assert all(alike_in_direction(given))
    assert alike_in_direction(given, {"change": "rows"}) == [True, False] + [True] * 6


def test_the_method_is_asked_where_it_knows_more():
    class Knows:
        def screened(self, shared, given):
            assert shared is SHARED
            return given[:2]

    given = contributions()
    rule = rule_of_round(Screen(), Knows(), SHARED)
    torch.testing.assert_close(rule(enumerate(given)).total.arrays["sums"], (given[0] + given[1]).arrays["sums"])


def test_far_is_six_robust_deviations_or_the_floor():
    values = torch.tensor([-1.0, 0.0, 1.0, 8.0, 10.0, -10.0]).double()
    # The median is 0, the median distance from it 1.
    assert within(values, 0.5).tolist() == [True, True, True, True, False, False]
    assert within(values, 20.0).all()
    assert within(values, 0.5, above=False).tolist() == [True, True, True, True, True, False]


def test_two_nodes_are_refused():
    with pytest.raises(HierfedError, match=r"federation.rule 'screen': needs 3 nodes or more, and there are 2"):
        Screen()(enumerate(contributions(2)))

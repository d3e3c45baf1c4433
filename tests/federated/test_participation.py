"""Who takes part in a round: drawn without replacement, from the run's own generator."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from hierfed.federated.participation import EVERYONE, Participation


@given(st.floats(0.001, 1), st.integers(1, 500), st.integers(1, 50), st.integers(0, 2**32))
def test_a_share_of_the_nodes_ascending_and_each_once(share, nodes, number, seed):
    found = Participation(share, seed).places(number, nodes)
    assert len(found) == max(round(share * nodes), 1)
    assert (np.diff(found) > 0).all()
    assert 0 <= found[0] <= found[-1] < nodes
    assert found.tolist() == Participation(share, seed).places(number, nodes).tolist()


@pytest.mark.parametrize(("amount", "expected"), [(2, 2), (7.0, 7), (40, 40), (41, 40), (1, 40)])
def test_above_one_it_is_a_number(amount, expected):
    assert len(Participation(amount).places(3, 40)) == expected


@pytest.mark.parametrize("number", [0, -3])
def test_everyone_takes_part_in_opening_rounds(number):
    assert Participation(0.1).places(number, 30).tolist() == list(range(30))
    assert EVERYONE.places(1, 30).tolist() == list(range(30))


def test_every_node_is_as_likely_and_rounds_and_seeds_differ():
    drawn = [Participation(0.25, 5).places(number, 40) for number in range(1, 2001)]
    counts = np.bincount(np.concatenate(drawn), minlength=40)
    assert counts.sum() == 20_000
    assert chisquare(counts).pvalue > 1e-4
    assert len({tuple(each.tolist()) for each in drawn}) == 2000
    assert drawn[0].tolist() != Participation(0.25, 6).places(1, 40).tolist()

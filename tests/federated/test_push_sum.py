"""Push-sum: every peer has the pooled sum, and (sum, weight) keep their totals whatever is lost, doubled or late."""

from __future__ import annotations

from fractions import Fraction

import networkx
import pytest
import torch

from hierfed.errors import HierfedError
from hierfed.federated.contract import Contribution
from hierfed.federated.graphs import DEGREE, complete, exponential, random_regular, ring
from hierfed.federated.push_sum import Link, Masses, PushSum
from hierfed.federated.tables import GRAPHS

EVERY_GRAPH = pytest.mark.parametrize("name", sorted(GRAPHS))


def given(peers: int, seed: int = 0) -> list[Contribution]:
    """Two arrays of numbers of very unlike sizes."""
    random = torch.Generator().manual_seed(seed)
    return [
        Contribution(
            {
                "a": torch.randn(2, 3, generator=random, dtype=torch.float64) * 1e6,
                "b": torch.rand(4, generator=random, dtype=torch.float64),
            }
        )
        for _ in range(peers)
    ]


def exact(contributions: list[Contribution], name: str) -> torch.Tensor:
    """The sum in rational arithmetic, rounded once."""
    arrays = [each.arrays[name] for each in contributions]
    sums = [sum(map(Fraction, values)) for values in zip(*(array.flatten().tolist() for array in arrays), strict=True)]
    return torch.tensor([float(each) for each in sums], dtype=torch.float64).reshape(arrays[0].shape)


@EVERY_GRAPH
@pytest.mark.parametrize("peers", [1, 2, 5, 8, 12])
def test_every_peer_has_the_pooled_sum(name, peers):
    contributions = given(peers)
    agreed = PushSum(GRAPHS[name], seed=2).agree(contributions)
    assert len(agreed.totals) == peers
    for total in agreed.totals:
        for array in ("a", "b"):
            wanted = exact(contributions, array)
            assert ((total.arrays[array] - wanted).abs() <= 1e-11 * wanted.abs().max()).all()


@pytest.mark.parametrize("turns", [1, 2, 3, 6])
def test_powers_of_two_take_their_logarithm_on_the_exponential_graph(turns):
    contributions = given(2**turns)
    agreed = PushSum(exponential).agree(contributions)
    assert agreed.exchanges == turns
    # Each peer sends a contribution of 10 numbers and its weight once in an exchange.
    assert agreed.bytes == 2**turns * turns * 11 * 8
    # Whole numbers are halved without rounding, so that the sum is exact.
    whole = [Contribution({"count": torch.full((1,), float(peer), dtype=torch.float64)}) for peer in range(2**turns)]
    pooled = 2 ** (turns - 1) * (2**turns - 1)
    assert [each.arrays["count"].item() for each in PushSum(exponential).agree(whole).totals] == [pooled] * 2**turns


def test_a_complete_graph_takes_one_exchange():
    assert PushSum(complete).agree(given(6)).exchanges == 1


def test_an_exchange_by_hand():
    """Three peers on the exponential graph: each keeps half and sends half to the next one."""
    masses = Masses(torch.tensor([[1.0, 1], [2, 1], [6, 1]], dtype=torch.float64))
    masses.exchange(0, exponential(3, 0)(0))
    assert masses.held.tolist() == [[0.5 + 3, 1], [1 + 0.5, 1], [3 + 1, 1]]
    masses.exchange(1, exponential(3, 0)(1))
    assert masses.held[:, 0].tolist() == [1.75 + 0.75, 0.75 + 2, 2 + 1.75]


@EVERY_GRAPH
@pytest.mark.parametrize("lost", [0.0, 0.2, 0.7])
def test_totals_are_kept_whatever_is_lost(name, lost):
    contributions = given(8)
    start = torch.stack([torch.cat([each.arrays["b"], torch.ones(1).double()]) for each in contributions])
    masses = Masses(start, lost, seed=4)
    neighbours = GRAPHS[name](8, 4)
    for exchange in range(60):
        masses.exchange(exchange, neighbours(exchange))
        torch.testing.assert_close(masses.total(), start.sum(0), rtol=1e-12, atol=1e-12)
    assert (masses.held[:, -1] > 0).all()
    # Something was under way at some time, or nothing was ever lost.
    assert bool(masses.links) == (lost > 0)


@EVERY_GRAPH
def test_lost_messages_cost_exchanges_and_no_accuracy(name):
    contributions = given(8, seed=1)
    whole, lossy = PushSum(GRAPHS[name], seed=3), PushSum(GRAPHS[name], lost=0.2, seed=3)
    found = lossy.agree(contributions)
    assert found.exchanges > whole.agree(contributions).exchanges
    wanted = exact(contributions, "a")
    for total in found.totals:
        assert ((total.arrays["a"] - wanted).abs() <= 1e-11 * wanted.abs().max()).all()


def test_other_messages_are_lost_in_each_sum():
    found = [PushSum(exponential, exchanges=3, lost=0.3, seed=1).agree(given(8), number) for number in (0, 0, 1)]
    same, again, other = (each.totals[0].arrays["a"].tolist() for each in found)
    assert same == again != other


def test_a_link_counts_what_is_lost_doubled_and_late():
    nothing = torch.zeros(1, dtype=torch.float64)
    link = Link(nothing, nothing)
    first, second, third = (link.make(torch.tensor([mass]).double()) for mass in (1.0, 2.0, 4.0))
    assert link.take(second).item() == 3  # The first was lost, and is made up for.
    assert link.under_way.item() == 4
    assert link.take(second).item() == 0  # It comes twice.
    assert link.take(first).item() == 0  # It comes late.
    assert link.take(third).item() == 4
    assert link.under_way.item() == 0


def test_a_fixed_number_of_exchanges_is_kept():
    assert PushSum(ring, exchanges=5).agree(given(8)).exchanges == 5


def test_peers_without_a_common_total_are_an_error(monkeypatch):
    monkeypatch.setattr("hierfed.federated.push_sum.MOST_EXCHANGES", 10)
    with pytest.raises(HierfedError, match="no common total after 10 exchanges"):
        PushSum(ring).agree(given(8))


def test_a_sum_of_nobody_or_of_unlike_arrays_is_an_error():
    with pytest.raises(ValueError, match="no node"):
        PushSum(ring).agree([])
    with pytest.raises(ValueError, match="different arrays"):
        PushSum(ring).agree([*given(2), Contribution({"a": torch.zeros(1).double()})])


@pytest.mark.parametrize("peers", [6, 9, 20])
def test_a_random_regular_graph_is_regular_connected_and_of_its_seed(peers):
    drawn = random_regular(peers, 3)(0)
    graph = networkx.Graph([(peer, other) for peer, others in enumerate(drawn) for other in others])
    assert set(dict(graph.degree).values()) == {DEGREE}
    assert networkx.is_connected(graph)
    assert drawn == random_regular(peers, 3)(5)


def test_rings_have_two_neighbours():
    assert ring(5, 0)(0) == [[1, 4], [0, 2], [1, 3], [2, 4], [0, 3]]

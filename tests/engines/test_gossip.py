"""Rounds without a server: every peer's model is the server's."""

from __future__ import annotations

import pytest
import torch

from hierfed.data.federation import Node
from hierfed.engines.gossip import run_gossip, with_whole_counts
from hierfed.engines.in_process import FinishedRound, run_rounds
from hierfed.engines.rounds import Round
from hierfed.federated.contract import Contribution
from hierfed.federated.push_sum import PushSum
from hierfed.federated.tables import GRAPHS
from hierfed.methods.item_biases.item_biases import ItemBiases
from hierfed.observer import Observer

PEERS, USERS, ITEMS = 4, 12, 15


def gossip(name: str = "exponential", **changes) -> Round:
    return Round(PushSum(GRAPHS[name], **changes), topology="gossip")


@pytest.fixture(scope="module")
def nodes(make_pairs, divide_users) -> list[Node]:
    return divide_users(make_pairs(USERS, ITEMS, seed=1), [user % PEERS for user in range(USERS)])


@pytest.mark.parametrize(
    "how", [*(gossip(name) for name in sorted(GRAPHS)), gossip(lost=0.2, seed=5)], ids=[*sorted(GRAPHS), "lost"]
)
def test_every_peers_model_is_the_servers(how, nodes, make_content, make_factors):
    method = make_factors(make_content(ITEMS), momentum=0.85)
    wanted = run_rounds(method, nodes, 5).shared
    found = run_gossip(method, nodes, 5, how=how)
    assert len(found.copies) == PEERS
    for copy in found.copies:
        assert copy.round == 5
        assert copy.arrays.keys() == wanted.arrays.keys()
        for name, array in copy.arrays.items():
            torch.testing.assert_close(array, wanted.arrays[name], rtol=0, atol=1e-9)


def test_three_peers_agree_on_which_items_are_summed(make_pairs, divide_users):
    """Thirds are not exact, and an item is summed from five raters on: a count of 4.999 would leave it out."""
    ratings = make_pairs(USERS, ITEMS, seed=1)
    nodes, method = divide_users(ratings, [user % 3 for user in range(USERS)]), ItemBiases(ITEMS, 5, (0.5, 5.0))
    wanted = run_rounds(method, nodes, 1).shared
    assert 0 < wanted.arrays["summed"].sum() < ITEMS
    for name in GRAPHS:
        for copy in run_gossip(method, nodes, 1, how=gossip(name)).copies:
            assert torch.equal(copy.arrays["summed"], wanted.arrays["summed"])
            assert torch.equal(copy.server["raters"], wanted.server["raters"])


def test_counts_become_whole_and_nothing_else_does():
    arrays = {"counts": [2.0000000001, 4.9999999999], "sums": [1.0000000001, 0.5]}
    total = Contribution({name: torch.tensor(values, dtype=torch.float64) for name, values in arrays.items()})
    found = with_whole_counts(total).arrays
    assert found["counts"].tolist() == [2, 5]
    assert found["sums"].tolist() == [1.0000000001, 0.5]


def test_bytes_are_those_that_peers_send(nodes):
    told: list[FinishedRound] = []
    run_gossip(ItemBiases(ITEMS, 2, (0.5, 5.0)), nodes, 1, told.append, gossip())
    # Two exchanges a round; the opening one is of 15 counts and two numbers, round 1 of 15 deviations; and a weight.
    assert [each.bytes_up for each in told] == [PEERS * 2 * 8 * ((ITEMS + 2 + 1) + (ITEMS + 1))]
    assert [each.bytes_down for each in told] == [0]
    assert told[0].rows == sum(len(node.train) for node in nodes)


def test_a_training_can_be_ended_after_a_round(nodes):
    class Ends(Observer):
        def should_continue(self) -> bool:
            return False

    found = run_gossip(ItemBiases(ITEMS, 2, (0.5, 5.0)), nodes, 4, how=gossip(), observer=Ends())
    assert found.shared.round == 1


def test_peers_that_lose_messages_of_fixed_exchanges_still_share_counts(nodes, make_content, make_factors):
    method = make_factors(make_content(ITEMS))
    found = run_gossip(method, nodes, 2, how=gossip(exchanges=2, lost=0.3, seed=1)).copies
    raters = run_rounds(method, nodes, 0).shared.arrays["raters"]
    assert all(torch.equal(copy.arrays["raters"], raters) for copy in found)
    assert not torch.equal(found[0].arrays["item_mean"], found[1].arrays["item_mean"])

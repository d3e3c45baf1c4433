"""A server that looks, and changes nothing."""

from __future__ import annotations

import pytest
import torch

from hierfed.engines.in_process import run_rounds
from hierfed.evaluation.attacks.curious_server import CuriousServer
from hierfed.federated.contract import ordered_sum


@pytest.fixture(scope="module")
def federation(make_content, make_pairs, make_factors, divide_users):
    ratings = make_pairs(12, 30, most=9)
    return make_factors(make_content(30)), divide_users(ratings, [user % 3 for user in range(12)])


def test_looking_changes_no_bit(federation):
    method, nodes = federation
    server = CuriousServer(method, {1, 2})
    assert run_rounds(server, nodes, 3).shared.digest() == run_rounds(method, nodes, 3).shared.digest()


def test_each_nodes_contribution_is_seen_and_their_sum(federation):
    method, nodes = federation
    first = method.start().round + 1
    server = CuriousServer(method, {first, 2})
    run_rounds(server, nodes, 3)
    assert sorted(server.seen) == [first, 2]
    for number, seen in server.seen.items():
        assert seen.shared.round == number - 1
        assert len(seen.contributions) == 3
        for name, array in ordered_sum(seen.contributions).arrays.items():
            torch.testing.assert_close(seen.sum_of_all().arrays[name], array, rtol=0, atol=0)
    counts = server.seen[first].contributions[1].arrays["raters"]
    assert counts.sum() == len(nodes[1].train)


def test_a_round_that_has_not_ended_has_no_total(federation):
    method, nodes = federation
    server = CuriousServer(method, {method.start().round + 1})
    for _ in server.contribute(method.start(), nodes, [None] * len(nodes)):
        pass
    (seen,) = server.seen.values()
    assert len(seen.contributions) == 3
    with pytest.raises(ValueError, match="has not ended"):
        seen.sum_of_all()

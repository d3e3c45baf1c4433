"""A training that goes on: over the same rows to the bit, with another scale to the same expectations."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hierfed.engines.in_process import run_rounds
from hierfed.errors import HierfedError
from hierfed.federated.method import Trained
from hierfed.methods.hierarchical.beliefs import Beliefs
from hierfed.methods.hierarchical.resuming import resumed_beliefs

ITEMS = 15


@pytest.fixture(scope="module")
def nodes(make_pairs, divide_users):
    return divide_users(make_pairs(20, ITEMS, seed=1), [user % 3 for user in range(20)])


@pytest.fixture(scope="module")
def method(make_content, make_factors):
    return make_factors(make_content(ITEMS))


def test_over_the_same_rows_it_is_the_longer_training_to_the_bit(method, nodes):
    first = run_rounds(method, nodes, 3)
    opened = run_rounds(method, nodes, 0)
    begin = Trained(method.resumed(opened.shared, first.shared), first.private)
    assert run_rounds(method, nodes, 5, begin=begin).shared.digest() == run_rounds(method, nodes, 5).shared.digest()


def reopened(method, nodes, before):
    return run_rounds(method, nodes, 0, begin=Trained(method.reopened(before), [None] * len(nodes)))


def test_a_short_opening_over_the_same_rows_leads_to_the_longer_training_to_the_bit(method, nodes):
    first = run_rounds(method, nodes, 3)
    opened = reopened(method, nodes, first.shared)
    begin = Trained(method.resumed(opened.shared, first.shared), first.private)
    assert run_rounds(method, nodes, 5, begin=begin).shared.digest() == run_rounds(method, nodes, 5).shared.digest()


def test_a_short_opening_counts_anew_and_keeps_the_embedding_of_items_that_are_summed(
    make_content, make_factors, make_pairs, divide_users, nodes
):
    grown = make_factors(make_content(ITEMS + 3), threshold=6)
    shared = run_rounds(make_factors(make_content(ITEMS), threshold=6), nodes, 3).shared
    pairs = make_pairs(20, ITEMS + 3, seed=2)
    pairs = replace(pairs, item=ITEMS + 2 - pairs.item)  # New items have most raters.
    more = divide_users(pairs, [user % 3 for user in range(20)])
    found, anew = reopened(grown, more, shared).shared, run_rounds(grown, more, 0).shared
    assert found.round == 0
    assert "former_embedding" not in found.server
    for name in ("raters", "users", "scale"):
        torch.testing.assert_close(found.arrays[name], anew.arrays[name], rtol=0, atol=0)
    summed = found.arrays["raters"] > 0
    kept = summed[:ITEMS] * (shared.arrays["raters"] > 0)
    torch.testing.assert_close(
        found.arrays["embedding"][:ITEMS][kept], shared.arrays["embedding"][kept], rtol=0, atol=0
    )
    assert not found.arrays["embedding"][~summed].any()
    assert found.arrays["embedding"][ITEMS:][summed[ITEMS:]].any(1).all()
    left = summed[:ITEMS] < (shared.arrays["raters"] > 0)
    assert left.any() and summed[ITEMS:].any(), "an item falls under the threshold, and a new one comes over it"
    assert run_rounds(grown, more, 5, begin=Trained(grown.resumed(found, shared), [None] * 3)).shared.finite


def test_another_scale_gives_the_same_expectations(method, nodes):
    shared = run_rounds(method, nodes, 3).shared
    opened = run_rounds(method, nodes, 0).shared.arrays
    other = {**opened, "scale": opened["scale"] * torch.tensor([1.1, 0.8])}
    design = method.design(shared)
    features = design.prior_features(shared.arrays["embedding"])
    found = resumed_beliefs(other, shared.arrays, design, features, method.strengths)
    last, shown = Beliefs.of(shared.arrays), design.shared_items

    def stars(beliefs: Beliefs, scale: torch.Tensor) -> torch.Tensor:
        weights = beliefs.covariate_weights[0]
        vectors = torch.cat([torch.ones(ITEMS, 1), beliefs.item_mean[:, 1:], design.slopes], 1)
        return (scale[0] + scale[1] * (beliefs.item_mean[:, 0] + vectors @ weights))[shown]

    torch.testing.assert_close(stars(found, other["scale"]), stars(last, shared.arrays["scale"]))
    deviation = other["scale"][1] * found.user_spread.diagonal().sqrt()
    torch.testing.assert_close(deviation, shared.arrays["scale"][1] * last.user_spread.diagonal().sqrt())


def test_items_with_other_features_are_refused(method, nodes, make_content, make_factors):
    shared, opened = run_rounds(method, nodes, 1).shared, run_rounds(method, nodes, 0).shared
    wider = replace(shared, arrays={**shared.arrays, "item_weights": shared.arrays["item_weights"][1:]})
    with pytest.raises(HierfedError, match="other features"):
        method.resumed(opened, wider)

"""Robust rules against plain loops over their definitions, and against liars."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from hierfed.engines.in_process import run_rounds
from hierfed.engines.rounds import rule_of
from hierfed.errors import HierfedError, SettingsError
from hierfed.federated.centred_clipping import centred_clipping
from hierfed.federated.contract import Contribution
from hierfed.federated.geometric_median import geometric_median
from hierfed.federated.krum import krum, multi_krum
from hierfed.federated.median import median
from hierfed.federated.robust_mean import RobustMean
from hierfed.federated.rules import OPEN_SUM, Rule
from hierfed.federated.tables import RULES
from hierfed.methods.averaging.deep_averaging import deepened
from hierfed.settings import load_settings
from tests.reference.full_batches import full_batches

ROBUST = ("centred_clipping", "geometric_median", "krum", "median", "multi_krum", "trimmed_mean")
LIARS = 2


@pytest.fixture
def values() -> np.ndarray:
    """Nine nodes' values of four numbers, two of which are far off."""
    found = np.random.default_rng(5).normal(size=(9, 4))
    found[[2, 7]] += 50
    return found


def centre_of(name: str, values: np.ndarray) -> np.ndarray:
    """The mean that the rule of this name makes of nodes with these values and unequal weights."""
    rule = RULES[name].make(load_settings("network", {"rule_share": 0.23}).federation, {"change": "rows"})
    given = [
        (number, Contribution({"change": count * torch.from_numpy(row), "rows": torch.tensor([float(count)]).double()}))
        for number, (row, count) in enumerate(zip(values, range(1, 99), strict=False))
    ]
    total = rule(given).total
    assert total.arrays["rows"].item() == sum(range(1, len(values) + 1))
    return (total.arrays["change"] / total.arrays["rows"]).numpy()


def test_the_median_is_numpys(values):
    for nodes in (8, 9):
        np.testing.assert_allclose(centre_of("median", values[:nodes]), np.median(values[:nodes], 0), rtol=1e-12)


def krum_scores(values: np.ndarray) -> list[float]:
    nodes = len(values)
    scores = []
    for k in range(nodes):
        squares = sorted(float(((values[k] - values[other]) ** 2).sum()) for other in range(nodes) if other != k)
        scores.append(sum(squares[: nodes - LIARS - 2]))
    return scores


@pytest.mark.parametrize("nodes", [9, 20])
def test_krum_is_the_node_nearest_to_its_neighbours(nodes):
    values = np.random.default_rng(nodes).normal(size=(nodes, 4))
    best = np.argsort(krum_scores(values))
    found = torch.from_numpy(values)
    np.testing.assert_allclose(krum(found, LIARS).numpy(), values[best[0]])
    np.testing.assert_allclose(multi_krum(found, LIARS).numpy(), values[best[: nodes - LIARS]].mean(0), rtol=1e-12)


def test_the_geometric_median_has_the_least_sum_of_distances(values):
    def distances(point: np.ndarray) -> float:
        return float(np.linalg.norm(values - point, axis=1).sum())

    least = minimize(distances, np.median(values, 0), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12})
    np.testing.assert_allclose(geometric_median(torch.from_numpy(values), 0).numpy(), least.x, atol=1e-4)


def test_the_geometric_median_of_points_on_a_line_is_the_median():
    values = torch.tensor([[0.0], [1.0], [2.0], [70.0], [80.0]]).double()
    assert geometric_median(values, 0).item() == pytest.approx(2.0, abs=1e-4)


def test_a_centre_that_clipping_does_not_move_is_where_the_clipped_nodes_balance(values):
    found = torch.from_numpy(values)
    start = np.median(values, 0)
    radius, centre = float(np.median(np.linalg.norm(values - start, axis=1))), start
    for _ in range(5):
        moves = [(row - centre) * min(1, radius / np.linalg.norm(row - centre)) for row in values]
        centre = centre + np.mean(moves, 0)
    np.testing.assert_allclose(centred_clipping(found, 0).numpy(), centre, rtol=1e-12)


@pytest.mark.parametrize("name", ROBUST)
def test_two_liars_of_nine_stay_near_the_honest_nodes(name, values):
    honest = np.delete(values, [2, 7], 0)
    apart = max(np.linalg.norm(one - other) for one, other in combinations(honest, 2))
    assert np.linalg.norm(centre_of(name, values) - honest.mean(0)) < apart
    assert np.linalg.norm(values.mean(0) - honest.mean(0)) > 5 * apart


@pytest.mark.parametrize("name", ROBUST)
def test_nodes_that_agree_are_believed(name):
    np.testing.assert_allclose(centre_of(name, np.tile([[1.0, -2.0]], (9, 1))), [1.0, -2.0], rtol=1e-12)


def test_a_node_without_weight_does_not_count():
    rule = RobustMean("median", median, 0.2, {"change": "rows"})
    given = [
        (number, Contribution({"change": torch.tensor([change]).double(), "rows": torch.tensor([rows]).double()}))
        for number, (change, rows) in enumerate([(1.0, 1.0), (2.0, 1.0), (3.0, 1.0), (9.0, 0.0), (9.0, -1.0)])
    ]
    assert (rule(given).total.arrays["change"] / rule(given).total.arrays["rows"]).item() == 2.0


def test_a_node_has_no_vote_in_rows_that_it_has_no_weight_of():
    """Item vectors: the median over the nodes that rated the item, NumPy's; nobody rated the last one."""
    random = np.random.default_rng(2)
    weights = random.integers(1, 9, (6, 5)) * (random.random((6, 5)) < 0.7)
    weights[:, -1], means = 0, random.normal(size=(6, 5, 3))
    rule = RobustMean("median", median, 0.2, {"change": "rows", "item_change": "item_rows"})
    given = []
    for number, (own, of_items) in enumerate(zip(means, torch.from_numpy(weights).double(), strict=True)):
        item_change = of_items[:, None] * torch.from_numpy(own)
        arrays = {"change": torch.full((2,), 5.0).double(), "rows": torch.tensor([5.0]).double()}
        given.append((number, Contribution({**arrays, "item_change": item_change, "item_rows": of_items})))
    total = rule(given).total.arrays
    rated = np.where(weights[:, :, None] > 0, means, np.nan)[:, :-1]
    expected = weights.sum(0)[:-1, None] * np.nanmedian(rated, 0)
    np.testing.assert_allclose(total["item_change"][:-1].numpy(), expected, rtol=1e-12)
    assert total["item_change"][-1].tolist() == [0, 0, 0]
    assert total["change"].tolist() == [30, 30]


def test_item_vectors_withstand_a_liar_under_robust_rules(features, make_node):
    """A node that multiplies the change of its item vectors moves them no further under the median than without it."""
    nodes = [make_node(number, 60) for number in range(5)]
    settings = load_settings("network", {"item_vector_size": 3, "hidden": [4], "rule": "median", "min_raters": 1})
    method = deepened(replace(full_batches(features.double()), start_at_mean=True), settings)
    shared = run_rounds(method, nodes, 1).shared
    sent = [pair[0] for pair in method.contribute(shared, nodes, [None] * 5)]
    lie = {**sent[2].arrays, "item_change": 1e6 * sent[2].arrays["item_change"]}
    told = list(enumerate([*sent[:2], Contribution(lie), *sent[3:]]))

    def moved(rule: Rule) -> float:
        after = method.combine(shared, rule(told).total).arrays["item_vectors"]
        return float((after - shared.arrays["item_vectors"]).abs().max())

    most = max(
        float((each.arrays["item_change"] / each.arrays["item_rows"].clamp_min(1)[:, None]).abs().max())
        for number, each in enumerate(sent)
        if number != 2
    )
    assert moved(rule_of(settings)) <= most < 1 < moved(OPEN_SUM)


@pytest.mark.parametrize(
    ("name", "nodes", "reason"),
    [
        ("krum", 4, "needs 5 nodes to resist 1, and there are 4"),
        ("multi_krum", 2, "needs 3 nodes to resist 0"),
        ("trimmed_mean", 3, "leaves 0 of 3 nodes out"),
        ("median", 2, "needs 3 nodes or more"),
        ("geometric_median", 2, "needs 3 nodes or more"),
        ("centred_clipping", 2, "needs 3 nodes or more"),
    ],
)
def test_too_few_nodes_are_refused_with_the_reason(name, nodes, reason):
    rule = RULES[name].make(load_settings("network", {"rule_share": 0.3}).federation, {"change": "rows"})
    one = Contribution({"change": torch.ones(1).double(), "rows": torch.ones(1).double()})
    with pytest.raises(HierfedError, match=reason) as error:
        rule([(number, one) for number in range(nodes)])
    assert str(error.value).startswith(f"federation.rule '{name}': ")


@pytest.mark.parametrize("name", ROBUST)
def test_settings_refuse_what_cannot_work(name):
    with pytest.raises(SettingsError, match=r"must see single contributions.*set federation.groups"):
        load_settings("network", {"rule": name, "secure_sums": True})
    with pytest.raises(SettingsError, match="can only be added"):
        load_settings("hierarchical", {"rule": name})

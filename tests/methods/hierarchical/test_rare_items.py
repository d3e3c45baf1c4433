"""Items under the threshold, pooled into one offset: against loops over ratings, and where they are worse."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hierfed.data.ratings import Ratings
from hierfed.engines.in_process import run_rounds
from hierfed.federated.checks import Sent, first_reason
from hierfed.methods.hierarchical.beliefs import ITEM_BIAS_VARIANCE
from hierfed.methods.hierarchical.build import make_factors as factors_of
from hierfed.methods.hierarchical.cavity import own_ratings
from hierfed.methods.hierarchical.rare_items import brought, next_offset, rare_sums
from hierfed.methods.hierarchical.users import evidence, item_moments, posterior
from hierfed.settings import load_settings

USERS, COMMON, RARE = 30, 12, 60


@pytest.mark.parametrize("told", [[1] * 8, [0, 1, 1, 0, 1, 1, 1, 1], [0] * 8])
def test_the_sums_are_those_of_a_loop_over_the_ratings(make_problem, told):
    problem = make_problem(seed=4, users=8, items=10, rank=2, threshold=4)
    beliefs, design = problem.beliefs, problem.design
    known = evidence(item_moments(beliefs, design, pooled=True), problem.users)
    tau = torch.linspace(0.5, 2.0, 8, dtype=torch.float64)
    found = posterior(known, beliefs.user_spread, known.covariates @ beliefs.covariate_weights, tau)
    sums = rare_sums(known, found, tau, beliefs.item_spread[0, 0], torch.tensor(told).double())
    precision, pull, raters = 0.0, 0.0, set()
    for user, item, value in zip(*(each.tolist() for each in own_ratings(problem.users.rows)), strict=True):
        if design.shared[item]:
            continue
        x = torch.cat([torch.ones(1), beliefs.item_mean[item, 1:], design.slopes[item]])
        weight = told[user] / (1 / float(tau[user]) + float(beliefs.item_spread[0, 0]))
        precision += weight
        pull += weight * (value - float(beliefs.item_mean[item, 0]) - float(x @ found.mean[user]))
        raters.add(user)
    assert len(raters) == 3
    torch.testing.assert_close(sums["rare_precision"], torch.tensor([precision]).double())
    torch.testing.assert_close(sums["rare_pull"], torch.tensor([pull]).double())


def test_the_offset_is_the_posterior_mean_of_what_the_pulls_measure():
    """Measured from 0.3, with precision 4 and prior variance v: the mean of 0.3 + 2 / 4 with weight 4 / (4 + 1 / v)."""
    arrays = {"rare_offset": torch.tensor([0.3]).double()}
    sums = {name: torch.tensor([value]).double() for name, value in (("rare_precision", 4.0), ("rare_pull", 2.0))}
    found = next_offset(arrays, sums)
    expected = (0.3 + 2 / 4) * 4 / (4 + 1 / ITEM_BIAS_VARIANCE)
    assert found["rare_offset"].tolist() == pytest.approx([expected])


@pytest.mark.parametrize("now", [-0.8, 0.3, 1.1])
def test_an_old_sum_measures_the_same_whatever_the_offset_is_now(now):
    """Measured from 0.3: what stands at the server by now is no evidence."""
    sums = {name: torch.tensor([value]).double() for name, value in (("rare_precision", 4.0), ("rare_pull", 2.0))}
    made_with, present = ({"rare_offset": torch.tensor([each]).double()} for each in (0.3, now))
    found = next_offset(present, brought(sums, made_with, present))
    expected = (0.3 + 2 / 4) * 4 / (4 + 1 / ITEM_BIAS_VARIANCE)
    assert found["rare_offset"].tolist() == pytest.approx([expected])


@pytest.fixture
def worse() -> Ratings:
    """Common items are rated by all; of the others each has one rater, and they are worse by 1.5 stars."""
    rng = np.random.default_rng(2)
    user = np.concatenate([np.repeat(np.arange(USERS), COMMON), rng.permutation(RARE) % USERS])
    item = np.concatenate([np.tile(np.arange(COMMON), USERS), COMMON + np.arange(RARE)])
    value = 3.5 + rng.normal(0, 0.3, USERS)[user] + rng.normal(0, 0.4, len(user)) - 1.5 * (item >= COMMON)
    order = np.argsort(user, kind="stable")
    return Ratings(user[order].astype(np.int32), item[order].astype(np.int32), value[order].astype(np.float32))


def test_where_rare_items_are_worse_the_model_learns_it_and_sends_one_sum(
    worse, make_factors, make_content, divide_users
):
    method = make_factors(make_content(COMMON + RARE), threshold=5, embedding_rank=0)
    nodes = divide_users(worse, [user % 3 for user in range(USERS)])
    shared = run_rounds(method, nodes, 12).shared
    found = method.knowledge(shared, krige=False)
    newcomer = found.beliefs.covariate_weights[:1]
    expected = (found.scale.centre + found.scale.unit * found.expected(newcomer)[0]).numpy()
    truth = worse.value[worse.item >= COMMON].mean()
    assert expected[COMMON:].mean() == pytest.approx(truth, abs=0.3)
    sent = [each.arrays for each, _ in method.contribute(shared, nodes, [None] * 3)]
    assert all(float(each["rare_precision"]) > 0 for each in sent)
    assert {each[name].shape for each in sent for name in ("rare_precision", "rare_pull")} == {(1,)}


def test_nothing_is_sent_of_items_that_too_few_users_have_rated(worse, make_factors, make_content, divide_users):
    """At each node four users hold all ratings of rare items; five would be enough, as all twelve would."""
    rows = worse.take(np.flatnonzero((worse.item < COMMON) | (worse.user < 12)))
    method = make_factors(make_content(COMMON + RARE), threshold=5, embedding_rank=0)
    nodes = divide_users(rows, [user % 3 for user in range(USERS)])
    trained = run_rounds(method, nodes, 4)
    assert trained.shared.arrays["rare_offset"].tolist() == [0.0]
    for contribution, _ in method.contribute(trained.shared, nodes, trained.private):
        assert contribution.arrays["rare_precision"].tolist() == [0.0]
        assert contribution.arrays["rare_pull"].tolist() == [0.0]


@pytest.mark.parametrize(("precision", "pull"), [(-1.0, 0.0), (1e9, 0.0), (2.0, 1e6), (2.0, -1e6)])
def test_sums_that_no_ratings_give_are_refused(worse, make_factors, make_content, divide_users, precision, pull):
    method = make_factors(make_content(COMMON + RARE), threshold=5, embedding_rank=0)
    nodes = divide_users(worse, [user % 3 for user in range(USERS)])
    trained = run_rounds(method, nodes, 2)
    ((honest, _), *_) = method.contribute(trained.shared, nodes, trained.private)
    assert first_reason(method.checks(trained.shared), Sent(honest.arrays)) == ""
    lie = {"rare_precision": torch.tensor([precision]).double(), "rare_pull": torch.tensor([pull]).double()}
    assert "rare_" in first_reason(method.checks(trained.shared), Sent({**honest.arrays, **lie}))


@pytest.mark.parametrize(("nodes", "learns"), [(256, True), (257, False)])
def test_small_nodes_learn_nothing_of_rare_items_by_themselves(make_content, nodes, learns):
    settings = load_settings("hierarchical", {"nodes": nodes})
    assert factors_of(settings, make_content(5), (0.5, 5.0)).rare_at_node == learns

"""What a node's users know together of items under the threshold, against a server that may sum every item."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hierfed.data.ratings import Ratings
from hierfed.engines.in_process import run_rounds
from hierfed.methods.hierarchical.beliefs import Strengths
from hierfed.methods.hierarchical.cavity import own_ratings, without_own
from hierfed.methods.hierarchical.cohort import Cohort
from hierfed.methods.hierarchical.items import update_items
from hierfed.methods.hierarchical.node_items import NodeItems, items_of, node_items
from hierfed.methods.hierarchical.personal import restored
from hierfed.methods.hierarchical.users import Posterior, Users, item_sums, posterior

USERS, ITEMS = 7, 9
SCALE = torch.tensor([0.0, 1.0], dtype=torch.float64)


def cohort_of_rows(rows, chosen: list[int]) -> Cohort:
    """Some of a problem's users, on a scale of centre 0 and unit 1."""
    user, item, value = (each.numpy() for each in own_ratings(rows))
    kept = np.isin(user, chosen)
    counts = np.array([(user == each).sum() for each in chosen])
    return Cohort(
        np.array(chosen), np.concatenate([[0], np.cumsum(counts)]), np.array([0, len(chosen)]), item[kept], value[kept]
    )


@pytest.fixture(params=[4, 99], ids=["some are rare", "all are rare"])
def problem(request, make_problem):
    """Items keep the prior's means, since the node has summed none of them before."""
    found = make_problem(seed=6, users=USERS, items=ITEMS, rank=2, threshold=request.param)
    prior = found.features @ found.beliefs.item_weights
    return replace(found, beliefs=replace(found.beliefs, item_mean=prior))


def found_by(problem) -> tuple[Posterior, torch.Tensor]:
    tau, known = torch.linspace(0.5, 2.0, USERS, dtype=torch.float64), problem.evidence()
    return posterior(known, problem.beliefs.user_spread, known.covariates @ problem.beliefs.covariate_weights, tau), tau


def summed_whole(problem, found: Posterior, tau: torch.Tensor, chosen: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """The posteriors of all items at a server without any threshold, from these users."""
    design = replace(problem.design, shared=torch.ones_like(problem.design.shared))
    alone = problem.users_alone(chosen)
    cohort = cohort_of_rows(problem.users.rows, chosen)
    users: Users = cohort.arranged(slice(0, len(chosen)), SCALE, design)
    assert torch.equal(users.rows.counts, alone.rows.counts)
    part = Posterior(*(each[chosen] for each in (found.mean, found.covariance, found.squared_error)))
    sums = item_sums(design, users, part, tau[chosen], problem.beliefs.rank)
    whole = {
        name: each.new_zeros(ITEMS, each.shape[1]).index_copy_(0, users.rows.sent, each)
        for name, each in zip(("item_precision", "item_pull"), sums, strict=True)
    }
    mean, packed, _, _ = update_items(problem.beliefs, design, problem.features, whole, Strengths(), False)
    return mean, packed


def test_they_are_the_posteriors_of_a_server_that_sums_the_node_s_items(problem):
    found, tau = found_by(problem)
    cohort = cohort_of_rows(problem.users.rows, list(range(USERS)))
    known = node_items(problem.beliefs, problem.design, SCALE, cohort, found, tau)
    mean, packed = summed_whole(problem, found, tau, list(range(USERS)))
    rare = (problem.design.shared == 0).nonzero()[:, 0]
    assert known is not None
    assert known.numbers.tolist() == [each for each in rare.tolist() if each in set(cohort.item.tolist())]
    torch.testing.assert_close(known.mean, mean[known.numbers], rtol=0, atol=1e-10)
    torch.testing.assert_close(known.covariance, packed[known.numbers], rtol=0, atol=1e-10)
    every = torch.arange(ITEMS)
    at, _, own = items_of(problem.beliefs, known, every)
    assert own.nonzero()[:, 0].tolist() == known.numbers.tolist()
    torch.testing.assert_close(at[~own], problem.beliefs.item_mean[~own], rtol=0, atol=0)


def test_each_user_s_own_part_is_taken_out_where_it_meets_the_user(problem):
    """A rating of an item that nobody else at the node has rated leaves the prior."""
    found, tau = found_by(problem)
    rows = problem.users.rows
    known = node_items(problem.beliefs, problem.design, SCALE, cohort_of_rows(rows, list(range(USERS))), found, tau)
    user, item, _ = own_ratings(rows)
    rare = problem.design.shared[item] == 0
    assert rare.any()
    # What a server summed is not at issue here: no rating of such an item was sent.
    mean, packed = without_own(problem.beliefs, rows, problem.design, found, tau, rare, known)
    for number in range(USERS):
        others = [each for each in range(USERS) if each != number]
        expected, covariances = summed_whole(problem, found, tau, others)
        mine = (user == number) & rare
        torch.testing.assert_close(mean[mine], expected[item[mine]], rtol=0, atol=1e-9)
        torch.testing.assert_close(packed[mine], covariances[item[mine]], rtol=0, atol=1e-9)


def test_a_node_whose_users_rated_no_such_item_has_none(problem):
    found, tau = found_by(problem)
    design = replace(problem.design, shared=torch.ones_like(problem.design.shared))
    cohort = cohort_of_rows(problem.users.rows, list(range(USERS)))
    assert node_items(problem.beliefs, design, SCALE, cohort, found, tau) is None


@pytest.fixture
def rare_world(make_pairs):
    """Each item is rated by few."""
    rows: Ratings = make_pairs(users=24, items=40, seed=3, most=9)
    return rows


def test_users_of_one_node_learn_from_each_other_and_those_who_are_alone_do_not(
    rare_world, make_factors, make_content, divide_users
):
    method = make_factors(make_content(40), threshold=12, rare_at_node=True)
    without = replace(method, rare_at_node=False)
    item = torch.arange(40)
    for node_of, gains in (([user % 2 for user in range(24)], True), (list(range(24)), False)):
        nodes = divide_users(rare_world, node_of)
        trained = run_rounds(method, nodes, 3)
        differ = False
        for more, less in zip(
            method.personalise(trained.shared, nodes, trained.private),
            without.personalise(trained.shared, nodes, trained.private),
            strict=True,
        ):
            user = more.users[:1].repeat(40)
            differ |= not torch.equal(more.knowledge.vectors(item), less.knowledge.vectors(item)) or not torch.equal(
                more.scores(user[:1], 40), less.scores(user[:1], 40)
            )
        assert differ == gains


def test_a_user_s_file_with_that_of_the_node_gives_the_predictions_again(
    rare_world, make_factors, make_content, divide_users
):
    method = make_factors(make_content(40), threshold=12, rare_at_node=True)
    nodes = divide_users(rare_world, [user % 2 for user in range(24)])
    trained = run_rounds(method, nodes, 3)
    knowledge = method.knowledge(trained.shared)
    for model, node in zip(method.personalise(trained.shared, nodes, trained.private), nodes, strict=True):
        (of_node, shared), *own = model.tensors()
        assert of_node is None
        assert isinstance(NodeItems.among(shared), NodeItems)
        for user, kept in own:
            mine = node.train.take(np.flatnonzero(node.train.user == user))
            alone = restored(knowledge, {**shared, **kept})
            found = alone.distribution(replace(mine, user=np.zeros_like(mine.user)))
            for one, other in zip(found, model.distribution(mine), strict=True):
                torch.testing.assert_close(one, other, rtol=0, atol=1e-9)

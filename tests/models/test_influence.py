"""The influence of own ratings against fits without them, and the choice of what to name."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from hierfed.models.influence import Influence, near_duplicates, strongest
from hierfed.models.kernel import ItemKernel
from tests.models.test_kriging import Case, few, seeds

QUERIES = 7


def exact(case: Case) -> Case:
    """The case with a kernel of titles alone, since distances are rounded otherwise in a matrix of another size."""
    case.kernel = ItemKernel((), csr_matrix(case.titles), 0.2)
    return case


def without(case: Case, user: int, places: list[int]) -> Case:
    """The same case, but this user has not rated the items at these places."""
    gone, fewer = [case.own(user).start + place for place in places], copy.copy(case)
    fewer.counts = [count - len(places) * (number == user) for number, count in enumerate(case.counts)]
    for name in ("own_items", "own_vectors", "residuals", "noise"):
        setattr(fewer, name, np.delete(getattr(case, name), gone, axis=0))
    return fewer


def influence(case: Case, user: int) -> Influence:
    return case.kriging().influence(user, torch.from_numpy(case.items), torch.from_numpy(case.vectors))


def means(case: Case, user: int) -> np.ndarray:
    place = torch.full((len(case.items),), user)
    return case.kriging().predict(place, torch.from_numpy(case.items), torch.from_numpy(case.vectors))[0].numpy()


@few
@given(st.lists(st.integers(1, 25), min_size=1, max_size=4), st.integers(0, 3), seeds)
def test_the_influence_of_a_rating_is_the_change_of_the_mean_by_a_fit_without_it(counts, user, seed):
    case, user = exact(Case(counts, QUERIES, seed)), user % len(counts)
    found, all_of_them = influence(case, user), means(case, user)
    assert found.left_out[: counts[user]].tolist() == [[place, -1] for place in range(counts[user])]
    for left_out, moved in zip(found.left_out.tolist(), found.moved.T.numpy(), strict=True):
        fewer = without(case, user, [place for place in left_out if place >= 0])
        np.testing.assert_allclose(moved, all_of_them - means(fewer, user), rtol=0, atol=1e-8)


def with_twins(seed: int) -> Case:
    """One user, whose ratings 0 and 1 are of the same item and equal, nearly without noise."""
    case = exact(Case([8], QUERIES, seed))
    for name in ("own_items", "own_vectors", "residuals"):
        getattr(case, name)[1] = getattr(case, name)[0]
    case.noise[:2], case.residuals[:2] = 0.01, 2.0
    case.items[:], case.vectors[:] = case.own_items[0], case.own_vectors[0]
    return case


@few
@given(seeds)
def test_near_duplicates_are_left_out_together_since_each_makes_up_for_the_other(seed):
    case = with_twins(seed)
    found, all_of_them = influence(case, 0), means(case, 0)
    place = found.left_out.tolist().index([0, 1])
    both = all_of_them - means(without(case, 0, [0, 1]), 0)
    np.testing.assert_allclose(found.moved[:, place].numpy(), both, rtol=0, atol=1e-8)
    assert (found.moved[:, :2].abs().sum(1).numpy() < np.abs(both)).all()
    named = [sets for sets, _ in strongest(found.left_out, found.moved[0], 3)]
    assert (0, 1) in named
    assert (0, -1) not in named


def test_partial_correlations_are_those_of_the_other_ratings_held():
    rng = np.random.default_rng(3)
    root = rng.normal(size=(4, 4))
    root[3] = root[2] + 0.1 * rng.normal(size=4)
    inverse = np.linalg.inv(root @ root.T + 0.1 * np.eye(4))
    # The correlation of what is left of two ratings after a regression on the others.
    covariance, found = np.linalg.inv(inverse), set()
    for one, other in [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]:
        rest = [place for place in range(4) if place not in (one, other)]
        cross = covariance[np.ix_([one, other], rest)]
        left = (
            covariance[np.ix_([one, other], [one, other])]
            - cross @ np.linalg.inv(covariance[np.ix_(rest, rest)]) @ cross.T
        )
        if left[0, 1] / np.sqrt(left[0, 0] * left[1, 1]) >= 0.15:
            found.add((one, other))
    assert (2, 3) in found
    assert set(map(tuple, near_duplicates(torch.from_numpy(inverse)).tolist())) == found


def test_the_strongest_share_no_rating_and_a_pair_must_do_more_than_both_alone():
    left_out = torch.tensor([[0, -1], [1, -1], [2, -1], [3, -1], [0, 1], [2, 3]])
    moved = torch.tensor([0.3, 0.2, -0.4, -0.1, 0.9, -0.45])
    assert [sets for sets, _ in strongest(left_out, moved, 3)] == [(0, 1), (2, -1), (3, -1)]
    assert [value for _, value in strongest(left_out, moved, 2)] == pytest.approx([0.9, -0.4])
    assert strongest(left_out, torch.zeros(6), 3) == []


def test_leaving_out_the_three_that_are_named_changes_more_than_three_others_for_200_users():
    rng = np.random.default_rng(0)
    case, named, others = Case(rng.integers(8, 31, 200).tolist(), 1, 0), [], []
    for user in range(200):
        found, here = influence(case, user), means(case, user)
        chosen = strongest(found.left_out, found.moved[0], 3)
        places = sorted({place for sets, _ in chosen for place in sets if place >= 0})
        rest = [place for place in range(case.counts[user]) if place not in places]
        drawn = rng.permutation(rest)[: len(places)].tolist()
        for changes, gone in ((named, places), (others, drawn)):
            changes.append(abs(float((here - means(without(case, user, gone), user))[0])))
    assert len(named) == 200
    assert np.mean(np.array(named) > np.array(others)) > 0.75
    assert np.mean(named) > 3 * np.mean(others)

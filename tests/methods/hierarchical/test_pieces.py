"""A node's users in small pieces against the same users as a whole, and models that are made when asked for."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from hierfed.data.federation import Node
from hierfed.data.ratings import rows_to_predict
from hierfed.engines.in_process import run_rounds
from hierfed.evaluation.judging import predictions_of
from hierfed.federated.contract import SharedModel
from hierfed.federated.private import ModelsOnDemand, PrivateState, StoredState
from hierfed.methods.hierarchical.cohort import cohort_of
from hierfed.methods.hierarchical.hierarchical import HierarchicalFactors
from hierfed.methods.hierarchical.personal import PersonalFactors
from hierfed.methods.hierarchical.pieces import PiecewiseFactors
from hierfed.models.kernel import KernelSettings

USERS, ITEMS, PIECE = 24, 15, 20
STRANGER = 10**6


@dataclass(frozen=True)
class Case:
    """A trained method and its nodes, one of the even users and one of the odd; private: what they kept, or None
    of users who are new; whole, pieces: the nodes' models, made at once and of at most 20 ratings."""

    method: HierarchicalFactors
    nodes: list[Node]
    shared: SharedModel
    private: Sequence[PrivateState | None]
    whole: Sequence[PersonalFactors]
    pieces: Sequence[PiecewiseFactors]

    def users(self, place: int) -> np.ndarray:
        """A node's users, ascending."""
        return np.unique(self.nodes[place].train.user)


WAYS = {
    "kriging": ({}, True),
    "factors alone": ({"kernel": None}, True),
    "only some take part": ({"everyone": False}, True),
    "new users": ({}, False),
}


@pytest.fixture(scope="module", params=WAYS.values(), ids=WAYS.keys())
def case(request, make_factors, make_content, make_pairs, divide_users) -> Case:
    changes, took_part = request.param
    nodes = divide_users(make_pairs(USERS, ITEMS, seed=4), [user % 2 for user in range(USERS)])
    method = make_factors(make_content(ITEMS), **changes)
    trained = run_rounds(method, nodes, 5)
    # What their disk kept, so that the pieces are cut anew.
    private = [StoredState(state.kept()) if took_part else None for state in trained.private]
    whole = method.personalise(trained.shared, nodes, private)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hierfed.methods.hierarchical.cohort.PIECE_ROWS", PIECE)
        pieces = method.personalise(trained.shared, nodes, private)
        sizes = [len(cohort_of([node]).pieces) for node in nodes]
    assert min(sizes) > 2
    assert all(isinstance(model, PersonalFactors) for model in whole)
    assert all(isinstance(model, PiecewiseFactors) for model in pieces)
    return Case(method, nodes, trained.shared, private, whole, pieces)


def counted(model: PiecewiseFactors) -> tuple[PiecewiseFactors, list[int]]:
    """The same users, and the numbers of the pieces as they are made."""
    made: list[int] = []

    def make(number: int) -> PersonalFactors:
        made.append(number)
        return model._make(number)

    return PiecewiseFactors(model.knowledge, model.users, model._pieces, make), made


def questions(users: np.ndarray, rows: int = 80) -> tuple[torch.Tensor, torch.Tensor]:
    """Users and items in any order; some of the users are unknown, below, among and above all others."""
    rng = np.random.default_rng(5)
    user = rng.choice([*users, -1, int(users[0]) + 1, STRANGER], rows)
    return torch.from_numpy(user).long(), torch.from_numpy(rng.integers(ITEMS, size=rows))


def same(one: PiecewiseFactors, other: PersonalFactors, user: torch.Tensor, item: torch.Tensor) -> None:
    for found, expected in zip(
        one.distribution(rows_to_predict(user, item)), other.distribution(rows_to_predict(user, item)), strict=True
    ):
        assert found.dtype == torch.float64
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_every_user_is_predicted_as_by_the_whole(case: Case):
    for place, (found, expected) in enumerate(zip(case.pieces, case.whole, strict=True)):
        for user in case.users(place).tolist():
            same(found, expected, torch.full((ITEMS,), user), torch.arange(ITEMS))


def test_known_and_unknown_users_may_be_asked_for_at_once_in_any_order(case: Case):
    for place, (found, expected) in enumerate(zip(case.pieces, case.whole, strict=True)):
        user, item = questions(case.users(place))
        same(found, expected, user, item)
        torch.testing.assert_close(
            found.predict(rows_to_predict(user, item)), expected.predict(rows_to_predict(user, item)), rtol=0, atol=1e-9
        )
        same(found, expected, torch.full((ITEMS,), STRANGER), torch.arange(ITEMS))
        nothing = torch.empty(0, dtype=torch.int64)
        assert [len(each) for each in found.distribution(rows_to_predict(nothing, nothing))] == [0, 0]


def test_predictions_are_within_the_scale(case: Case):
    for model in case.pieces:
        assert model.within(torch.tensor([-3.0, 0.5, 2.0, 7.0])).tolist() == [0.5, 0.5, 2.0, 5.0]


def test_another_kernel_and_share_of_noise_are_those_of_the_whole(case: Case):
    kernel = replace(case.method, kernel=KernelSettings().scaled(0.5)).knowledge(case.shared).kernel
    assert kernel is not None
    for place, (found, expected) in enumerate(zip(case.pieces, case.whole, strict=True)):
        user, item = questions(case.users(place))
        before = found.distribution(rows_to_predict(user, item))
        other, again = found.with_kriging(kernel, 0.7), expected.with_kriging(kernel, 0.7)
        same(other, again, user, item)
        assert other.knowledge.kernel is kernel
        assert other.knowledge.noise_share == 0.7
        assert not torch.allclose(other.distribution(rows_to_predict(user, item))[1], before[1], atol=1e-3)
        same(other.with_kriging(kernel, 0.3), again.with_kriging(kernel, 0.3), user, item)
        for one, two in zip(found.distribution(rows_to_predict(user, item)), before, strict=True):
            assert torch.equal(one, two), "the model is as it was"


def test_some_users_as_one_model_are_those_of_the_whole(case: Case):
    """Whoever is asked for lies apart from the next one, in several pieces of the whole."""
    users = [case.users(place) for place in range(len(case.nodes))]
    wanted = [np.array([STRANGER, *mine[::3]]) for mine in users]
    some = case.method.personalise(case.shared, case.nodes, case.private, wanted=wanted)
    for mine, found, expected in zip(users, some, case.whole, strict=True):
        assert isinstance(found, PersonalFactors)
        assert found.users.tolist() == mine[::3].tolist()
        same(found, expected, *questions(mine[::3]))
    nobody = case.method.personalise(case.shared, case.nodes, case.private, wanted=[np.array([STRANGER])] * len(users))
    for found, expected in zip(nobody, case.whole, strict=True):
        assert len(found.users) == len(found.own.items) == 0
        same(found, expected, *questions(np.array([STRANGER])))


def test_rows_are_judged_with_one_making_of_each_piece(case: Case):
    counting, made = counted(case.pieces[0])
    user, item = questions(case.users(0))
    rows = rows_to_predict(user, item)
    found = predictions_of(np.zeros(len(rows)), counting, replace(rows, time=np.arange(len(rows))))
    assert sorted(made) == list(range(len(counting._pieces)))
    np.testing.assert_allclose(found.after, case.whole[0].predict(rows).numpy(), rtol=0, atol=1e-9)


def test_weights_and_numbers_are_those_of_the_whole(case: Case):
    for place, (found, expected) in enumerate(zip(case.pieces, case.whole, strict=True)):
        assert found.users.tolist() == expected.users.tolist() == case.users(place).tolist()
        torch.testing.assert_close(found.weights, expected.weights, rtol=0, atol=1e-10)


def test_what_users_keep_is_what_they_keep_of_the_whole(case: Case):
    for found, expected in zip(case.pieces, case.whole, strict=True):
        for (user, tensors), (number, others) in zip(found.tensors(), expected.tensors(), strict=True):
            assert user == number
            assert tensors.keys() == others.keys()
            for name, values in tensors.items():
                assert values.is_contiguous()
                torch.testing.assert_close(values, others[name], rtol=0, atol=1e-9)


def test_only_the_last_piece_is_kept(case: Case):
    model, made = counted(case.pieces[0])
    count, users = len(model._pieces), case.users(0)
    assert made == [], "nothing is made before it is asked for"
    model.distribution(rows_to_predict(*questions(users)))
    assert made == list(range(count)), "each piece is made once for all of its rows"
    last = torch.full((ITEMS,), int(users[-1]))
    model.distribution(rows_to_predict(last, torch.arange(ITEMS)))
    assert len(made) == count, "the last one is still there"
    list(model.tensors())
    assert made[count:] == list(range(count))
    model.distribution(rows_to_predict(torch.full((ITEMS,), int(users[0])), torch.arange(ITEMS)))
    assert made[2 * count :] == [0]


def test_the_pieces_tensors_are_made_as_their_users_are_come_to(case: Case):
    model, made = counted(case.pieces[0])
    kept = model.tensors()
    next(kept)
    assert made == [0]


def test_models_of_pieces_cannot_be_sent(case: Case):
    with pytest.raises(TypeError, match="PiecewiseFactors is private to its node"):
        pickle.dumps(case.pieces[0])


def test_models_of_many_ratings_are_made_when_they_are_asked_for(case: Case, monkeypatch):
    monkeypatch.setattr("hierfed.methods.hierarchical.models_of_nodes.KEPT_RATINGS", 30)
    found = case.method.personalise(case.shared, case.nodes, case.private)
    assert isinstance(found, ModelsOnDemand)
    assert len(found) == len(case.nodes)
    for place, (model, expected) in enumerate(zip(found, case.whole, strict=True)):
        user, item = questions(case.users(place))
        for one, other in zip(
            model.distribution(rows_to_predict(user, item)),
            expected.distribution(rows_to_predict(user, item)),
            strict=True,
        ):
            assert torch.equal(one, other)


def test_models_on_demand_are_a_sequence_that_makes_them_anew():
    made: list[int] = []

    def make(place: int) -> tuple[int]:
        made.append(place)
        return (place,)

    models = ModelsOnDemand(4, make)
    assert isinstance(models, Sequence)
    assert len(models) == 4
    assert made == []
    assert models[2] == (2,)
    assert models[2] is not models[2]
    assert made == [2, 2, 2]
    assert models[-1] == (3,)
    assert list(models) == [(0,), (1,), (2,), (3,)]
    assert models[1:3] == [(1,), (2,)]
    assert models[::-2] == [(3,), (1,)]
    assert next(reversed(models)) == (3,)
    for outside in (4, -5):
        with pytest.raises(IndexError):
            models[outside]
    assert list(ModelsOnDemand(0, make)) == []

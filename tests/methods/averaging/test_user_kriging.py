"""Users' Gaussian processes on top of a network: by dense matrices, for strangers, on other scales, and refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from sklearn.gaussian_process.kernels import Matern
from torch import Tensor

from hierfed.data.ratings import Ratings, rows_to_predict
from hierfed.errors import SettingsError
from hierfed.federated.private import PersonalModel
from hierfed.methods.averaging.user_kriging import UserKriging
from hierfed.methods.averaging.user_level import UserPersonalisation
from hierfed.settings import load_settings
from tests.models.dense import dense_kriging

ITEMS, LIMITS = 25, (0.0, 9.0)
UNIT = (LIMITS[1] - LIMITS[0]) / 4.5


@dataclass
class Slanted(PersonalModel):
    """A network that rates by the user's and the item's number."""

    def predict(self, rows: Ratings) -> Tensor:
        return torch.from_numpy(3 + 0.1 * rows.user + 0.05 * rows.item).double()

    def tensors(self) -> Iterator[tuple[int | None, dict[str, Tensor]]]:
        yield 7, {"items": torch.tensor([1])}


@pytest.fixture(scope="module")
def content(make_content):
    return make_content(ITEMS)


@pytest.fixture(scope="module")
def ratings() -> Ratings:
    """Three users, whose rows are mixed."""
    rng = np.random.default_rng(1)
    user, item = np.repeat([2, 5, 8], [9, 4, 1]), np.concatenate([rng.permutation(ITEMS)[:n] for n in (9, 4, 1)])
    order = rng.permutation(len(user))
    value = rng.uniform(*LIMITS, len(user))
    return Ratings(user[order].astype(np.int32), item[order].astype(np.int32), value.astype(np.float32))


def test_predictions_are_the_network_s_and_a_dense_process_of_what_it_leaves(content, ratings):
    x = np.column_stack([np.ones(ITEMS), content.scalars, content.genres])
    spread = np.diag([0.2] + [0.004] * content.scalars.shape[1] + [0.015] * content.genres.shape[1])
    where = np.column_stack([0.4 * content.vote, 0.4 * content.votes, content.year, 0.8 * content.genres])
    titles = content.titles.toarray()
    covariance = x @ spread @ x.T + 0.25 * Matern(1.0, nu=1.5)(where) + 0.2 * titles @ titles.T
    model = UserKriging.of(content, LIMITS, 1).on_top(Slanted(), ratings)
    every = torch.arange(ITEMS)
    for user in (2, 5, 8):
        rows = rows_to_predict(torch.full((ITEMS,), user), every)
        mine = ratings.take(np.flatnonzero(ratings.user == user))
        left = (mine.value.astype(float) - Slanted().predict(mine).numpy()) / UNIT
        known, cross = covariance[np.ix_(mine.item, mine.item)], covariance[:, mine.item]
        dense = dense_kriging(known, np.full(len(mine), 0.45), cross, np.diag(covariance), left)
        mean, variance = model.distribution(rows)
        np.testing.assert_allclose(mean, Slanted().predict(rows).numpy() + UNIT * dense.mean, rtol=0, atol=1e-6)
        np.testing.assert_allclose(variance, UNIT**2 * (dense.variance + 0.45 * dense.loudness), rtol=0, atol=1e-6)
        assert model.predict(rows).min() >= LIMITS[0]


def test_a_stranger_gets_the_network_s_ratings(content, ratings):
    model = UserKriging.of(content, LIMITS, 1).on_top(Slanted(), ratings)
    rows = rows_to_predict(torch.full((ITEMS,), 3), torch.arange(ITEMS))
    torch.testing.assert_close(model.predict(rows), Slanted().predict(rows), rtol=0, atol=1e-12)
    nobody = UserKriging.of(content, LIMITS, 1).on_top(Slanted(), ratings.between(0, 0))
    torch.testing.assert_close(nobody.predict(rows), Slanted().predict(rows), rtol=0, atol=1e-12)


def test_the_network_s_files_are_all_that_is_kept(content, ratings):
    model = UserKriging.of(content, LIMITS, 1).on_top(Slanted(), ratings)
    assert [user for user, _ in model.tensors()] == [7]


def test_a_level_without_processes_leaves_the_network_as_it_is(ratings):
    network = Slanted()
    assert UserPersonalisation("ridge_head", 5.0, 10.0).completed(network, ratings) is network


def test_a_level_of_processes_without_their_shared_part_is_refused(content):
    shared = UserKriging.of(content, LIMITS, 1)
    for how, given in (("kriging", None), ("bias", shared)):
        with pytest.raises(ValueError, match="is for `kriging` alone"):
            UserPersonalisation(how, 5.0, 10.0, given)
    assert UserPersonalisation("kriging", 5.0, 10.0, shared).kriging is shared


def test_mixtures_of_experts_have_no_processes():
    with pytest.raises(SettingsError, match="users' processes were never tried on mixtures"):
        load_settings("network", {"experts": 2, "user_level": "kriging"})

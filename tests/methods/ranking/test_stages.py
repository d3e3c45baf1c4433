"""The stages of ranking and the lists that they make, with rankers whose scores are easy to foresee."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from torch import Tensor

from hierfed.data.ratings import Ratings
from hierfed.federated.contract import SharedModel
from hierfed.methods.ranking import stages
from hierfed.methods.ranking.ease import COPIES, Ease
from hierfed.methods.ranking.implicit import ImplicitFactors
from hierfed.methods.ranking.stages import ease_of, implicit_of, ranking_scorers, ranking_stages
from hierfed.settings import load_settings

ITEMS = 4
SETTINGS = load_settings("hierarchical", {"min_raters": 3, "least_raters": 2, "implicit_rounds": 7, "implicit_rank": 5})


def shared_with(raters: list[float], **numbers: float) -> SharedModel:
    named = {name: torch.tensor(number).double() for name, number in numbers.items()}
    return SharedModel({"raters": torch.tensor(raters).double(), **named})


@dataclass
class Multiple:
    """Scores that are a multiple of what was seen."""

    sign: float

    def scores(self, shared: SharedModel, seen: csr_array) -> Tensor:
        return self.sign * shared.arrays["factor"] * torch.from_numpy(seen.toarray())


@pytest.fixture
def rankers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "ease_of", lambda settings, content, models: Multiple(1.0))
    monkeypatch.setattr(stages, "implicit_of", lambda settings, models: Multiple(-1.0))


def expected(users: Tensor) -> Tensor:
    return torch.arange(ITEMS).expand(len(users), -1).double()


@pytest.mark.usefixtures("rankers")
def test_a_models_scores_come_from_the_users_own_rows_and_are_blended(make_content):
    own = Ratings(np.array([0, 2, 2], np.int32), np.array([1, 0, 2], np.int32), np.array([3, 1, 5], np.float32))
    models = {
        "rating": shared_with([9.0, 9.0, 9.0, 9.0]),
        "ease": shared_with([5.0, 6.0, 7.0, 0.0], factor=2.0),
        "implicit": shared_with([9.0, 9.0, 9.0, 9.0], factor=3.0),
    }
    found = ranking_scorers(SETTINGS, models, expected, own)
    assert list(found) == ["popularity", "rating", "implicit", "ease", "blend"]
    users = torch.tensor([2, 0])
    assert found["ease"](users).tolist() == [[2, 0, 2, 0], [0, 2, 0, 0]]
    assert found["implicit"](users).tolist() == [[-3, 0, -3, 0], [0, -3, 0, 0]]
    assert not found["ease"](torch.tensor([1, 3, 99])).any()
    assert found["popularity"](users).tolist() == [[5, 6, 7, 0]] * 2
    assert found["rating"](users).tolist() == [[0, 1, 2, 3]] * 2

    def blended(**weights: float) -> Tensor:
        none = dict.fromkeys(("ease_weight", "implicit_weight", "rating_weight", "popularity_weight"), 0.0)
        settings = load_settings("hierarchical", {**none, **weights})
        return ranking_scorers(settings, models, expected, own)["blend"](users)

    both = blended(ease_weight=1.0, implicit_weight=1.0)
    torch.testing.assert_close(both, torch.zeros(2, ITEMS).double(), rtol=0, atol=1e-15)
    assert blended(ease_weight=0.5)[0].tolist() == [0.5, -0.5, 0.5, -0.5]
    torch.testing.assert_close(blended(popularity_weight=1.0)[0].argsort(), torch.tensor([3, 0, 1, 2]))


def test_each_model_scores_the_same_users_once(make_content, monkeypatch):
    calls: list[str] = []

    @dataclass
    class Counted(Multiple):
        name: str = ""

        def scores(self, shared: SharedModel, seen: csr_array) -> Tensor:
            calls.append(self.name)
            return super().scores(shared, seen)

    monkeypatch.setattr(stages, "ease_of", lambda settings, content, models: Counted(1.0, "ease"))
    monkeypatch.setattr(stages, "implicit_of", lambda settings, models: Counted(-1.0, "implicit"))
    own = Ratings(np.array([0, 1, 2], np.int32), np.array([1, 0, 2], np.int32), np.ones(3, np.float32))
    models = {
        "rating": shared_with([9.0] * ITEMS),
        "ease": shared_with([5.0] * ITEMS, factor=2.0),
        "implicit": shared_with([9.0] * ITEMS, factor=3.0),
    }
    found = ranking_scorers(SETTINGS, models, expected, own)
    for chunk in (torch.tensor([0, 1]), torch.tensor([2])):
        for scorer in found.values():
            scorer(chunk)
    assert sorted(calls) == ["ease", "ease", "implicit", "implicit"]


def test_the_stages_are_ease_and_then_implicit_factors_on_the_items_of_the_model_of_ratings(make_content):
    content, models = make_content(ITEMS), {"rating": shared_with([9.0, 9.0, 9.0, 9.0])}
    first, second = ranking_stages(SETTINGS, lambda: content)
    assert (first.name, first.rounds, first.before) == ("ease", 1, -1)
    assert (second.name, second.rounds, second.before) == ("implicit", 7, -1)
    for stage in (first, second):
        assert stage.build(models).start().round == stage.before
    assert isinstance(first.build(models), Ease)
    assert isinstance(second.build(models), ImplicitFactors)
    assert implicit_of(SETTINGS, models).rank == 5


@pytest.mark.parametrize(("most", "least"), [(ITEMS, 3), (2, 7)])
def test_items_are_summed_from_the_settings_threshold_on_and_where_they_fit(make_content, most, least):
    models = {"rating": shared_with([9.0, 6.0, 4.0, 8.0])}
    ranking = SETTINGS.ranking.model_copy(update={"memory_gigabytes": COPIES * 8 * most**2 / 1e9})
    small = SETTINGS.model_copy(update={"ranking": ranking})
    # Of two items that fit, the third most rated has 6 raters: an item needs more.
    assert ease_of(small, make_content(ITEMS), models).least_raters == least
    assert ease_of(SETTINGS, make_content(ITEMS), models, most).least_raters == least
    assert implicit_of(SETTINGS, models).least_raters == 3

"""The browser's numbers are Python's: on the rounded arrays to 1e-6, the whole model's to .002 stars."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hierfed.data.federation import Node
from hierfed.data.ratings import Ratings, rows_to_predict
from hierfed.methods.hierarchical.factor_states import state_of
from hierfed.methods.hierarchical.in_browser import browser_model, with_rounded
from hierfed.methods.hierarchical.models_of_nodes import model_of_node
from hierfed.methods.hierarchical.shared_model import FactorsModel
from hierfed.models.kriging import Kriging, Observations

USERS, ITEMS = 200, 50
ASK = """([users, count]) => { const shared = hierfed.decoded(HIERFED_DATA);
return users.map(rated => { const model = hierfed.userModel(shared, rated, new Map()), all = hierfed.means(model);
return [...Array(count).keys()].map(item => { const found = hierfed.distribution(model, item);
return [found.mean, found.variance, all[item]]; }); }); }"""
WHY = """rated => { const shared = hierfed.decoded(HIERFED_DATA), model = hierfed.userModel(shared, rated, new Map());
return [...Array(shared.items).keys()].map(item => hierfed.reasons(model, item).map(each => each.moved)); }"""


def rows_of(rated):
    items, stars = (
        (np.array(column) for column in zip(*sorted(rated), strict=True)) if rated else (np.zeros(0), np.zeros(0))
    )
    return Ratings(np.zeros(len(items), np.int32), items.astype(np.int32), stars.astype(np.float32))


def people():
    """Ratings of 200 people, from none to all of the items."""
    rng = np.random.default_rng(1)
    for user in range(USERS):
        items = rng.choice(ITEMS, min(user // 3, ITEMS), replace=False).tolist()
        yield [[item, float(rng.integers(1, 11) / 2)] for item in items]


@pytest.fixture(scope="module")
def learners(model):
    """Functions from ratings to a user's model: by the rounded arrays, and by the whole model."""
    served = model.served
    method = served.method
    whole = method.knowledge(served.shared)
    page = browser_model(whole, method.strengths.noise)

    def learner(knowledge):
        arrays = {**served.shared.arrays, **knowledge.beliefs.arrays()}
        ready = FactorsModel(arrays, served.shared.round, knowledge.design)

        def learn(rated):
            rows = rows_of(rated)
            if not rated:
                return replace(served.newcomer.model, knowledge=knowledge)
            return model_of_node(
                method, ready, knowledge, state_of([Node(0, "", rows, rows.between(0, 0))], None), None
            )

        return learn

    return learner(with_rounded(whole, dict(page.of_items))), learner(whole)


@pytest.fixture(scope="module")
def tab(chromium, site):
    page = chromium.new_page()
    page.goto((site / "some" / "place" / "index.html").as_uri())
    yield page
    page.close()


def test_two_hundred_people_get_the_same_numbers(learners, tab):
    everyone = list(people())
    found = np.array(tab.evaluate(ASK, [everyone, ITEMS]))
    every = rows_to_predict(np.zeros(ITEMS, np.int64), np.arange(ITEMS))
    for learn, close in zip(learners, (1e-6, 0.002), strict=True):
        expected = [torch.stack(learn(rated).distribution(every), 1).numpy() for rated in everyone]
        np.testing.assert_allclose(found[:, :, :2], expected, rtol=0, atol=close)
    np.testing.assert_allclose(found[:, :, 2], found[:, :, 0], rtol=0, atol=1e-9)


def test_a_reason_is_what_is_missing_without_the_rating(learners, tab):
    """The truth is a kriging of the other ratings, with their noise and prior held."""
    rated = next(each for each in people() if len(each) == 7)
    found = np.array(tab.evaluate(WHY, rated))
    model, every = learners[0](rated), torch.arange(ITEMS)
    knowledge, own = model.knowledge, model.own
    vectors = knowledge.kriging_vectors(every)

    def deviation(kept):
        some = {name: getattr(own, name)[kept] for name in ("items", "ratings", "vectors", "residuals", "noise")}
        kriging = knowledge.kriging(Observations(counts=torch.tensor([len(kept)]), **some))
        assert isinstance(kriging, Kriging)
        return kriging.predict(torch.zeros_like(every), every, vectors)[0]

    whole = deviation(list(range(7)))
    expected = [whole - deviation([k for k in range(7) if k != left]) for left in range(7)]
    np.testing.assert_allclose(found, torch.stack(expected, 1) * knowledge.scale.unit, rtol=0, atol=1e-6)
    alone = np.array(tab.evaluate(WHY, rated[:1]))
    assert alone.shape == (ITEMS, 1)

"""What is recorded of models, by hand on a few rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from hierfed.data.federation import Node
from hierfed.data.ratings import Ratings
from hierfed.errors import HierfedError
from hierfed.evaluation.judging import JudgedRows, judge_intervals, judge_node, judge_nodes, judge_users, judged_items
from hierfed.federated.contract import SharedModel
from hierfed.federated.private import PersonalModel, UncertainModel
from hierfed.models.places import numbers_of

# Half of a central normal interval of 90%, in standard deviations.
HALF = 1.6448536269514722


def rows(
    after: list[float],
    deviation: list[float] | None = None,
    item: list[int] | None = None,
    user: list[int] | None = None,
    own: list[int] | None = None,
) -> JudgedRows:
    count = len(after)
    return JudgedRows(
        user=np.array(user or [0] * count),
        item=np.array(item or [0] * count),
        before=np.full(count, 2.0),
        after=np.array(after),
        deviation=np.full(count, np.nan) if deviation is None else np.array(deviation),
        own=np.array(own or [0] * count),
        dated=np.full(count, np.nan),
        dated_deviation=np.full(count, np.nan),
    )


def test_coverage_is_the_share_of_errors_within_their_interval():
    first = rows([1.6, -1.6, 1.7, -1.7], [1.0, 1.0, 1.0, 1.0])
    second = rows([0.0, 0.9, -3.2, 3.3], [0.1, 0.5, 2.0, 2.0])
    found = judge_intervals([first, second])
    assert found is not None
    assert found.level == 0.9
    # Within are 1.6, -1.6; 0 and -3.2.
    assert found.coverage == 4 / 8
    assert found.mean_width == pytest.approx(2 * HALF * (4 + 0.1 + 0.5 + 2 + 2) / 8)


def test_coverage_is_told_by_the_number_of_own_ratings_with_an_error_by_user():
    half = [1.0] * 6
    first = rows([0.0, 2.0, 0.0, 0.0], half[:4], user=[1, 1, 2, 2], own=[9, 9, 3, 3])
    found = judge_intervals([first, rows([0.0, 5.0], [3.0, 1.0], user=[3, 4], own=[10, 200])])
    assert found is not None
    assert [(each.own_ratings, each.rows, each.coverage) for each in found.groups] == [
        ("0 to 9", 4, 0.75),
        ("10 to 19", 1, 1.0),
        ("160 or more", 1, 0.0),
    ]
    # User 1 has one hit of two, 1.5 expected; user 2 both: -.5 and .5.
    assert found.groups[0].standard_error == pytest.approx(np.sqrt(0.5) / 4)
    assert found.groups[1].mean_width == pytest.approx(6 * HALF)


def test_models_that_do_not_say_how_sure_they_are_have_no_intervals():
    assert judge_intervals([rows([1.0, 2.0]), rows([0.5])]) is None


def test_normal_errors_are_covered_as_often_as_they_should():
    rng = np.random.default_rng(0)
    deviation = rng.uniform(0.5, 2, 20_000)
    found = judge_intervals([rows((deviation * rng.normal(0, 1, 20_000)).tolist(), deviation.tolist())])
    assert found is not None
    assert found.coverage == pytest.approx(0.9, abs=0.007)


def test_items_and_errors_are_those_of_the_personal_models_on_all_nodes():
    found = judged_items([rows([1.0, 2.0, 3.0], item=[0, 1, 2]), rows([4.0, 5.0], item=[3, 1])])
    assert found.item.tolist() == [0, 1, 2, 3, 1]
    assert found.error.tolist() == [1, 2, 3, 4, 5]


def test_users_of_all_nodes_are_judged_together():
    judged = [rows([1.0, 3.0, 0.0], user=[4, 4, 7]), rows([2.5], user=[1])]
    found = judge_users(judged)
    assert found.users == 3
    assert found.rmse_before == 2.0
    assert found.rmse_after == pytest.approx(np.sqrt((1 + 9 + 6.25) / 4))
    assert found.macro_rmse_after == pytest.approx((np.sqrt(5) + 0 + 2.5) / 3)
    assert found.gains == pytest.approx(sorted([2 - np.sqrt(5), 2.0, -0.5]))
    assert found.share_worse == pytest.approx(2 / 3)


class Shared:
    """A method whose shared model says 3 of everything."""

    def predict(self, _shared: SharedModel, ratings: Ratings) -> Tensor:
        return torch.full((len(ratings),), 3.0, dtype=torch.float64)


class Sure(UncertainModel):
    """A model that says user + item / 10, with a variance of 1 + item, and knows of ratings up to 2."""

    interpolates = True

    def distribution(self, rows: Ratings) -> tuple[Tensor, Tensor]:
        user, item = numbers_of(rows)
        return user + item / 10, 1.0 + item.double()

    def within(self, ratings: Tensor) -> Tensor:
        return ratings.clamp(max=2)


class Unsure(PersonalModel):
    def predict(self, rows: Ratings) -> Tensor:
        user, item = numbers_of(rows)
        return user + item / 10


class Broken(PersonalModel):
    def predict(self, rows: Ratings) -> Tensor:
        return torch.full((len(rows),), torch.nan)


@pytest.fixture
def node() -> Node:
    test = Ratings(np.array([1, 2, 2]), np.array([3, 1, 5]), np.array([1.0, 2.0, 4.0]))
    train = Ratings(np.array([1, 8]), np.array([1, 1]), np.array([1.0, 5.0]))
    return Node(0, "a", train, test)


def test_a_node_s_record_and_rows_are_those_of_its_own_model(node: Node):
    record, judged = judge_node(Shared(), SharedModel({}), node, Sure())  # type: ignore[arg-type]
    assert judged.user.tolist() == [1, 2, 2]
    assert judged.item.tolist() == [3, 1, 5]
    np.testing.assert_allclose(judged.before, [2, 1, -1])
    # 1.3, and 2.1 and 2.5, of which the model knows that there are none.
    np.testing.assert_allclose(judged.after, [0.3, 0, -2], atol=1e-6)
    np.testing.assert_allclose(judged.deviation, [2, np.sqrt(2), np.sqrt(6)])
    assert (record.node, record.users, record.train_rows, record.test_rows) == ("a", 3, 2, 3)
    assert record.rmse_before == pytest.approx(np.sqrt(2))
    assert record.rmse_after == pytest.approx(np.sqrt((0.09 + 4) / 3), abs=1e-6)
    assert record.mae_after == pytest.approx(2.3 / 3, abs=1e-6)
    assert record.gain == pytest.approx(record.rmse_before - record.rmse_after)
    assert np.isnan(record.train_gain), "it repeats the ratings that it was fitted on"
    assert np.isnan(record.weight_change_l2), "it has no layers"


def test_a_model_that_is_not_sure_has_no_deviations(node: Node):
    record, judged = judge_node(Shared(), SharedModel({}), node, Unsure())  # type: ignore[arg-type]
    assert np.isnan(judged.deviation).all()
    np.testing.assert_allclose(judged.after, [0.3, 0.1, -1.5], atol=1e-6)
    # On the train rows the shared model is off by 2 and -2, this one by 0.1 and 3.1.
    assert record.train_gain == pytest.approx(2 - np.sqrt((0.01 + 9.61) / 2), abs=1e-6)


def test_nodes_are_judged_in_their_order_and_counted(node: Node):
    models = [Sure(), Unsure(), Unsure(), Sure(), Unsure()]
    nodes = [
        replace(node, number=place, name=str(place), test=node.test.between(0, 3 - place % 3)) for place in range(5)
    ]
    told: list[tuple[int, int]] = []
    found = judge_nodes(
        Shared(),  # type: ignore[arg-type]
        SharedModel({}),
        nodes,
        models,
        lambda done, total: told.append((done, total)),
    )
    assert told == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
    assert [record.node for record, _ in found] == ["0", "1", "2", "3", "4"]
    for place, (record, judged) in enumerate(found):
        alone, rows = judge_node(Shared(), SharedModel({}), nodes[place], models[place])  # type: ignore[arg-type]
        assert record.model_dump_json() == alone.model_dump_json()
        np.testing.assert_array_equal(judged.after, rows.after)
        np.testing.assert_array_equal(judged.deviation, rows.deviation)


def test_a_personal_model_that_is_no_number_is_refused(node: Node):
    with pytest.raises(HierfedError, match="diverged on node a"):
        judge_node(Shared(), SharedModel({}), node, Broken())  # type: ignore[arg-type]

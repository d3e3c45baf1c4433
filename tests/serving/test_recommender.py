"""The library: lists, predictions, likenesses, reasons and lists of all, for known users and for new ones."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

import hierfed
from hierfed import Recommender
from hierfed.data.federation import Node
from hierfed.data.ratings import Ratings, rows_to_predict
from hierfed.errors import HierfedError
from hierfed.models.intervals import quantile

EXAMPLES = Path(__file__).parents[2] / "examples"
MINE = {"3": 5, 7: 1.5, "11": 4}


def test_a_list_keeps_to_its_limits(model):
    seen = set(model.items["item_id"].cast(pl.String)[model.served.user("4").seen.tolist()])
    every = {item.item for item in model.recommend("4", k=100).items}
    assert len(every) == 50 - len(seen)
    assert not every & seen
    assert len(model.recommend("4", k=100, include_seen=True).items) == 50
    assert not {item.item for item in model.recommend("4", k=100, exclude=["9", 10]).items} & {"9", "10"}
    among = [item.item for item in model.recommend("4", among=[9, 10, 12], include_seen=True).items]
    assert sorted(among, key=int) == ["9", "10", "12"]
    noir = model.recommend("4", k=100, genres=["Film-Noir"], years=(1960, 1980), include_seen=True).items
    assert {int(item.item) for item in noir} == {k + 1 for k in range(10, 31) if not k % 3}


def test_an_order_by_rating_is_that_of_the_expected_ratings_by_factors(model):
    found = model.recommend("4", k=50, order="rating", include_seen=True)
    scores = [item.score for item in found.items]
    assert found.ordered_by == "rating"
    assert scores == sorted(scores, reverse=True)
    with pytest.raises(HierfedError, match="no order 'best': this run has popularity, rating"):
        model.recommend("4", order="best")


def test_a_new_person_gets_the_model_of_a_user_who_took_part_in_nothing(model):
    """The independent truth is a node of its own, personalised from scratch."""
    served = model.served
    rows = Ratings(np.zeros(3, np.int32), np.array([2, 6, 10], np.int32), np.array([5, 1.5, 4], np.float32))
    alone = served.method.personalise(served.shared, [Node(0, "", rows, rows.between(0, 0))], [None])[0]
    mean, variance = alone.distribution(rows_to_predict(np.zeros(50, np.int64), np.arange(50)))
    found = model.predict(ratings=MINE, items=list(range(1, 51)))
    np.testing.assert_allclose(found["rating"], mean.clamp(0.5, 5), atol=1e-9)
    np.testing.assert_allclose(found["highest"], (mean + quantile() * variance.sqrt()).clamp(0.5, 5), atol=1e-9)
    answer = model.recommend(ratings=MINE, k=47)
    assert {item.item for item in answer.items} == {str(k) for k in range(1, 51)} - {"3", "7", "11"}
    listed = next(item.reasons for item in answer.items if item.item == "9")
    why = model.explain(None, "9", ratings=MINE)
    assert [each.item for each in why] == [each.item for each in listed]
    assert [each.moved for each in why] == pytest.approx([each.moved for each in listed], abs=1e-9)


def test_rows_are_predicted_in_their_order_and_strangers_are_told(model):
    rows = {"user": ["4", "nobody", "4"], "item": ["9", "9", "2"]}
    found = model.predict(rows)
    assert found.select("user", "item").to_dict(as_series=False) == rows
    assert found["known"].to_list() == [True, False, True]
    assert found.equals(model.predict(pd.DataFrame(rows)))
    one = model.served.user("4").model.predict(rows_to_predict(np.zeros(1, int), np.array([8])))
    assert found["rating"][0] == pytest.approx(float(one), abs=1e-12)
    assert (found["lowest"] <= found["rating"]).all()
    assert model.predict({"user": [], "item": []}).height == 0


def test_items_alike_are_those_of_the_greatest_correlation_between_users(model):
    """The truth is drawn: users' weights from their prior, and the kernel's covariance beside them."""
    knowledge = model.served.newcomer.model.knowledge
    every = torch.arange(50)
    vectors = knowledge.kriging_vectors(every)
    spread = torch.block_diag(knowledge.beliefs.user_spread, torch.tensor([[0.1]], dtype=torch.float64))
    whole = vectors @ spread @ vectors.T + knowledge.kernel.between(every[None], every[None])[0]
    root = whole.diagonal().sqrt()
    expected = (whole / root[:, None] / root[None, :])[8]
    expected[8] = -2
    found = model.similar("9", k=49)
    assert [each.likeness for each in found] == pytest.approx(expected.sort(descending=True).values[:49].tolist())
    assert found[0].title == model.items["title"][int(found[0].item) - 1] + f" ({1949 + int(found[0].item)})"


@pytest.mark.parametrize("order", ["", "rating", "ease"])
def test_the_lists_of_all_are_those_of_single_calls(model, tmp_path, order):
    found = model.recommend_all(5, out=tmp_path / "lists", order=order, batch=16).collect()
    assert len(list((tmp_path / "lists").glob("*.parquet"))) == 3
    for user in model.users:
        one = [item.item for item in model.recommend(user, k=5, order=order).items]
        assert found.filter(pl.col("user") == user).sort("rank")["item"].to_list() == one
    assert found.equals(model.recommend_all(5, order=order).collect())
    with pytest.raises(HierfedError, match="exists"):
        model.recommend_all(5, out=tmp_path / "lists")


def test_users_learn_from_more_ratings_in_memory(films):
    mine = hierfed.fit(films, "local", protocol="warm", scale=(0.5, 5.0))
    mine.update({"user": ["anna", "anna", "4"], "item": ["3", "5", "9"], "rating": [5, 1, 2.5]})
    expected = mine.predict(ratings={"3": 5, "5": 1}, items=["8"])["rating"].item()
    assert mine.predict({"user": ["anna"], "item": ["8"]})["rating"].item() == pytest.approx(expected, abs=1e-12)
    assert "anna" in mine.users
    assert not {"3", "5"} & {item.item for item in mine.recommend("anna", k=50).items}
    assert "9" not in {item.item for item in mine.recommend("4", k=50).items}


def test_titles_are_found_by_their_words_in_any_case(model):
    found = model.find("the RIVER 2", k=50)
    assert {each["item"] for each in found} == {
        str(k + 1) for k in range(50) if "The River" in each_title(k) and "2" in each_title(k)
    }
    assert model.find("zzz") == []


def each_title(k: int) -> str:
    words = ("Night", "Garden", "The River", "Return", "Stone", "Winter")
    return f"{words[k % 6]} {words[k // 6 % 6]} {k}"


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (lambda model: model.recommend(), "one of the two"),
        (lambda model: model.recommend("4", k=0), "at least 1"),
        (lambda model: model.recommend("4", genres=["Comdy"]), "no genre 'Comdy', did you mean 'Comedy'?"),
        (lambda model: model.recommend(ratings={"999": 3}), "no item '999'"),
        (lambda model: model.recommend(ratings={"9": 7}), "from 0.5 to 5"),
        (lambda model: model.recommend(ratings={"9": float("nan")}), "from 0.5 to 5"),
        (lambda model: model.predict({"user": ["4"]}), "no column 'item'"),
        (lambda model: model.predict(3), "a table of int"),
        (lambda model: hierfed.fit({"user": [1]}, rank="many"), "rank"),
        (lambda model: hierfed.Hierarchical().predict(None), "learned nothing yet"),
        (lambda model: hierfed.Hierarchical().set_params(ranks=3), "no parameter 'ranks'"),
    ],
)
def test_what_cannot_be_answered_is_one_line(model, ask, told):
    with pytest.raises(HierfedError, match=r"(?s)^[^\n]*$") as error:
        ask(model)
    assert told in str(error.value)


def test_a_saved_run_is_loaded(model):
    again = hierfed.load(model.served.folder)
    assert isinstance(again, Recommender)
    assert again.recommend("4", k=5) == model.recommend("4", k=5)


def test_an_estimator_keeps_what_it_was_given(films):
    ratings = pl.read_csv(films / "ratings.csv").rename({"userId": "user", "movieId": "item"})
    made = hierfed.Local(seed=3)
    assert made.get_params() == {"seed": 3, "protocol": "warm"}
    assert repr(made.set_params(seed=4)) == "Local(seed=4, protocol='warm')"
    assert made.fit(ratings) is made
    assert (made.n_users_, made.n_items_) == (40, 50)
    np.testing.assert_array_equal(made.predict(ratings), made.model_.predict(ratings)["rating"])
    assert made.recommend("4", k=2) == made.model_.recommend("4", k=2)


@pytest.mark.parametrize("name", ["recommend", "estimator"])
def test_the_newcomers_lines_run(films, tmp_path, monkeypatch, capsys, name):
    ratings = pl.read_csv(films / "ratings.csv", new_columns=["user", "item", "rating"])
    ratings.write_csv(tmp_path / "ratings.csv")
    monkeypatch.chdir(tmp_path)
    code = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    (tmp_path / f"{name}.py").write_text(code.replace("rounds=20", "rounds=2, rank_items=False, select=False"))
    runpy.run_path(str(tmp_path / f"{name}.py"))
    assert len(capsys.readouterr().out.split()) >= 3

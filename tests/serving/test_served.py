"""A saved run of the hierarchical model, in another process: the same numbers, and recommendations that hold."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from hierfed.data.ratings import Ratings, rows_to_predict
from hierfed.errors import HierfedError
from hierfed.evaluation.ranking import judge_ranking
from hierfed.experiment import run_experiment
from hierfed.methods import Case, prepare
from hierfed.methods.hierarchical.personal import PersonalFactors
from hierfed.outcome import Outcome
from hierfed.runs import reports
from hierfed.runs.models import load_model
from hierfed.runs.private_files import user_file
from hierfed.serving.served import Served
from hierfed.settings import load_settings

USERS, ITEMS, PER_USER = 40, 50, 16
SMALL: dict[str, Any] = {
    "rounds": 5,
    "nodes": 3,
    "personal_nodes": 2,
    "rank": 3,
    "embedding_rank": 4,
    "min_raters": 3,
    "validation_rounds": 3,
    "implicit_rank": 4,
    "implicit_rounds": 2,
    "least_raters": 3,
}


def write_folder(place: Path) -> str:
    """Ratings of users with odd ids, on films with genres and years, one of them without a title."""
    rng = np.random.default_rng(3)
    quality, taste = rng.normal(0, 0.7, ITEMS), rng.normal(0, 0.5, USERS)
    rows = [
        (f"user/{user} & co", item + 1, float(np.clip(round(2 * (3.4 + quality[item] + taste[user])) / 2, 0.5, 5)))
        for user in range(USERS)
        for item in rng.choice(ITEMS, PER_USER, replace=False).tolist()
    ]
    pl.DataFrame(rows, schema=["user", "item", "rating"], orient="row").write_csv(place / "ratings.csv")
    return str(place / "ratings.csv")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Path]:
    source = write_folder(tmp_path_factory.mktemp("table"))
    outcome = run_experiment(load_settings("hierarchical", {**SMALL, "data.source": source, "refit": "none"}))
    folder = tmp_path_factory.mktemp("runs") / "mine"
    reports.save_run(outcome, folder)
    return outcome, folder


def number_of(outcome: Outcome, item_id: str) -> int:
    """An item's number in the run, from the source's id."""
    return outcome.dataset.catalogue.frame["item_id"].cast(pl.String).to_list().index(item_id)


def rows_of(outcome: Outcome) -> list[tuple[int, int, float]]:
    """User, item and rating of every row that the run read."""
    ratings = outcome.dataset.ratings
    return list(zip(ratings.user.tolist(), ratings.item.tolist(), ratings.value.tolist(), strict=True))


def everyone(outcome: Outcome) -> list[tuple[PersonalFactors, int]]:
    """Every user of the run with the model of the node that holds it."""
    models = [model for model in outcome.private_models().values() if isinstance(model, PersonalFactors)]
    return [(model, user) for model in models for user in model.users.tolist()]


def test_every_user_of_every_node_has_a_file_of_its_own_that_only_its_owner_reads(saved):
    outcome, folder = saved
    files = sorted(path.name for path in (folder / "private").glob("*/*"))
    assert files == sorted(f"{user_file(str(name))}.safetensors" for name in outcome.dataset.user_ids)
    assert {path.parent.name for path in (folder / "private").glob("*/*")} == {
        "node-1",
        "node-2",
        "federated-1",
        "federated-2",
        "federated-3",
    }
    assert stat.S_IMODE((folder / "private").stat().st_mode) == 0o700


def test_another_process_predicts_the_same_numbers(saved):
    outcome, folder = saved
    script = (
        "import json, sys, torch; from pathlib import Path; from hierfed.data.ratings import rows_to_predict\n"
        "from hierfed.serving.served import Served\n"
        "served = Served(Path(sys.argv[1])); items = torch.arange(len(served.catalogue))\n"
        "models = {name: served.user(name).model for name in json.loads(sys.argv[2])}\n"
        "print(json.dumps({name: [each.tolist() for each in"
        " (*model.distribution(rows_to_predict(torch.zeros_like(items), items)), model.influence(items).moved[:, 0])]"
        " for name, model in models.items()}))"
    )
    names = [str(name) for name in outcome.dataset.user_ids]
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder), json.dumps(names)], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    items = torch.arange(outcome.dataset.items)
    assert len(everyone(outcome)) == USERS
    for model, user in everyone(outcome):
        mean, variance = model.distribution(rows_to_predict(torch.full_like(items, user), items))
        place, scale = model.users.tolist().index(user), model.knowledge.scale
        vectors = model.knowledge.kriging_vectors(items)
        moved = scale.unit * model.knowledge.kriging(model.own).influence(place, items, vectors).moved[:, 0]
        expected = [each.tolist() for each in (mean, variance, moved)]
        np.testing.assert_allclose(found[names[user]], expected, rtol=0, atol=1e-9)


def test_a_method_is_the_same_after_it_was_written_down(saved):
    outcome, folder = saved
    kept = load_model(folder)
    again = prepare(Case(kept.settings, kept.catalogue, kept.limits)).method
    assert replace(again, content=outcome.method.content) == outcome.method


def test_recommendations_are_unseen_in_the_order_of_the_blend_with_what_moved_them(saved):
    outcome, folder = saved
    model, user = next((model, user) for model, user in everyone(outcome) if user in model.users.tolist())
    name = str(outcome.dataset.user_ids[user])
    answer = Served(folder).recommend(name, 10)
    place = model.users.tolist().index(user)
    own = torch.split(model.own.items, model.own.counts.tolist())[place]
    assert (answer.known, answer.ordered_by) == (True, "score")
    numbers = [number_of(outcome, each.item) for each in answer.items]
    assert len(set(numbers)) == 10
    assert not set(numbers) & set(own.tolist())
    assert [each.rank for each in answer.items] == list(range(1, 11))
    scores = [each.score for each in answer.items]
    assert scores == sorted(scores, reverse=True)
    stars = {(int(user), int(item)): float(value) for user, item, value in rows_of(outcome)}
    for number, each in zip(numbers, answer.items, strict=True):
        mean, variance = model.distribution(rows_to_predict(torch.tensor([user]), torch.tensor([number])))
        half = 1.6448536269514722 * float(variance.sqrt())
        assert each.rating == pytest.approx(min(max(float(mean), 0.5), 5.0), abs=1e-9)
        assert each.highest == pytest.approx(np.clip(float(mean) + half, 0.5, 5), abs=1e-6)
        assert each.lowest == pytest.approx(np.clip(float(mean) - half, 0.5, 5), abs=1e-6)
        assert len(each.reasons) == 3
        assert all(stars[user, number_of(outcome, reason.item)] == reason.rating for reason in each.reasons)
        order = [(reason.moved < 0, -abs(reason.moved)) for reason in each.reasons]
        assert order == sorted(order)


def test_the_influence_of_a_rating_is_what_the_expected_rating_loses_without_it(saved):
    outcome, folder = saved
    user = Served(folder).user(str(outcome.dataset.user_ids[4]))
    assert user is not None
    model, items = user.model, torch.arange(outcome.dataset.items)
    found, own = model.influence(items), model.own
    mean, _ = model.distribution(rows_to_predict(torch.zeros_like(items), items))
    for place in range(len(own.items)):
        rest = torch.arange(len(own.items)) != place
        parts = {name: getattr(own, name)[rest] for name in ("items", "ratings", "vectors", "residuals", "noise")}
        fewer = replace(model, observe=partial(replace, own, counts=own.counts - 1, **parts))
        without, _ = fewer.distribution(rows_to_predict(torch.zeros_like(items), items))
        # Distances between items are rounded otherwise in a matrix of another size.
        torch.testing.assert_close(found.moved[:, place], mean - without, rtol=0, atol=1e-6)


def test_a_user_without_ratings_gets_what_suits_a_newcomer_and_is_told_so(saved):
    outcome, folder = saved
    answer = Served(folder).recommend("nobody", 5)
    assert (answer.known, answer.ordered_by) == (False, "rating")
    ratings = [each.rating for each in answer.items]
    assert ratings == sorted(ratings, reverse=True)
    assert all(each.reasons == () for each in answer.items)
    items = torch.tensor([number_of(outcome, each.item) for each in answer.items])
    nobody = torch.full_like(items, 10**6)
    expected = outcome.personal_models[0].predict(rows_to_predict(nobody, items))
    np.testing.assert_allclose(ratings, expected, rtol=0, atol=1e-9)


def test_more_items_than_there_are_gives_all_that_are_unseen(saved):
    _, folder = saved
    answer = Served(folder).recommend("user/0 & co", 1000)
    assert len(answer.items) == ITEMS - PER_USER


def test_the_figures_of_the_result_are_those_of_the_recommendation_lists(saved):
    outcome, folder = saved
    served = Served(folder)

    def scores(users: torch.Tensor) -> torch.Tensor:
        rows = []
        for user in users.tolist():
            answer = served.recommend(str(outcome.dataset.user_ids[user]), ITEMS, include_seen=True)
            row = torch.full((ITEMS,), -1e9, dtype=torch.float64)
            numbers = [number_of(outcome, each.item) for each in answer.items]
            row[numbers] = -torch.arange(len(answer.items), dtype=torch.float64)
            rows.append(row)
        return torch.stack(rows)

    nodes = outcome.personal_nodes
    train, test = (
        Ratings(*(np.concatenate([getattr(rows, name) for rows in part]) for name in ("user", "item", "value")))
        for part in ([node.train for node in nodes], [node.test for node in nodes])
    )
    found = judge_ranking({"lists": scores}, train, test, ITEMS)["lists"]
    assert outcome.result.ranking["ndcg@10"] == pytest.approx(found.ndcg_at_10, abs=1e-9)
    assert outcome.result.ranking["recall@20"] == pytest.approx(found.recall_at_20, abs=1e-9)
    assert outcome.result.ranking["hr@10"] == pytest.approx(found.hit_rate_at_10, abs=1e-9)


def test_a_folder_without_a_run_is_refused_in_one_line(tmp_path):
    with pytest.raises(HierfedError, match="no run to recommend from"):
        Served(tmp_path)


def test_a_model_of_another_kind_is_refused_by_name(saved, tmp_path):
    _, folder = saved
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    with safe_open(copy / "model.safetensors", framework="pt") as file:
        header = file.metadata() | {"format": "hierfed averaging 9"}
    header.pop("sha256")
    arrays = load_file(copy / "model.safetensors")
    save_file(arrays, copy / "model.safetensors", metadata=header)
    with pytest.raises(
        HierfedError, match="holds 'hierfed averaging 9', and this version reads 'hierfed hierarchical 3'"
    ):
        Served(copy)


def test_nothing_shared_holds_a_users_ratings_or_posterior(saved):
    outcome, folder = saved
    model, user = everyone(outcome)[0]
    secrets = [model.posterior.mean[0], model.own.residuals[:3], model.precision[:1]]
    for name in ("model.safetensors", "ranking.safetensors"):
        content = (folder / name).read_bytes()
        for secret in secrets:
            assert secret.contiguous().numpy().tobytes()[:8] not in content
        with safe_open(folder / name, framework="pt") as file:
            assert str(outcome.dataset.user_ids[user]) not in json.dumps(file.metadata())

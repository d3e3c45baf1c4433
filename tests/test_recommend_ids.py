"""Users are served by the ids that they have in the ratings, and a run by its own name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from hierfed.cli import app
from hierfed.experiment import run_experiment
from hierfed.runs import reports
from hierfed.serving.served import Served
from hierfed.settings import load_settings

USERS, ITEMS, PER_USER = 24, 30, 10
NAMES = {0: "5", 1: "005", 2: "00005", 3: "५"}
SMALL = {
    "rounds": 2,
    "nodes": 2,
    "personal_nodes": 2,
    "rank": 2,
    "embedding_rank": 2,
    "embedding_rounds": 1,
    "min_raters": 2,
    "validation_rounds": 2,
    "rank_items": False,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, set[str]]]:
    """A saved run under protocol warm, and what each of the users with odd ids has rated."""
    rng, place = np.random.default_rng(4), tmp_path_factory.mktemp("odd ids")
    rows = [
        (NAMES.get(user, f"u{user}"), f"{item:04}", float(rng.integers(1, 11)) / 2)
        for user in range(USERS)
        for item in rng.choice(ITEMS, PER_USER, replace=False).tolist()
    ]
    pl.DataFrame(rows, schema=["user", "item", "rating"], orient="row").write_csv(place / "ratings.csv")
    settings = {**SMALL, "data.source": str(place / "ratings.csv"), "protocol": "warm"}
    reports.save_run(run_experiment(load_settings("hierarchical", settings)), place / "exp[1]")
    return place / "exp[1]", {name: {item for user, item, _ in rows if user == name} for name in NAMES.values()}


def test_users_are_told_apart_by_their_ids_as_written(run):
    folder, rated = run
    served = Served(folder)
    titles = [str(each) for each in served.catalogue.frame["item_id"]]
    for name, items in rated.items():
        own = served.user(name)
        assert own is not None
        assert {titles[item] for item in own.own.item.tolist()} <= items


@pytest.mark.parametrize("user, known", [("00005", True), ("5", True), ("0005", False), ("5.0", False), ("+5", False)])
def test_recommend_knows_a_user_by_the_id_as_written(run, user, known):
    shown = CliRunner().invoke(app, ["recommend", str(run[0]), "--user", user, "--json"])
    assert json.loads(shown.stdout)["known"] == known


def test_a_run_s_name_is_no_pattern(run, tmp_path):
    """Else `exp[1]` would show the titles of its sibling `exp1`."""
    for name in ("exp[1]", "exp1"):
        shutil.copytree(run[0], tmp_path / name)
    path = tmp_path / "exp1" / "catalogue.parquet"
    pl.read_parquet(path).with_columns(title=pl.lit("wrong")).write_parquet(path)
    answer = Served(tmp_path / "exp[1]").recommend("5", 3)
    assert [each.title for each in answer.items if "wrong" in each.title] == []
    assert answer.known

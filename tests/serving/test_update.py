"""Users of a finished run learn from new, changed and withdrawn ratings; who did not change stays to the bit."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from hierfed.errors import HierfedError
from hierfed.experiment import run_experiment
from hierfed.runs import folder as runs
from hierfed.runs.private_files import PRIVATE, read_private
from hierfed.serving.served import Served
from hierfed.serving.update import Updated, update_users
from hierfed.settings import load_settings
from tests.serving.test_served import SMALL

USERS, ITEMS = 20, 15


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    rng = np.random.default_rng(3)
    rows = [
        (f"u{user}", f"i{item}", float(rng.integers(1, 11)) / 2, int(1_400_000_000 + rng.integers(0, 10**7)))
        for user in range(USERS)
        for item in rng.choice(ITEMS, 9, replace=False).tolist()
    ]
    return pl.DataFrame(rows, schema=["user", "item", "rating", "timestamp"], orient="row")


@pytest.fixture(scope="module")
def made(table, tmp_path_factory) -> Path:
    """A saved run, whose users have learned from all their ratings."""
    place = tmp_path_factory.mktemp("update")
    table.write_csv(place / "ratings.csv")
    small = {
        **SMALL,
        "select": False,
        "rounds": 3,
        "personal_nodes": 3,
        "data.source": str(place / "ratings.csv"),
        "protocol": "warm",
    }
    outcome = run_experiment(load_settings("hierarchical", small))
    with pytest.MonkeyPatch.context() as quick:
        quick.setattr(runs, "write_report", lambda result, folder: None)
        runs.save_run(outcome, place / "run")
    return place


@pytest.fixture
def run(made, tmp_path) -> Path:
    shutil.copytree(made / "run", tmp_path / "run")
    return tmp_path / "run"


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def source(table: pl.DataFrame, run: Path) -> str:
    table.write_csv(run.parent / "new.csv")
    return str(run.parent / "new.csv")


def withdrawn(table: pl.DataFrame, user: str) -> pl.DataFrame:
    """Without the first of a user's ratings."""
    first = table.with_row_index().filter(pl.col("user") == user)["index"][0]
    return table.with_row_index().filter(pl.col("index") != first).drop("index")


def test_no_new_data_changes_no_bit(table, run):
    before = files(run)
    shuffled = table.sample(fraction=1.0, shuffle=True, seed=1)
    assert update_users(run, source(shuffled, run)) == Updated(fitted=0, new=0, same=USERS, unknown=0)
    assert files(run) == before


def test_who_changed_is_fitted_and_nobody_else(table, run):
    before = files(run)
    mine = table["user"] == "u3"
    first = table.filter(mine)["item"][0]
    changed = table.with_columns(
        pl.when(mine & (pl.col("item") == first))
        .then(6.0 - pl.col("rating").clip(1.0))
        .otherwise("rating")
        .alias("rating")
    )
    newcomer = table.filter(pl.col("user") == "u7").with_columns(pl.lit("new").alias("user"))
    unknown = newcomer.head(1).with_columns(pl.lit("never seen").alias("item"))
    now = pl.concat([withdrawn(changed, "u5"), newcomer, unknown])
    assert update_users(run, source(now, run)) == Updated(fitted=3, new=1, same=USERS - 2, unknown=1)
    after = files(run)
    moved = {name for name in after if after[name] != before.get(name)}
    assert len(moved) == 4  # three users, and the list of files
    assert set(before) <= set(after)
    served = Served(run)
    for name in ("u3", "u5", "new"):
        model = served.user(name)
        expected = now.filter((pl.col("user") == name) & (pl.col("item") != "never seen"))
        kept = {
            served.catalogue.frame["item_id"][item]: value
            for item, value in zip(model.own.item.tolist(), model.own.value.tolist(), strict=True)
        }
        assert kept == pytest.approx(dict(expected.select("item", "rating").iter_rows()))
    assert served.recommend("new", 3).known


def test_a_rating_that_is_given_and_withdrawn_again_leaves_the_fit_of_the_same_ratings(table, run):
    """Items that the user keeps have the means that the training gave them without the user, both before and after."""
    (first,) = read_private(run, "hierarchical", "u2")
    without = withdrawn(table, "u2")
    assert update_users(run, source(without, run)).fitted == 1
    assert update_users(run, source(table, run)).fitted == 1
    (again,) = read_private(run, "hierarchical", "u2")
    one, other = first.tensors["items"].argsort(), again.tensors["items"].argsort()
    for name in ("items", "times", "ratings"):
        torch.testing.assert_close(first.tensors[name][one], again.tensors[name][other], rtol=0, atol=1e-6)
    same = (again.tensors["item_mean"][other] == first.tensors["item_mean"][one]).all(1)
    assert int((~same).sum()) <= 1
    torch.testing.assert_close(again.tensors["prior_mean"], first.tensors["prior_mean"], rtol=0, atol=1e-9)


def test_a_user_of_several_nodes_is_refused(table, run):
    (own,) = (run / PRIVATE).glob("*/" + read_private(run, "hierarchical", "u1")[0].path.name)
    (run / PRIVATE / "node-9").mkdir()
    shutil.copyfile(own, run / PRIVATE / "node-9" / own.name)
    with pytest.raises(HierfedError, match="user u1 lies on several nodes"):
        update_users(run, source(table, run))

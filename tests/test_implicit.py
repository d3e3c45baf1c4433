"""Data that say what was seen, and hold no rating: the ranking models alone, and no figure of ratings."""

from __future__ import annotations

import gzip
import sqlite3
import sys
import warnings
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from rich.console import Console

import hierfed
from hierfed import cli
from hierfed.api import Run
from hierfed.data.division import load_dataset
from hierfed.deployment.plan import check_deployable
from hierfed.errors import DataError, SettingsError
from hierfed.report import terminal
from hierfed.results import Baselines
from hierfed.serving.served import Served
from hierfed.settings import load_settings

USERS, ITEMS = 60, 40
SMALL: dict[str, Any] = {
    "implicit": True,
    "protocol": "warm",
    "rounds": 1,
    "rank": 2,
    "embedding_rank": 3,
    "embedding_rounds": 1,
    "implicit_rank": 3,
    "implicit_rounds": 3,
    "least_raters": 2,
    "min_raters": 2,
    "nodes": 2,
    "personal_nodes": 2,
}


@pytest.fixture(scope="module")
def seen() -> pl.DataFrame:
    """Users of two kinds: each sees items of its own half alone. Popularity, the same list for all, is half wrong."""
    rng = np.random.default_rng(5)
    rows = [
        (f"u{user}", f"i{item}")
        for user in range(USERS)
        for item in rng.choice(np.arange(ITEMS // 2) + (user % 2) * ITEMS // 2, 10, replace=False)
    ]
    return pl.DataFrame(rows, schema=["user", "item"], orient="row")


@pytest.fixture(scope="module")
def run(seen: pl.DataFrame) -> Run:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        return hierfed.run("hierarchical", data=seen, **SMALL)


def test_the_lists_are_judged_and_no_rating_is(run: Run) -> None:
    result = run.result
    assert set(result.metrics) == {"ndcg@10", "hr@10", "recall@20", "seconds"}
    assert {record.model for record in result.rankers} == {"popularity", "implicit", "ease", "blend"}
    assert result.selection is None
    assert all(np.isnan(getattr(result.baselines, key)) for key in Baselines.model_fields)
    by = {record.model: record.ndcg_at_10 for record in result.rankers}
    assert by["blend"] > 1.2 * by["popularity"]
    assert result.verdict.words == [
        f"What is recommended beats popularity: NDCG@10 {by['blend']:.4f} against {by['popularity']:.4f}."
    ]


def test_lists_are_of_the_users_own_half_and_hold_nothing_seen(run: Run, seen: pl.DataFrame, tmp_path: Path) -> None:
    run.save(tmp_path / "run")
    served = Served(tmp_path / "run")
    for user in (0, 1, 7):
        items = [int(item.item[1:]) for item in served.recommend(f"u{user}", 8).items]
        assert {item // (ITEMS // 2) for item in items} == {user % 2}
        assert not {f"i{item}" for item in items} & set(seen.filter(pl.col("user") == f"u{user}")["item"])
    told = Console(file=StringIO(), width=100)
    told.print(terminal.recommendations_table(served.recommend("u0", 3)))
    told.print(terminal.result_tables(run.result))
    page = (tmp_path / "run/report.html").read_text()
    for text in (told.file.getvalue(), page):  # type: ignore[attr-defined]
        assert "NDCG@10" in text
        assert "RMSE of every" not in text
        assert "nan" not in text
    assert "90% interval" not in told.file.getvalue()  # type: ignore[attr-defined]
    assert "lists alone are judged" in page


def test_every_form_gives_the_same_and_ratings_are_not_read(run: Run, seen: pl.DataFrame, tmp_path: Path) -> None:
    more = seen.with_columns(rating=pl.Series(np.arange(seen.height) % 5 + 1))
    with_repeats = pl.concat([more, more[::7]])
    with_repeats.write_csv(tmp_path / "repeats.csv")
    (tmp_path / "seen.csv.gz").write_bytes(gzip.compress(seen.write_csv().encode()))
    seen.write_parquet(tmp_path / "seen.parquet")
    with sqlite3.connect(tmp_path / "seen.sqlite") as database:
        database.execute("create table seen (user text, item text)")
        database.executemany("insert into seen values (?, ?)", seen.rows())
    for source, query in (
        ("repeats.csv", ""),
        ("seen.csv.gz", ""),
        ("seen.parquet", ""),
        ("seen.sqlite", "select user, item, 1 as rating from seen"),
    ):
        settings = load_settings(
            "hierarchical", {"data.source": str(tmp_path / source), "data.implicit": True, "data.query": query}
        )
        found = load_dataset(settings)
        own = run.outcome.dataset
        assert found.ratings.user.tolist() == own.ratings.user.tolist()
        assert found.ratings.item.tolist() == own.ratings.item.tolist()
        assert set(found.ratings.value.tolist()) == {1.0}


def test_what_cannot_learn_from_it_is_refused_in_one_line(seen: pl.DataFrame, tmp_path: Path) -> None:
    for preset in ("network", "item_biases", "local"):
        with pytest.raises(SettingsError, match="makes its lists by expected ratings, and these data hold none"):
            hierfed.run(preset, data=seen, implicit=True, protocol="warm", rounds=1)
    with pytest.raises(SettingsError, match="nodes of a real federation learn from ratings"):
        check_deployable(load_settings("hierarchical", {"data.implicit": True}))
    with pytest.raises(SettingsError, match=r"^data\.implicit: no rating is read"):
        load_settings("hierarchical", {"data.implicit": True, "data.no_rating": -1})
    with pytest.raises(SettingsError, match="leave it out"):
        load_settings("hierarchical", {"data.implicit": True, "data.scale": [1, 5]})
    with pytest.raises(DataError, match="or --implicit, where each row says that the user has seen the item"):
        hierfed.run("hierarchical", data=seen, protocol="warm")


def test_the_option_of_the_command_line(
    seen: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen.write_csv(tmp_path / "seen.csv")
    monkeypatch.chdir(tmp_path)
    small = [f"--set={key}={value}" for key, value in SMALL.items() if key not in ("implicit", "protocol")]
    arguments = ["run", "--data", "seen.csv", "--implicit", "--protocol", "warm", *small]
    monkeypatch.setattr(sys, "argv", ["hierfed", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    told = capsys.readouterr()
    assert not ended.value.code, told.err
    assert "What is recommended beats popularity" in told.out

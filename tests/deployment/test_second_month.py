"""The second month: SQLite nodes get new users and items, a fourth node joins, and lists are right at every moment."""

from __future__ import annotations

import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import polars as pl

from hierfed.data.reading.catalogue_file import read_catalogue
from hierfed.deployment.local_models import personalise
from hierfed.deployment.state import Origin
from hierfed.serving.served import Served

NAMES = ("node 1", "node 2", "node 10")
LATE = "node 11"
NEW_ITEMS = range(601, 606)


def add(path: Path, rows: list[tuple[str, str, float]]) -> None:
    with sqlite3.connect(path) as database:
        database.execute("create table if not exists ratings (user text, item text, rating real)")
        database.executemany("insert into ratings values (?, ?, ?)", rows)


def rated(path: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    with sqlite3.connect(path) as database:
        for user, item in database.execute("select user, item from ratings"):
            found.setdefault(user, set()).add(item)
    return found


def test_lists_are_right_at_every_moment_of_two_months(village, make_settings, data, tmp_path):
    def source(name: str) -> Path:
        return tmp_path / f"{name}.sqlite"

    def start(name: str) -> None:
        found.start(name, origin=Origin(str(source(name)), test_share=0.1))

    def check(name: str, items: set[str]) -> None:
        served = Served(found.sides[name].state.folder)
        for user, seen in rated(source(name)).items():
            answer = served.recommend(user, 1000)
            assert answer.known
            assert {each.item for each in answer.items} == items - seen

    for name in NAMES:
        own = data.table.filter(pl.col("node") == name).select(pl.col("user", "item").cast(pl.String), "rating")
        add(source(name), own.rows())
    found = village(make_settings("hierarchical"))
    for name in NAMES:
        start(name)
    found.serve()
    items = {str(item) for item in data.catalogue.frame["item_id"]}
    for name in NAMES:
        personalise(found.sides[name].state)
        check(name, items)

    users = {name: next(iter(rated(source(name)))) for name in NAMES}
    before = {name: Served(found.sides[name].state.folder).recommend(users[name], 5) for name in NAMES}
    more = data.catalogue.frame.select("item_id", "title", "year", "genres").with_columns(
        pl.col("item_id").cast(pl.Int64)
    )
    new = pl.DataFrame({"item_id": [*NEW_ITEMS], "title": [f"New {n}" for n in NEW_ITEMS]})
    pl.concat([more, new], how="diagonal").write_parquet(tmp_path / "items.parquet")
    for place, name in enumerate((*NAMES, LATE)):
        old = [(f"new-{place}-{k}", str(501 + (3 * k + place) % 30), 1.0 + (k + place) % 5) for k in range(4)]
        fresh = [(f"new-{place}-{k}", str(item), 1.0 + (item + k) % 5) for k in range(4) for item in NEW_ITEMS[:4]]
        add(source(name), old + fresh)
    shutil.rmtree(found.server)
    found.data = replace(data, catalogue=read_catalogue(tmp_path / "items.parquet"))
    for name in (*NAMES, LATE):
        start(name)
    moments = []

    def as_before(name: str, kind: str, _facts: object) -> str:
        if name in NAMES and kind in ("setup", "finish"):
            served = Served(found.sides[name].state.folder)
            moments.append(served.recommend(users[name], 5) == before[name])
        return ""

    found.serve(as_before)
    assert len(moments) >= 8
    assert all(moments)
    items |= {str(item) for item in NEW_ITEMS}
    for name in (*NAMES, LATE):
        personalise(found.sides[name].state)
        check(name, items)

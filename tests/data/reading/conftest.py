"""A table of every kind that people keep ratings in."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest

KINDS = ("csv", "parquet", "sqlite", "postgresql")


@pytest.fixture(params=KINDS)
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[pl.DataFrame], dict[str, str]]:
    """Write a frame of text and numbers as a table of one kind; gives what `load` needs to read it."""

    def write(frame: pl.DataFrame) -> dict[str, str]:
        path = tmp_path / f"table.{request.param}"
        kinds = {pl.String: "text", pl.Int64: "bigint", pl.Float64: "double precision"}
        columns = ", ".join(f'"{column.name}" {kinds[type(column.dtype)]}' for column in frame)
        if request.param == "csv":
            frame.write_csv(path)
        elif request.param == "parquet":
            frame.write_parquet(path)
        elif request.param == "sqlite":
            with closing(sqlite3.connect(path)) as base, base:
                base.execute(f"CREATE TABLE ratings ({columns})")
                marks = ", ".join("?" * frame.width)
                base.executemany(f"INSERT INTO ratings VALUES ({marks})", frame.rows())
        else:
            server = request.getfixturevalue("postgresql")
            request.getfixturevalue("no_settings_of_the_machine")

            def literal(value: object) -> str:
                return "NULL" if value is None else "'" + str(value).replace("'", "''") + "'"

            values = ", ".join("(" + ", ".join(map(literal, row)) + ")" for row in frame.rows())
            server.execute(
                "DROP TABLE IF EXISTS forms", f"CREATE TABLE forms ({columns})", f"INSERT INTO forms VALUES {values}"
            )
            return {"source": server.url(), "query": "SELECT * FROM forms"}
        return {"source": str(path)}

    return write

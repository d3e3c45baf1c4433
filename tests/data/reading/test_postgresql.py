"""Ratings out of a PostgreSQL server are the same as out of a file, whatever types and order they come in."""

import subprocess
import sys
import uuid

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hierfed.data.reading.sources import load
from hierfed.data.settings import TableSettings

pytestmark = pytest.mark.usefixtures("no_settings_of_the_machine")


def contents(dataset) -> tuple:
    frame, held = dataset.catalogue.frame, dataset.ratings
    time = None if held.time is None else held.time.tolist()
    return (
        dataset.user_ids.to_list(),
        frame["item_id"].to_list(),
        held.user.tolist(),
        held.item.tolist(),
        held.value.tolist(),
        time,
    )


def test_a_query_s_rows_are_the_ratings(ratings):
    dataset = load(ratings, query="SELECT * FROM ratings")
    times = [1000000002, 1000000003, 1000000000, 1000000001]
    assert contents(dataset) == ([3, 7], [10, 20, 40], [0, 0, 1, 1], [0, 2, 0, 1], [0.5, 5.0, 4.5, 3.0], times)


def test_both_words_for_the_server_a_mapping_and_a_semicolon(ratings):
    query = 'SELECT user_id AS who, item_id AS "wh""at", rating AS "User" FROM ratings WHERE user_id = 7; \n'
    columns = {"user": "who", "item": 'wh"at', "rating": "User"}
    dataset = load(ratings.replace("postgresql:", "postgres:"), query=query, how=TableSettings(columns=columns))
    assert contents(dataset) == ([7], [10, 20], [0, 0], [0, 1], [4.5, 3.0], None)


def test_the_order_in_which_a_server_gives_rows_makes_no_difference(ratings):
    first, second = (load(ratings, query=f"SELECT * FROM ratings ORDER BY rating {order}") for order in ("ASC", "DESC"))
    assert contents(first) == contents(second)
    assert first.provenance == second.provenance


def test_provenance_knows_the_rows_and_no_user_of_the_server(ratings, postgresql):
    dataset = load(ratings, query="SELECT * FROM ratings")
    (file,) = dataset.provenance.files
    name = f"postgresql:///postgres?host={postgresql.folder}&port=5432"
    assert (file.name, file.rows, dataset.provenance.rows_in) == (f"{name}, query", 4, 4)
    assert dataset.provenance.name == file.name
    assert "owner" not in file.name


SEVEN = uuid.UUID(int=7)
IDS = [
    ("7::smallint", 7),
    ("7::integer", 7),
    ("9223372036854775807::bigint", 2**63 - 1),
    ("7::numeric(20, 2)", 7),
    ("'a b'::text", "a b"),
    ("'ab'::varchar(9)", "ab"),
    ("'ab'::char(9)", "ab"),
    ("'007'::text", "007"),
    ("'7'::text", 7),
    (f"'{SEVEN}'::uuid", str(SEVEN)),
    ("'sad'::mood", "sad"),
    ("7::amount", 7),
]


@pytest.mark.parametrize("sql, expected", IDS, ids=[sql for sql, _ in IDS])
def test_ids_of_any_type(postgresql, sql, expected):
    postgresql.execute(
        "DROP TYPE IF EXISTS mood",
        "CREATE TYPE mood AS ENUM ('sad')",
        "DROP DOMAIN IF EXISTS amount",
        "CREATE DOMAIN amount AS integer",
    )
    dataset = load(postgresql.url(), query=f"SELECT {sql} AS user_id, {sql} AS item_id, 1 AS rating")
    assert dataset.user_ids.to_list() == dataset.catalogue.frame["item_id"].to_list() == [expected]


@pytest.mark.parametrize("sql", ["4.5::numeric", "4.5::real", "4.5::double precision", "' 4.5'::text"])
def test_ratings_of_any_type(postgresql, sql):
    dataset = load(postgresql.url(), query=f"SELECT 1 AS user_id, 1 AS item_id, {sql} AS rating")
    assert dataset.ratings.value.tolist() == [4.5]


@pytest.mark.parametrize(
    "sql",
    [
        "978307200",
        "978307200::numeric",
        "978307200::double precision",
        "date '2001-01-01'",
        "timestamp '2001-01-01 00:00:00.75'",
        "timestamptz '2001-01-01 05:30:00+05:30'",
        "'2001-01-01T00:00:00Z'::text",
    ],
)
def test_times_of_any_type(postgresql, sql):
    query = f"SELECT 1 AS user_id, 1 AS item_id, 1 AS rating, {sql} AS time"
    assert load(postgresql.url(), query=query).ratings.time.tolist() == [978307200]


def test_times_do_not_depend_on_the_server_s_time_zone(postgresql):
    query = "SELECT 1 AS user_id, 1 AS item_id, 1 AS rating, timestamp '2001-01-01' AS time"
    source = postgresql.url() + "&options=-c%20timezone%3DAsia/Kolkata"
    assert load(source, query=query).ratings.time.tolist() == [978307200]


def test_test_rows_can_come_from_a_file(ratings, write):
    test = write("test.csv", "user,item,rating\n9,10,1\n")
    dataset = load(ratings, query="SELECT * FROM ratings", test=test)
    assert dataset.test_rows.tolist() == [False] * 4 + [True]
    assert dataset.user_ids.to_list() == [3, 7, 9]


def test_all_is_read_in_one_read_only_snapshot(postgresql):
    query = (
        "SELECT current_setting('transaction_isolation') AS user_id, "
        "current_setting('transaction_read_only') AS item_id, 1 AS rating"
    )
    dataset = load(postgresql.url(), query=query)
    assert dataset.user_ids.to_list() == ["repeatable read"]
    assert dataset.catalogue.frame["item_id"].to_list() == ["on"]


def test_the_query_runs_once(postgresql):
    before = "coalesce(nullif(current_setting('tests.runs', true), ''), '0')"
    query = (
        f"SELECT set_config('tests.runs', ({before}::integer + 1)::text, false) AS user_id, 1 AS item_id, 1 AS rating"
    )
    assert load(postgresql.url(), query=query).user_ids.to_list() == [1]


def test_the_driver_is_not_loaded_where_nobody_asks_for_it():
    code = "import sys, hierfed.data.reading.sources\nassert not [n for n in sys.modules if n.startswith('adbc')]"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n", exclude_categories=["Zs"]), min_size=1)
ID = st.one_of(st.integers(-5, 5), st.integers(-(2**63), 2**63 - 1))
STARS = st.sampled_from([0.5, 1.0, 3.5, 5.0, -1e30, 0.1])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.one_of(
        st.lists(st.tuples(ID, user, STARS, st.integers(0, 2**33)), min_size=1, max_size=9, unique_by=lambda r: r[:2])
        for user in (ID, TEXT.map(lambda text: f"u{text}"))
    ),
    dated=st.booleans(),
)
def test_every_kind_of_table_gives_the_same_data(postgresql, tmp_path, rows, dated):
    import sqlite3

    frame = pl.DataFrame(rows, schema=["user", "item", "rating", "time"], orient="row").sort("user", "item")
    if dated:
        frame = frame.with_columns(pl.from_epoch("time", time_unit="s"))
    paths = [tmp_path / name for name in ("r.csv", "r.parquet", "r.sqlite")]
    for path in paths:
        path.unlink(missing_ok=True)
    frame.write_csv(paths[0], datetime_format="%Y-%m-%d %H:%M:%S")
    frame.write_parquet(paths[1])
    shuffled = frame.reverse().with_columns(pl.col("time").cast(pl.String) if dated else pl.col("time"))
    base = sqlite3.connect(paths[2])
    base.execute("CREATE TABLE r (user, item, rating, time)")
    base.executemany("INSERT INTO r VALUES (?, ?, ?, ?)", shuffled.rows())
    base.commit()
    base.close()
    kinds = {pl.Int64: "bigint", pl.String: "text", pl.Float64: "double precision", pl.Datetime: "timestamp"}
    types = ", ".join(f'"{name}" {kinds[type(kind)]}' for name, kind in frame.schema.items())
    escaped = str.maketrans({"'": "''"})
    values = ", ".join(
        "(" + ", ".join("'" + str(value).translate(escaped) + "'" for value in row) + ")" for row in shuffled.rows()
    )
    postgresql.execute("DROP TABLE IF EXISTS r", f"CREATE TABLE r ({types})", f"INSERT INTO r VALUES {values}")
    from_csv, from_parquet, from_sqlite = (load(str(path)) for path in paths)
    from_server = load(postgresql.url(), query='SELECT time, rating, item, "user" FROM r')
    assert contents(from_csv) == contents(from_parquet) == contents(from_sqlite) == contents(from_server)
    assert len(from_csv.ratings) == len(rows)
    (one,), (other,) = from_sqlite.provenance.files, from_server.provenance.files
    assert (one.sha256, one.bytes, one.rows) == (other.sha256, other.bytes, other.rows)


def test_more_rows_than_a_batch(postgresql, failure):
    query = (
        "SELECT n / 1000 AS user_id, n % 1000 AS item_id, CASE n WHEN {} THEN NULL ELSE n % 10 END AS rating "
        "FROM generate_series(0, 1999999) AS n"
    )
    dataset = load(postgresql.url(), query=query.format(-1))
    assert (dataset.users, dataset.items, len(dataset.ratings)) == (2000, 1000, 2_000_000)
    assert dataset.ratings.value.sum(dtype=float) == 9_000_000
    assert "row 1999001, column rating: found nothing" in failure(postgresql.url(), query.format(1999000))


def test_the_command_line_reads_a_server(ratings, tmp_path):
    words = ["data", ratings, "--query", "SELECT * FROM ratings"]
    command = [sys.executable, "-m", "hierfed", *words]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert (found.returncode, found.stderr) == (0, "")
    assert "4 by 2 users of 3 items" in found.stdout

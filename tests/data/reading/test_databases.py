"""Ratings out of an SQLite file: the same as out of a table of another kind, and one clear line for what goes wrong."""

import hashlib
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from hierfed.data.reading import sqlite
from hierfed.data.reading.sources import load
from hierfed.data.settings import TableSettings
from hierfed.errors import DataError

ROWS = [(7, 20, 3.0, 1000000001), (7, 10, 4.5, 1000000000), (3, 40, 5.0, 1000000003), (3, 10, 0.5, 1000000002)]
SORTED = [(3, 10, 0.5), (3, 40, 5.0), (7, 10, 4.5), (7, 20, 3.0)]
Make = Callable[..., str]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write an SQLite file with the ratings and whatever else is said. Returns its path."""

    def make_file(*statements: str, name: str = "ratings.sqlite", rows: list[tuple] = ROWS) -> str:
        path = tmp_path / name
        with closing(sqlite3.connect(path)) as base, base:
            base.execute("CREATE TABLE ratings (user_id, item_id, rating, time)")
            base.executemany("INSERT INTO ratings VALUES (?, ?, ?, ?)", rows)
            for statement in statements:
                base.execute(statement)
        return str(path)

    return make_file


def triples(dataset) -> list[tuple]:
    users, items = dataset.user_ids.to_list(), dataset.catalogue.frame["item_id"].to_list()
    ratings = dataset.ratings
    return [(users[u], items[i], float(v)) for u, i, v in zip(ratings.user, ratings.item, ratings.value, strict=True)]


def failure(source: str, query: str = "", **options) -> str:
    with pytest.raises(DataError) as caught:
        load(source, query=query, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.exit_code == 2
    return message


def test_the_only_table_is_read_and_sorted(make):
    dataset = load(make())
    assert triples(dataset) == SORTED
    assert dataset.ratings.time.tolist() == [1000000002, 1000000003, 1000000000, 1000000001]


@pytest.mark.parametrize("name", ["r.sqlite", "r.SQLITE3", "r.db", "ratings", "r.csv", "100% {0} & #1?.sqlite"])
def test_a_database_is_known_whatever_its_name(make, name):
    assert triples(load(make(name=name))) == SORTED


def test_an_address_names_a_file_from_here_or_from_the_root(make, monkeypatch, tmp_path):
    path = make()
    monkeypatch.chdir(tmp_path)
    assert triples(load("sqlite:///ratings.sqlite")) == triples(load(f"sqlite:///{path}")) == SORTED


def test_provenance_knows_the_table_and_the_hash_of_the_sorted_rows(make):
    dataset = load(make())
    (file,) = dataset.provenance.files
    text = "user,item,value,time\n3,10,0.5,1000000002\n3,40,5.0,1000000003\n7,10,4.5,1000000000\n7,20,3.0,1000000001\n"
    assert (file.name, file.bytes, file.rows) == ("ratings.sqlite, table ratings", len(text), 4)
    assert file.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert dataset.provenance.name == file.name
    assert dataset.provenance.rows_in == 4


def test_the_order_of_rows_and_other_tables_make_no_difference(make):
    first = load(make(name="a.db"), query="SELECT * FROM ratings")
    second = load(make("CREATE TABLE other (x)", name="b.db", rows=ROWS[::-1]), query="SELECT * FROM ratings")
    assert triples(first) == triples(second)
    assert first.provenance.files[0].sha256 == second.provenance.files[0].sha256


def test_the_only_table_that_has_the_columns_is_taken(make):
    source = make(
        "CREATE TABLE films (item_id, title)",
        "CREATE TABLE gone (user_id, item_id, rating)",
        "CREATE VIEW broken AS SELECT * FROM gone",
        "DROP TABLE gone",
    )
    assert load(source).provenance.name == "ratings.sqlite, table ratings"


def test_a_view_is_a_table(make):
    source = make(
        "CREATE TABLE raw (who, what, stars)",
        "INSERT INTO raw VALUES ('a', 'b', 2)",
        'CREATE VIEW "good ""ones""" AS SELECT who AS user, what AS item, stars AS rating FROM raw',
        "DROP TABLE ratings",
    )
    assert triples(load(source)) == [("a", "b", 2.0)]


def test_a_mapping_chooses_the_table_too(make):
    source = make("CREATE TABLE raw (who, what, rating)", "INSERT INTO raw VALUES (1, 2, 3)")
    assert triples(load(source, how=TableSettings(columns={"user": "who", "item": "what"}))) == [(1, 2, 3.0)]


def test_a_query_s_rows_are_the_ratings(make):
    query = "SELECT 'u' || user_id AS who, item_id AS item, avg(rating) AS rating FROM ratings GROUP BY user_id; "
    dataset = load(make(), query=query, how=TableSettings(columns={"user": "who"}))
    assert [(user, rating) for user, _, rating in triples(dataset)] == [("u3", 2.75), ("u7", 3.75)]
    assert dataset.ratings.time is None
    assert dataset.provenance.files[0].name == "ratings.sqlite, query"


@pytest.mark.parametrize("batch", [1, 2, 3, 50_000])
@pytest.mark.parametrize(
    "values, expected",
    [
        ([1, 2, 3, 4], [1, 2, 3, 4]),
        ([4, "2", 3, "1"], [1, 2, 3, 4]),
        ([9, "b", 10, "a"], ["9", "10", "a", "b"]),
        (["2", 1, "3", "04"], ["1", "2", "3", "04"]),
        ([2**63 - 1, -(2**63), 0, 1], [-(2**63), 0, 1, 2**63 - 1]),
    ],
    ids=str,
)
def test_ids_of_any_type_and_of_several(make, monkeypatch, batch, values, expected):
    monkeypatch.setattr(sqlite, "BATCH", batch)
    dataset = load(make(rows=[(value, 1, 1, 1) for value in values]))
    assert dataset.user_ids.to_list() == expected


@pytest.mark.parametrize("batch", [1, 50_000])
def test_ratings_and_times_of_several_types(make, monkeypatch, batch):
    monkeypatch.setattr(sqlite, "BATCH", batch)
    rows = [(1, 1, 4, "2001-01-01 00:00:00"), (2, 1, 3.5, 978307200), (3, 1, "2.5", "2001-01-01T02:00:00+02:00")]
    dataset = load(make(rows=rows))
    assert dataset.ratings.value.tolist() == [4.0, 3.5, 2.5]
    assert dataset.ratings.time.tolist() == [978307200] * 3


def test_a_large_whole_number_beside_a_fraction_is_not_rounded(make):
    assert "column user_id: found " in failure(make(rows=[(2**62 + 1, 1, 1, 1), (1.0, 1, 1, 1)]))


BAD_VALUES = [
    ("user_id", None, "found nothing, expected an id"),
    ("user_id", b"\x01", "found a BLOB, expected a number or text"),
    ("user_id", "", "found nothing, expected an id"),
    ("item_id", 1.5, "found the float 1.5, expected text or whole numbers as ids"),
    ("user_id", 2.0, "found the float 2.0, expected text or whole numbers as ids"),
    ("rating", None, "found nothing, expected a finite number"),
    ("rating", "many", "found 'many', expected a finite number"),
    ("rating", 9e999, "found inf, expected a finite number"),
    ("time", "yesterday", "found 'yesterday', expected a time in seconds"),
    ("time", -1, "found -1, expected a time in seconds"),
]


@pytest.mark.parametrize("batch", [2, 50_000])
@pytest.mark.parametrize("column, value, expected", BAD_VALUES)
def test_a_bad_value_is_named_by_the_row_as_it_was_read(make, monkeypatch, batch, column, value, expected):
    monkeypatch.setattr(sqlite, "BATCH", batch)
    row = dict(zip(("user_id", "item_id", "rating", "time"), (5, 5, 1, 1), strict=True)) | {column: value}
    source = make(rows=[*ROWS[:2], tuple(row.values()), ROWS[3]])
    assert failure(source).startswith(f"{source}, row 3, column {column}: {expected}")


def test_a_repeated_pair_is_named_by_the_rows_as_they_were_read(make):
    source = make(rows=[*ROWS, (7, 20, 1.0, 5)])
    message = failure(source)
    assert re.search(r"row 5: user 7 rates item 20 again, first in .*, row 1; 1 rows", message), message


def test_a_bad_row_beyond_a_batch_is_named(make):
    rows = [(number, 1, 1, 1) for number in range(60_000)]
    assert "row 60000, column rating: found 'x'" in failure(make(rows=[*rows[:-1], (-1, 1, "x", 1)]))


def test_an_empty_table(make):
    assert failure(make(rows=[])).endswith("ratings.sqlite, table ratings: holds no rows")


def test_a_database_without_tables(make):
    assert failure(make("DROP TABLE ratings")).endswith("ratings.sqlite: the database holds no tables")


def test_several_tables_with_ratings_are_named(make):
    message = failure(make("CREATE TABLE older AS SELECT * FROM ratings", "CREATE TABLE films (title)"))
    assert message.endswith("older, ratings all hold ratings; choose with --query 'SELECT ... FROM ...'")


def test_tables_without_ratings_are_named(make):
    more = [f"CREATE TABLE t{number:02} (x)" for number in range(30)]
    message = failure(make("DROP TABLE ratings", *more))
    assert "none of the tables t00, t01, " in message
    assert "t19 and 10 more has columns for user, item and rating" in message


def test_the_only_table_s_columns_are_named(make):
    message = failure(make("ALTER TABLE ratings RENAME COLUMN rating TO raiting"))
    assert "ratings.sqlite, table ratings: no column for the rating (did you mean 'raiting'?)" in message


BAD_QUERIES = {
    "syntax": ("SELEC 1", 'near "SELEC": syntax error'),
    "unfinished": ("SELECT", "incomplete input"),
    "no table": ("SELECT * FROM absent", "no such table: absent"),
    "no column": ("SELECT stars FROM ratings", "no such column: stars"),
    "columns missing": ("SELECT rating FROM ratings", "query: no column for the user"),
    "no rows": ("SELECT * FROM ratings WHERE user_id = 0", "query: holds no rows"),
    "two statements": ("SELECT * FROM ratings; DELETE FROM ratings", "one statement at a time"),
    "insert": ("INSERT INTO ratings VALUES (1, 1, 1, 1) RETURNING *", "the query must only read"),
    "delete": ("DELETE FROM ratings", "the query must only read"),
    "create": ("CREATE TABLE x (a)", "the query must only read"),
    "attach": ("ATTACH 'other.db' AS other", "too many attached databases"),
    "vacuum": ("VACUUM INTO 'copy.db'", "VACUUM"),
    "commit": ("COMMIT", "query: gives no rows, expected a SELECT with user, item, rating"),
    "nothing": (" ; ", "query: gives no rows"),
    "placeholder": ("SELECT * FROM ratings WHERE user_id = ?", "binding"),
}


@pytest.mark.parametrize("case", BAD_QUERIES)
def test_a_query_that_cannot_be_used_is_one_line_and_changes_nothing(make, monkeypatch, tmp_path, case):
    monkeypatch.chdir(tmp_path)
    query, expected = BAD_QUERIES[case]
    source = make()
    before = Path(source).read_bytes()
    message = failure(source, query)
    assert message.startswith(source)
    assert expected in message
    assert Path(source).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["ratings.sqlite"]


def test_a_database_that_another_program_writes_to(make, monkeypatch):
    source = make()
    monkeypatch.setattr(sqlite, "PATIENCE", 0.0)
    with closing(sqlite3.connect(source, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert "database is locked: another program is writing to it; try again" in failure(source)


def test_rows_that_another_program_has_not_committed_are_not_read(make):
    source = make("PRAGMA user_version = 1")
    with closing(sqlite3.connect(source, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("BEGIN")
        other.execute("INSERT INTO ratings VALUES (1, 1, 1, 1)")
        assert triples(load(source)) == SORTED
        other.execute("COMMIT")
        assert len(triples(load(source))) == 5


@pytest.mark.parametrize(
    "content, expected",
    [
        (b"", "r.sqlite: the file is empty"),
        (b"user,item,rating\n1,1,1\n", "r.sqlite: is no SQLite database"),
        (sqlite.MAGIC, "r.sqlite: SQLite refuses: "),
        (sqlite.MAGIC + bytes(4096), "r.sqlite: SQLite refuses: "),
    ],
)
def test_a_file_that_is_no_database(write, content, expected):
    assert expected in failure(write("r.sqlite", content))


def test_a_damaged_database(make):
    path = Path(make(rows=[(number, 1, 1, 1) for number in range(3000)]))
    content = bytearray(path.read_bytes())
    content[8192:20000] = bytes(b"\xff" * (20000 - 8192))
    path.write_bytes(content)
    assert "the file is damaged; restore it" in failure(str(path))


def test_text_that_is_none(make):
    source = make("INSERT INTO ratings SELECT CAST(x'ff0a' AS TEXT), 1, 1, 1")
    assert "Could not decode to UTF-8" in failure(source)


def test_a_file_that_is_not_there(tmp_path):
    assert "no such data" in failure(str(tmp_path / "r.sqlite"))
    assert failure(f"sqlite:///{tmp_path}/r.sqlite").endswith("r.sqlite: file not found")


@pytest.mark.parametrize("source", ["embedded", "movielens-small", "table", "folder", "nowhere"])
def test_a_query_needs_a_database(write, tmp_path, source):
    table = write("r.csv", "user,item,rating\n1,1,1\n")
    place = {"table": table, "folder": str(tmp_path)}.get(source, source)
    assert f"a query needs a database (SQLite or PostgreSQL), and {place!r} is none" in failure(place, "SELECT 1")


def test_test_rows_of_either_kind(make, write):
    table, base = write("test.csv", "user,item,rating\n9,10,1\n"), make()
    assert load(base, test=table).test_rows.tolist() == [False] * 4 + [True]
    assert load(table, test=base).test_rows.tolist() == [False] + [True] * 4

"""An id is the text that the user wrote, in every kind of table; and the order of a table's rows tells nothing."""

from __future__ import annotations

import random
import sqlite3
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from hierfed.data.ids import ascending, compact, places, strangers
from hierfed.data.ratings import Dataset
from hierfed.data.reading.catalogue_file import catalogue_bytes, read_catalogue
from hierfed.data.reading.delimited import open_delimited
from hierfed.data.reading.own import own_ratings
from hierfed.data.reading.sources import load, read_ratings
from hierfed.errors import DataError

Rows = Sequence[tuple[str, str, float]]
KINDS = ("csv", "parquet", "sqlite", "postgresql")


@pytest.fixture(params=KINDS)
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Rows], dict[str, str]]:
    """Write rows of text ids as a table of one kind; gives what `load` needs to read it."""

    def write(rows: Rows) -> dict[str, str]:
        frame = pl.DataFrame(rows, schema=["user_id", "item_id", "rating"], orient="row")
        path = tmp_path / f"[table] {len(list(tmp_path.iterdir()))}.{request.param}"
        if request.param == "csv":
            frame.write_csv(path)
        elif request.param == "parquet":
            frame.write_parquet(path)
        elif request.param == "sqlite":
            with closing(sqlite3.connect(path)) as base, base:
                base.execute("CREATE TABLE ratings (user_id TEXT, item_id TEXT, rating REAL)")
                base.executemany("INSERT INTO ratings VALUES (?, ?, ?)", rows)
        else:
            server = request.getfixturevalue("postgresql")
            request.getfixturevalue("no_settings_of_the_machine")
            values = ", ".join(f"('{user}', '{item}', {rating})" for user, item, rating in rows)
            server.execute(
                "DROP TABLE IF EXISTS as_written",
                "CREATE TABLE as_written (user_id text, item_id text, rating real)",
                f"INSERT INTO as_written VALUES {values}",
            )
            return {"source": server.url(), "query": "SELECT * FROM as_written"}
        return {"source": str(path)}

    return write


def users(dataset: Dataset) -> list[str]:
    return [str(each) for each in dataset.user_ids]


def items(dataset: Dataset) -> list[str]:
    return [str(each) for each in dataset.catalogue.frame["item_id"]]


def contents(dataset: Dataset) -> list[tuple[str, str, float]]:
    """The rows by the source's own ids, in the data set's order."""
    columns, who, what = dataset.ratings, users(dataset), items(dataset)
    rows = zip(columns.user, columns.item, columns.value.tolist(), strict=True)
    return [(who[user], what[item], value) for user, item, value in rows]


def test_padded_and_plain_numbers_are_different_users(table):
    dataset = load(**table([("007", "1", 5), ("7", "2", 1), ("008", "1", 2)]))
    assert users(dataset) == ["7", "007", "008"]
    assert contents(dataset) == [("7", "2", 1), ("007", "1", 5), ("008", "1", 2)]


def test_padded_and_plain_numbers_are_different_items(table):
    assert items(load(**table([("a1", "0393", 5), ("a1", "00393", 4)]))) == ["00393", "0393"]


def test_one_other_id_in_a_test_table_changes_no_user(table, write):
    rows = [(f"{user:05}", str(item), 1 + (user + item) % 5) for user in range(60) for item in range(4)]
    held = write("test.csv", "user,item,rating\n" + "".join(f"{user:05},9,3\n" for user in range(60)) + "0000X,9,3\n")
    dataset = load(**table(rows), test=held)
    assert users(dataset) == sorted([*(f"{user:05}" for user in range(60)), "0000X"])
    assert len(dataset.ratings) == 4 * 60 + 61
    assert not any("user ids" in warning for warning in dataset.provenance.warnings)


def test_the_order_of_rows_tells_nothing(table):
    rows = [
        (f"{user:03}", f"i{item}", float(1 + (user * item) % 5)) for user in range(12) for item in range(user % 7 + 2)
    ]
    shuffled = random.Random(5).sample(rows, len(rows))
    first, second = load(**table(rows)), load(**table(shuffled))
    assert contents(first) == contents(second) == sorted(rows)


def test_test_ids_of_another_notation_are_told(table, write):
    held = write("test.csv", "user,item,rating\n1.0,20,3\n2.0,30,4\n3,10,2\n")
    dataset = load(**table([("1", "10", 5), ("2", "20", 4), ("3", "30", 1)]), test=held)
    assert dataset.users == 5
    assert dataset.provenance.warnings == (
        "2 of 3 user ids of test rows are not in the train rows: not there are '1.0' and '2.0', there are '1' and '2', "
        "for instance; ids are compared as they are written",
    )


WRITTEN = {
    "exponent": ("1000", "1e3"),
    "hexadecimal": ("16", "0x10"),
    "a digit of another script": ("1", "१"),
    "signs": ("7", "+7", "-7", "7.0", "7."),
    "zeros": ("0", "-0", "+0", "00"),
    "words for nothing": ("NA", "NaN", "None", "nan", "null"),
    "words for truth": ("1", "TRUE", "true"),
    "beyond 64 bits": ("9223372036854775807", "9223372036854775808", "18446744073709551615", "99999999999999999999"),
    "normal forms": (unicodedata.normalize("NFD", "é"), unicodedata.normalize("NFC", "é")),
    "case": ("A", "a"),
    "very long": ("x" * 10_000, "x" * 10_001),
    "dates and paths": ("../b", "2020-01-01", "a/b", "http://x/?y=1&z=*"),
    "inner white space": ("a b", "a  b"),
}


@pytest.mark.parametrize("ids", WRITTEN.values(), ids=WRITTEN.keys())
def test_ids_stay_as_they_are_written(table, ids):
    rows = [(each, each, float(1 + number % 5)) for number, each in enumerate(ids)]
    dataset = load(**table(rows))
    assert sorted(contents(dataset)) == sorted(rows)
    assert users(dataset) == items(dataset)
    assert {len(ids), dataset.users, dataset.items} == {len(ids)}


@pytest.mark.parametrize("space", [" {} ", "\t{}", "{}\u00a0", "\u3000{}"])
def test_white_space_around_an_id_is_no_part_of_it(table, space):
    dataset = load(**table([(space.format("07"), "1", 1), (space.format("7"), "2", 1), ("7", "3", 1)]))
    assert users(dataset) == ["7", "07"]


INTEGERS = {
    "int8": pl.Series([7, -7], dtype=pl.Int8),
    "uint16": pl.Series([7, 70], dtype=pl.UInt16),
    "int64": pl.Series([2**63 - 1, -(2**63)]),
    "uint64": pl.Series([2**64 - 1, 7], dtype=pl.UInt64),
    "int128": pl.Series([10**30, 7], dtype=pl.Int128),
    "decimal": pl.Series([Decimal("70.00"), Decimal("7.50")]),
    "text": pl.Series(["70", "7"]),
    "categories": pl.Series(["70", "007"], dtype=pl.Categorical),
}
SHOWN = {"decimal": ["70", "7.5"]}


@pytest.mark.parametrize("name", INTEGERS)
def test_a_number_of_a_parquet_column_is_its_decimal_text(tmp_path, write, name):
    column = INTEGERS[name]
    pl.DataFrame({"user": column, "item": column, "rating": [1.0, 2.0]}).write_parquet(tmp_path / "r.parquet")
    text = SHOWN.get(name, [str(each) for each in column])
    held = write("held.csv", "user,item,rating\n" + f"{text[0]},{text[1]},3\n{text[1]},{text[0]},4\n")
    dataset = load(str(tmp_path / "r.parquet"), test=held)
    assert set(users(dataset)) == set(items(dataset)) == set(text)


REFUSED: dict[str, tuple[Any, str]] = {
    "floats": ([1.0, 2.0], "found Float64, expected text or whole numbers as ids"),
    "pandas' whole numbers with a gap": ([1.0, None], "found Float64, expected text or whole numbers as ids"),
    "truth values": ([True, False], "found values of type Boolean, expected ids"),
    "dates": ([date(2020, 1, 1), date(2020, 1, 2)], "found values of type Date, expected ids"),
    "bytes": ([b"a", b"b"], "found values of type Binary, expected ids"),
    "a gap": (["a", None], "row 2, column user: found nothing, expected an id"),
    "empty text": (["a", ""], "row 2, column user: found nothing, expected an id"),
}


@pytest.mark.parametrize("values, expected", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_id_is_refused_in_one_line(tmp_path, values, expected):
    pl.DataFrame({"user": values, "item": [1, 2], "rating": [1.0, 2.0]}).write_parquet(tmp_path / "r.parquet")
    with pytest.raises(DataError) as error:
        load(str(tmp_path / "r.parquet"))
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["real", "double precision"])
def test_floats_of_a_server_are_refused_in_one_line(postgresql, failure, no_settings_of_the_machine, kind):
    message = failure(postgresql.url(), query=f"SELECT 7::{kind} AS user_id, 1 AS item_id, 1 AS rating")
    assert f"column user_id: has the type {kind}, expected text or whole numbers as ids" in message


def test_films_links_and_metadata_are_joined_by_ids_as_written(csv_folder, write):
    write("ml/ratings.csv", "userId,movieId,rating\n1,0010,4\n1,10,3\n2,0010,5\n")
    write("ml/movies.csv", "movieId,title,genres\n0010,Padded (1990),Drama\n10,Plain (1991),War\n")
    write("ml/links.csv", "movieId,imdbId,tmdbId\n10,1,949\n0010,2,0949\n")
    frame = load(str(csv_folder), unmatched="keep").catalogue.frame
    assert frame.select("item_id", "title", "matched").rows() == [("10", "Plain", True), ("0010", "Padded", False)]
    # The paper's join takes film ids for metadata ids: `10` is one, `0010` is none.
    frame = load(str(csv_folder), join=["paper"], unmatched="keep").catalogue.frame
    assert frame["matched"].to_list() == [True, False]
    # Of ids that are left, plain numbers alone are numbers, as they are when they are read again.
    kept = load(str(csv_folder)).catalogue
    assert kept.frame["item_id"].to_list() == [10]


def test_a_padded_catalogue_in_parquet_and_in_csv_is_one(tmp_path):
    frame = pl.DataFrame({"item_id": ["10", "9", "010"], "title": ["007", "1984", "x"]})
    frame.write_csv(tmp_path / "items [1].csv")
    frame.write_parquet(tmp_path / "items [1].parquet")
    first, second = (read_catalogue(tmp_path / f"items [1].{kind}") for kind in ("csv", "parquet"))
    assert first.frame["item_id"].to_list() == second.frame["item_id"].to_list() == ["9", "10", "010"]
    assert first.frame["title"].to_list() == ["1984", "007", "x"]
    assert first.digest() == second.digest()


def test_a_catalogue_that_was_written_with_numbers_is_still_read(tmp_path):
    pl.DataFrame({"item_id": [10, 9]}).write_parquet(tmp_path / "items.parquet")
    catalogue = read_catalogue(tmp_path / "items.parquet")
    assert catalogue.frame["item_id"].to_list() == [9, 10]
    (tmp_path / "again.parquet").write_bytes(catalogue_bytes(catalogue))
    assert read_catalogue(tmp_path / "again.parquet").digest() == catalogue.digest()


def test_a_node_of_which_most_items_are_unknown_is_told(table, tmp_path):
    pl.DataFrame({"item_id": ["1", "2", "x"]}).write_parquet(tmp_path / "items.parquet")
    where = table([("7", "1", 1), ("07", "2.0", 2), ("07", "1.0", 2)])
    found = own_ratings(read_ratings(**where), read_catalogue(tmp_path / "items.parquet"))
    assert (len(found.train), found.unknown) == (1, 2)
    assert found.warnings == (
        "2 of 3 rated item ids are not in the federation's catalogue: not there are '1.0' and '2.0', there are '1' and "
        "'2', for instance; ids are compared as they are written",
    )


@pytest.mark.parametrize("name", ["r.csv", "r.parquet", "r.sqlite"])
def test_a_path_with_brackets_is_no_pattern(tmp_path, name):
    """Were it one, the sibling's rows would be read."""
    for folder, user in (("w[1]", "right"), ("w1", "wrong")):
        (tmp_path / folder).mkdir()
        frame = pl.DataFrame({"user": [user], "item": ["i"], "rating": [1.0], f"only {user}": [1]})
        if name == "r.sqlite":
            with closing(sqlite3.connect(tmp_path / folder / name)) as base, base:
                base.execute(f"CREATE TABLE t AS SELECT '{user}' AS user, 'i' AS item, 1.0 AS rating")
        else:
            getattr(frame, "write_csv" if name == "r.csv" else "write_parquet")(tmp_path / folder / name)
    assert users(load(str(tmp_path / "w[1]" / name))) == ["right"]


def test_places_and_order_do_not_depend_on_the_type():
    numbers, text = pl.Series([10, 9]), pl.Series(["010", "9", "10"])
    assert places(numbers, text).to_list() == [2, 1]
    assert places(text, numbers).to_list() == [None, 1, 0]
    assert text[ascending(text)].to_list() == ["9", "10", "010"]
    assert compact(pl.Series(["9", None])).to_list() == [9, None]
    assert compact(pl.Series(["9", "09"])).to_list() == ["9", "09"]


def test_half_of_the_ids_may_be_unknown_without_a_word():
    known = pl.Series(["a", "b"])
    assert strangers(pl.Series(["a", "c"]), known, "ids", "there") == ""
    assert strangers(pl.Series(["\x1b[2J" + "c" * 99, "d", "a"]), known, "ids", "there") == (
        "2 of 3 ids are not in there: not there are '\\x1b[2J" + "c" * 36 + "...' and 'd', there are 'a' and 'b', "
        "for instance; ids are compared as they are written"
    )


@pytest.mark.parametrize("form", ["ratings.csv", "u.data", "ratings.dat", "ratings.parquet"])
def test_the_order_of_a_folder_s_rows_and_of_its_test_rows_tells_nothing(write, tmp_path, form):
    rows = [(user, item, 1 + (user * item) % 5, 1_000_000_000 + item) for user in range(9, 12) for item in (3, 20, 100)]
    found = []
    for seed in (1, 2):
        lines = [",".join(map(str, row)) for row in random.Random(seed).sample(rows, len(rows))]
        head, folder = "userId,movieId,rating,timestamp\n", tmp_path / f"folder {seed}"
        held = write(
            "held.csv", head + "".join(f"{user},7,3,5\n" for user in random.Random(seed).sample([9, 10, 11], 3))
        )
        text = "".join(f"{line}\n" for line in lines)
        if form == "ratings.parquet":
            folder.mkdir()
            pl.read_csv((head + text).encode()).write_parquet(folder / form)
        else:
            separator = {"u.data": "\t", "ratings.dat": "::"}.get(form, ",")
            write(f"{folder.name}/{form}", (head if form == "ratings.csv" else "") + text.replace(",", separator))
        dataset = load(str(folder), test=held if form in {"ratings.csv", "ratings.parquet"} else None)
        found.append((contents(dataset), dataset.ratings.time.tolist()))
    assert found[0] == found[1]
    assert found[0][0][:9] == [(str(user), str(item), rating) for user, item, rating, _ in rows]


FIELDS = ["7", "07", "0", "00", "+7", "-7", "-0", "-05", "-0.5", "0.5", "-", "10", "7.0"]


@pytest.mark.parametrize("block", [1, 2, 3, 5, 1 << 17])
def test_files_of_plain_numbers_alone_are_parsed_as_numbers(write, monkeypatch, block):
    """Wherever a field lies in a block of bytes: plain numbers and fractions stay fast, and nothing else passes."""
    monkeypatch.setattr("hierfed.data.grouping.BLOCK", block)
    for field in FIELDS:
        whole = str(int(field)) if field.removeprefix("-").isdecimal() or field[0] == "+" else field
        for number, text in enumerate((f"{field},5\n6,5", f"6,5\n5,{field}\n", f"5,6\n5,{field}")):
            found = open_delimited(Path(write(f"{number}.csv", f"a,b\n{text}"))).typed(dict.fromkeys("ab", pl.Float64))
            plain = whole == field or "." in field
            assert (found is not None) == (plain and field != "-"), (field, text)

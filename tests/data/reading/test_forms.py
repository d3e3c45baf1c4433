"""Tables in every form that people bring give the same ratings, or one line that says what to do."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from hierfed.data.reading.sources import load
from hierfed.data.settings import TableSettings
from tests.data.reading.tables import NOON, ROWS, SMALL, frame_of, refusal, triples

# Names of columns


NAMES = {
    "books": ("User-ID", "ISBN", "Book-Rating"),
    "goodbooks": ("user_id", "book_id", "rating"),
    "anime": ("user_id", "anime_id", "rating"),
    "places": ("userID", "placeID", "rating"),
    "jokes": ("User ID", "Joke ID", "Rating"),
    "products": ("CustomerId", "ProductId", "Score"),
    "tracks": ("user", "track_id", "rating"),
    "Amazon": ("reviewerID", "asin", "overall"),
    "Amazon, 2023": ("user_id", "parent_asin", "rating"),
    "Yelp": ("user_id", "business_id", "stars"),
    "beers": ("review_profilename", "beer_beerid", "review_overall"),
    "recipes": ("user_id", "recipe_id", "rating"),
    "games": ("username", "game", "score"),
    "films": ("uid", "film.id", "user-rating"),
    "restaurants": ("member_id", "Restaurant", "stars"),
    "albums": ("profile id", "album", "score"),
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES.keys())
def test_names_of_columns_that_people_use(write, names):
    assert triples(load(write("r.csv", frame_of(ROWS, names).write_csv()))) == ROWS


def test_names_are_known_in_every_kind_of_table(table):
    assert triples(load(**table(frame_of(ROWS, NAMES["books"])))) == ROWS


def test_the_most_usual_name_comes_first(write):
    content = "user_id,item_id,asin,rating,score,timestamp,date\nu1,i1,a,4,9,5,x\n"
    dataset = load(write("r.csv", content))
    assert (triples(dataset), dataset.ratings.time.tolist()) == ([("u1", "i1", 4.0)], [5])


def test_two_names_as_usual_are_asked_about(write):
    message = refusal(write("r.csv", "user,book,track,rating\n1,1,1,1\n"))
    assert "columns book and track could both be the item; map one of them" in message


def test_times_can_be_left_out(write):
    path = write("r.csv", "user,item,rating,date\nu1,i1,4,last week\n")
    assert "found 'last week', expected a time" in refusal(path)
    assert load(path, how=TableSettings(columns={"time": ""})).ratings.time is None


# Columns by number, headers, separators


@pytest.mark.parametrize(
    "columns", [{"user": "3", "item": "1", "rating": "2"}, {"user": "3", "item": "1", "rating": "r"}]
)
def test_columns_by_number(table, columns):
    frame = frame_of([(i, r, u) for u, i, r in ROWS], ("x", "r", "y"))
    assert triples(load(**table(frame), how=TableSettings(columns=columns))) == ROWS


@pytest.mark.parametrize("number", ["0", "4", "-1"])
def test_a_number_that_no_column_has(write, number):
    assert f"no column '{number}' for the user" in refusal(write("r.csv", SMALL), columns={"user": number})


HEADERLESS = {
    "commas": ("r.csv", ",", {"header": "no"}),
    "tabs": ("r.tsv", "\t", {"header": "no"}),
    "semicolons": ("r.csv", ";", {"header": "no"}),
    "bars": ("r.txt", "|", {"header": "no"}),
    "spaces": ("r.txt", " ", {"header": "no"}),
    "colons": ("ratings.dat", "::", {}),
    "colons, said aloud": ("r.txt", "::", {"separator": "::", "header": "no"}),
    "tildes": ("r.txt", "~", {"separator": "~", "header": "no"}),
    "carets": ("r.txt", "^", {"separator": "^", "header": "no"}),
    "by numbers": ("r.csv", ",", {"columns": {"user": "1", "item": "2", "rating": "3"}}),
    "a word for tab": ("r.txt", "\t", {"separator": "tab", "header": "no"}),
    "a word for space": ("r.txt", " ", {"separator": "space", "header": "no"}),
}


@pytest.mark.parametrize("name, separator, how", HEADERLESS.values(), ids=HEADERLESS.keys())
def test_files_without_a_header(write, name, separator, how):
    lines = [separator.join(map(str, [*row, 7])) for row in ROWS]
    dataset = load(write(name, "\n".join(lines) + "\n"), how=TableSettings(**how))
    assert triples(dataset) == ROWS
    assert dataset.provenance.rows_in == 3


def test_a_table_of_numbers_without_a_header_is_refused_with_advice(write):
    path = write("r.csv", "1,2,3\n2,3,4\n")
    assert "the first line holds numbers, expected column names, or --header no" in refusal(path)
    assert triples(load(path, how=TableSettings(header="no"))) == [("1", "2", 3.0), ("2", "3", 4.0)]


def test_a_header_that_is_there_is_none_if_so_asked(write):
    assert "line 1, column rating: found 'rating'" in refusal(write("r.csv", SMALL), header="no")


def test_colons_with_a_header(write):
    assert triples(load(write("r.dat", SMALL.replace(",", "::")))) == ROWS


@pytest.mark.parametrize("separator", ["ab", '"', "é", "\n"])
def test_what_separates_nothing(separator):
    with pytest.raises(ValueError, match="separates nothing"):
        TableSettings(separator=separator)


# Packed files and other formats


def zipped(*names: str, content: str = SMALL) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name in names:
            archive.writestr(name, content)
    return made.getvalue()


PACKED = {
    "gzip": ("r.csv.gz", gzip.compress(SMALL.encode())),
    "bzip2": ("r.csv.bz2", bz2.compress(SMALL.encode())),
    "xz": ("r.csv.xz", lzma.compress(SMALL.encode())),
    "zip": ("r.zip", zipped("ratings.csv")),
    "zip of a folder": ("r.zip", zipped("data/ratings.csv")),
    "zip of a Mac": ("r.zip", zipped("ratings.csv", "__MACOSX/._ratings.csv")),
    "gzip with another ending": ("r.csv", gzip.compress(SMALL.encode())),
    "two gzip files in one": ("r.csv.gz", gzip.compress(SMALL[:30].encode()) + gzip.compress(SMALL[30:].encode())),
    "gzip of tabs": ("r.tsv.gz", gzip.compress(SMALL.replace(",", "\t").encode())),
    "gzip of JSON lines": ("r.jsonl.gz", gzip.compress(frame_of(ROWS).write_ndjson().encode())),
    "gzip of a marked file": ("r.csv.gz", gzip.compress(("\ufeff" + SMALL).encode())),
    "JSON lines": ("r.jsonl", frame_of(ROWS).write_ndjson().encode()),
    "JSON lines with blank ones": ("r.ndjson", frame_of(ROWS).write_ndjson().replace("\n", "\n\n").encode()),
    "JSON lines, Windows": ("r.json", frame_of(ROWS).write_ndjson().replace("\n", "\r\n").encode()),
    "a list of JSON": ("r.json", frame_of(ROWS).write_json().encode()),
    "Netflix": ("combined_data_1.txt", b"i1:\nu1,4,2005-09-06\nu2,5,2005-09-06\ni2:\nu1,2,2005-09-06\n"),
}


@pytest.mark.parametrize("name, content", PACKED.values(), ids=PACKED.keys())
def test_files_of_many_formats(write, name, content):
    if name.startswith("combined"):
        content = content.replace(b"i", b"")
        expected = [(user, item[1:], rating) for user, item, rating in ROWS]
    else:
        expected = ROWS
    dataset = load(write(name, content))
    assert triples(dataset) == expected
    (file,) = dataset.provenance.files
    assert (file.bytes, file.rows) == (len(content), 3)


CANNOT_BE_UNPACKED = {
    "several files": ("ml.zip", zipped("ml/ratings.csv", "ml/movies.csv"), "holds 2 files .ml/ratings.csv, ml/movies"),
    "none": ("r.zip", zipped("data/"), "holds 0 files"),
    "cut off": ("r.csv.gz", gzip.compress(SMALL.encode() * 99)[:-20], "cannot be unpacked"),
    "a wrong sum": ("r.csv.gz", gzip.compress(SMALL.encode())[:-8] + b"12345678", "cannot be unpacked"),
    "a damaged archive": ("r.zip", zipped("r.csv")[:-30], "cannot be unpacked"),
    "zstd": ("r.csv.zst", b"\x28\xb5\x2f\xfd0000", "is packed with zstd.*unpack it first"),
    "7z": ("r.7z", b"7z\xbc\xaf0000", "is packed with 7z"),
    "rar": ("r.rar", b"Rar!0000", "is packed with rar"),
    "nothing in it": ("r.csv.gz", gzip.compress(b""), "the file in it is empty"),
    "bad JSON": ("r.jsonl", b'{"user": 1, "item": 2, "rating": 3}\n{"user": 1,\n', "line 2: no valid JSON"),
    "JSON of numbers": ("r.jsonl", b"1\n", "line 1: expected an object"),
    "a wide matrix": (
        "jester.csv",
        (",".join(f"joke{n}" for n in range(100)) + "\n" + ",".join(["99"] * 100) + "\n").encode(),
        "100 columns look like a matrix.*unpivot in polars or melt in pandas",
    ),
    "a wide matrix without names": (
        "jester.csv",
        (",".join(str(n / 7) for n in range(101)) + "\n").encode() * 2,
        "matrix",
    ),
    "a bad line in a block": (
        "combined.txt",
        b"1:\n5,4,2005-09-06\n5;3\n",
        "line 3: found '5;3', expected user,rating",
    ),
}


@pytest.mark.parametrize("name, content, expected", CANNOT_BE_UNPACKED.values(), ids=CANNOT_BE_UNPACKED.keys())
def test_a_file_that_cannot_be_read_is_named(write, name, content, expected):
    path = write(name, content)
    message = refusal(path)
    assert message.startswith(path)
    assert re.search(expected, message), message


def test_numbers_and_text_of_json_are_ids_as_written(write):
    lines = '{"user": 7, "item": "a", "rating": 4}\n{"user": "007", "item": "a", "rating": 3.5}\n'
    assert triples(load(write("r.jsonl", lines))) == [("7", "a", 4.0), ("007", "a", 3.5)]


def test_floats_of_json_are_no_ids(write):
    message = refusal(write("r.jsonl", '{"user": 7.0, "item": "a", "rating": 4}\n'))
    assert "line 1, column user: found Float64, expected text or whole numbers as ids" in message


def spreadsheet(*rows: Sequence[Any]) -> bytes:
    """A workbook of one sheet, written by hand."""

    def cell(value: Any) -> str:
        if isinstance(value, str):
            return f'<c t="inlineStr"><is><t>{value}</t></is></c>'
        return f"<c><v>{value}</v></c>"

    lines = "".join(f'<row r="{n}">{"".join(map(cell, row))}</row>' for n, row in enumerate(rows, 1))
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    relations = "http://schemas.openxmlformats.org/package/2006/relationships"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    types = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    parts = {
        "[Content_Types].xml": f'<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        f'<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{types}.sheet.main+xml"/>'
        f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{types}.worksheet+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{relations}"><Relationship Id="r1" Type="{office}/officeDocument" '
        f'Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets>'
        f'<sheet name="ratings" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{relations}"><Relationship Id="r1" '
        f'Type="{office}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{main}"><sheetData>{lines}</sheetData></worksheet>',
    }
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return made.getvalue()


def test_a_spreadsheet(write):
    pytest.importorskip("fastexcel", reason="no reader: pip install 'hierfed[excel]'")
    content = spreadsheet(("user", "item", "rating"), *ROWS)
    assert triples(load(write("r.xlsx", content))) == ROWS
    numbers = spreadsheet(("user", "item", "rating"), (7, "007", 4.5), (8, "7", 3))
    assert triples(load(write("s.xlsx", numbers))) == [("7", "007", 4.5), ("8", "7", 3.0)]
    assert "row 3, column rating: found 'x'" in refusal(
        write("t.xlsx", spreadsheet(("user", "item", "rating"), (7, 1, 4.5), (8, 1, "x")))
    )
    assert "cannot be read as a spreadsheet" in refusal(write("u.xlsx", b"PK nothing"))


def test_a_spreadsheet_without_its_reader(write, monkeypatch):
    monkeypatch.setitem(sys.modules, "fastexcel", None)
    message = refusal(write("r.xlsx", b"PK"))
    assert message.endswith("r.xlsx: a spreadsheet: save it as CSV, or pip install 'hierfed[excel]'")


# Encodings


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-16-le", "shift_jis", "gb18030", "utf-8-sig"])
def test_an_encoding_by_name(write, encoding):
    item = "日本" if encoding in ("utf-16", "utf-16-le", "shift_jis", "gb18030", "utf-8-sig") else "Amélie"
    path = write("r.csv", f"user,item,rating\nu1,{item},4\n".encode(encoding))
    assert triples(load(path, how=TableSettings(encoding=encoding))) == [("u1", item, 4.0)]


def test_the_refusal_names_the_option(write):
    assert "--encoding latin-1" in refusal(write("r.csv", "user,item,rating\nu1,é,4\n".encode("latin-1")))
    assert "--encoding utf-16" in refusal(write("s.csv", "user,item,rating\nu1,é,4\n".encode("utf-16")))
    assert "cannot be read as ascii" in refusal(write("t.csv", "user,item,rating\nu1,é,4\n"), encoding="ascii")


@pytest.mark.parametrize("encoding", ["utf8x", "zip", "hex", "latin-99"])
def test_no_encoding(encoding):
    with pytest.raises(ValueError, match="knows no encoding"):
        TableSettings(encoding=encoding)


# Folders

FOLDERS = {
    "Kaggle's MovieLens": ("rating.csv", "movie.csv", "movieId,title,genres\ni1,Heat (1995),Action\n"),
    "Kaggle's small one": ("ratings_small.csv", "movies.csv", "movieId,title,genres\ni1,Heat (1995),Action\n"),
    "books": ("BX-Book-Ratings.csv", "BX-Books.csv", "ISBN;Book-Title\ni1;Heat (1995)\n"),
    "books, newer": ("Ratings.csv", "Books.csv", "ISBN,Book-Title,Book-Author\ni1,Heat (1995),X\n"),
    "packed": ("ratings.csv.gz", "movies.csv", "movieId,title,genres\ni1,Heat (1995),Action\n"),
    "anime": ("rating.csv", "anime.csv", "anime_id,name,genre\ni1,Heat (1995),Action\n"),
}


@pytest.mark.parametrize("ratings, items, content", FOLDERS.values(), ids=FOLDERS.keys())
def test_folders_by_kaggle_s_names(write, tmp_path, ratings, items, content):
    write(f"k/{ratings}", gzip.compress(SMALL.encode()) if ratings.endswith("gz") else SMALL)
    write(f"k/{items}", content)
    dataset = load(str(tmp_path / "k"))
    assert triples(dataset) == ROWS
    assert dataset.catalogue.frame["title"].to_list() == ["Heat", None]


def test_a_second_table_in_a_folder_is_spoken_of(write, tmp_path):
    write("k/ratings.csv", SMALL)
    write("k/ratings_small.csv", SMALL[:20])
    assert "ratings.csv is read, and ratings_small.csv is not" in load(str(tmp_path / "k")).provenance.notes


# Tables in memory


def in_pandas(dtype: str) -> Any:
    import pandas as pd

    made = pd.DataFrame(ROWS, columns=["user", "item", "rating"])
    return made.astype({"user": dtype, "item": dtype})


MEMORY: dict[str, Callable[[], Any]] = {
    "polars": lambda: frame_of(ROWS),
    "polars, lazy": lambda: frame_of(ROWS).lazy(),
    "pandas": lambda: in_pandas("object"),
    "pandas, text": lambda: in_pandas("str"),
    "pandas, categories": lambda: in_pandas("category"),
    "pandas, string": lambda: in_pandas("string"),
    "Arrow": lambda: ArrowTable(frame_of(ROWS)),
}


class ArrowTable:
    """A table that only Arrow's interface gives away, as pyarrow's."""

    def __init__(self, frame: pl.DataFrame):
        self._frame = frame

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._frame.__arrow_c_stream__(requested_schema)


@pytest.mark.parametrize("make", MEMORY.values(), ids=MEMORY.keys())
def test_tables_in_memory(make):
    assert triples(load(make())) == ROWS


def test_kinds_of_pandas_numbers_and_times():
    import pandas as pd

    frame = pd.DataFrame(
        {
            "user": pd.array([1, 2], dtype="Int64"),
            "item": [7, 8],
            "rating": pd.array([4.5, 3.0], dtype="Float64"),
            "time": pd.to_datetime(["2020-12-31T13:00+01:00"] * 2),
        },
        index=[5, 9],
    )
    dataset = load(frame)
    assert triples(dataset) == [("1", "7", 4.5), ("2", "8", 3.0)]
    assert dataset.ratings.time.tolist() == [NOON, NOON]
    frame.loc[5, "user"] = pd.NA
    assert "a table in memory, row 1, column user: found nothing, expected an id" in refusal(frame)
    frame["user"] = [1.0, 2.0]
    assert "astype('Int64')" in refusal(frame)


def test_a_path_is_a_source(write):
    assert triples(load(Path(write("r.csv", SMALL)))) == ROWS


@pytest.mark.parametrize("data", [3, None, ["r.csv"], {"user": 1}])
def test_what_is_no_data(data):
    assert "no such data" in refusal(data)

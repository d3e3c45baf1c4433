"""Every bad input gives one clear line: the file, the row, the column, what was found and what was expected."""

import re
from pathlib import Path

import polars as pl
import pytest

from hierfed.data.reading.sources import load
from hierfed.data.settings import TableSettings
from hierfed.errors import DataError

HEAD = "userId,movieId,rating,timestamp\n"
GOOD = "1,10,4.0,1000000000\n"
README = "MovieLens (ml-20m); neither the University of Minnesota nor anybody else guarantees it."


def failure(source: str, **options) -> str:
    with pytest.raises(DataError) as caught:
        load(source, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert "polars" not in message.lower()
    assert caught.value.exit_code == 2
    return message


BAD_ROWS = {
    "rating no number": (
        "1,11,five,1000000000",
        r"line 3, column rating: found 'five', expected a number from 0.5 to 5",
    ),
    "rating NaN": ("1,11,NaN,1000000000", r"line 3, column rating: found .*nan.*, expected a number"),
    "rating infinite": ("1,11,inf,1000000000", r"line 3, column rating: found .*inf.*, expected a number"),
    "rating empty": ("1,11,,1000000000", r"line 3, column rating: found nothing, expected a number"),
    "rating too high": ("1,11,5.5,1000000000", r"line 3, column rating: found 5.5, expected a number from 0.5 to 5"),
    "rating zero": ("1,11,0,1000000000", r"line 3, column rating: found 0.0, expected a number from 0.5 to 5"),
    "user empty": (",11,4,1000000000", r"line 3, column userId: found nothing, expected an id"),
    "item of white space": ("1,  ,4,1000000000", r"line 3, column movieId: found '  ', expected an id"),
    "time is text": ("1,11,4,yesterday", r"line 3, column timestamp: found 'yesterday', expected a time in seconds"),
    "time negative": ("1,11,4,-5", r"line 3, column timestamp: found -5, expected a time"),
    "time in milliseconds": ("1,11,4,1260759144000", r"line 3, column timestamp: found 1260759144000, expected a time"),
    "time overflows": ("1,11,4,99999999999999999999", r"line 3, column timestamp: found '9{20}', expected a time"),
    "time empty": ("1,11,4,", r"line 3, column timestamp: found nothing, expected a time"),
    "too few fields": ("1,11,4", r"line 3: has 3 fields, expected 4"),
    "invented row": ("999999,999999,5.0", r"line 3: has 3 fields, expected 4"),
    "too many fields": ("1,11,4,1000000000,9", r"line 3: has 5 fields, expected 4"),
    "blank line": ("", r"line 3: is empty, expected 4"),
    "pair twice": (
        "1,10,3.0,1000000001",
        r"line 3: user 1 rates item 10 again, first in .*ratings.csv, line 2; 1 rows",
    ),
    "open quote": ('1,"11,4,1000000000', r"line 3: a quoted field that does not end"),
}


@pytest.mark.parametrize("row, expected", BAD_ROWS.values(), ids=BAD_ROWS.keys())
def test_a_bad_row_of_a_folder_is_named(write, tmp_path, row, expected):
    write("README.txt", README)
    path = write("ratings.csv", HEAD + GOOD + row + "\n" + "2,10,1.0,1000000000\n")
    message = failure(str(tmp_path))
    assert message.startswith(path)
    assert re.search(expected, message), message


# No field is quoted in that format, so there a quote is a part of an id.
BAD_UNQUOTED = {name: row for name, (row, _) in BAD_ROWS.items() if name != "open quote"}


@pytest.mark.parametrize("row", BAD_UNQUOTED.values(), ids=BAD_UNQUOTED.keys())
def test_a_bad_row_is_named_in_the_100k_format_too(write, tmp_path, row):
    write("README", README)
    write("u.data", (GOOD + row + "\n2\t10\t1\t1000000000\n").replace(",", "\t"))
    message = failure(str(tmp_path))
    assert "u.data" in message
    assert "line 2" in message


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b"\n\n"])
def test_an_empty_file(write, tmp_path, content):
    write("ratings.csv", content)
    assert "is empty" in failure(str(tmp_path))


@pytest.mark.parametrize("content", [HEAD, HEAD.strip(), HEAD + "\n\n"])
def test_a_header_alone(write, tmp_path, content):
    write("ratings.csv", content)
    assert failure(str(tmp_path)).endswith("ratings.csv: the file holds a header and no data rows")


def test_a_renamed_column_suggests_the_near_one(write, tmp_path):
    write("ratings.csv", "userId,movieId,raiting,timestamp\n" + GOOD)
    message = failure(str(tmp_path))
    assert "line 1: no column for the rating (did you mean 'raiting'?)" in message


def test_a_missing_column_lists_what_is_there(write, tmp_path):
    write("ratings.csv", "userId,rating,timestamp\n1,4.0,1000000000\n")
    message = failure(str(tmp_path))
    assert "no column for the item" in message
    assert "found userId, rating, timestamp" in message


def test_a_table_without_header(write):
    assert "the first line holds numbers, expected column names" in failure(write("r.csv", "1,10,4.0\n2,10,3.0\n"))


def test_a_column_that_stands_twice(write):
    assert "column 'user' stands twice" in failure(write("r.csv", "user,user,item,rating\n1,1,2,3\n"))


def test_two_columns_that_could_be_the_user(write):
    message = failure(write("r.csv", "user,userId,item,rating\n1,1,2,3\n"))
    assert "columns user and userId could both be the user" in message


@pytest.mark.parametrize(
    "columns, expected",
    [
        ({"usr": "a"}, r"unknown role 'usr' \(did you mean 'user'\?\)"),
        ({"user": "wh"}, r"no column 'wh' for the user \(did you mean 'who'\?\)"),
        ({"user": "who", "item": "who"}, r"column 'who' is mapped to more than one"),
    ],
)
def test_a_mapping_that_does_not_fit(write, columns, expected):
    assert re.search(expected, failure(write("r.csv", "who,item,rating\n1,2,3\n"), how=TableSettings(columns=columns)))


def test_latin_1_where_utf_8_is_expected(write, csv_folder):
    write(
        "ml/movies.csv", "movieId,title,genres\n10,Heat (1995),Action\n40,Am\xe9lie (2001),Comedy\n".encode("latin-1")
    )
    assert re.search(r"movies.csv, line 3: byte 6 of the line is 0xe9, expected UTF-8", failure(str(csv_folder)))


def test_wrong_bytes_in_ratings(write, tmp_path):
    write("ratings.csv", (HEAD + GOOD).encode() + b"1,11,4\xff,1000000000\n")
    assert re.search(r"ratings.csv, line 3: byte 7 of the line is 0xff", failure(str(tmp_path)))


def test_utf_16(write, tmp_path):
    write("ratings.csv", (HEAD + GOOD).encode("utf-16"))
    assert "looks like UTF-16" in failure(str(tmp_path))


def test_a_truncated_file(write, tmp_path):
    write("ratings.csv", HEAD + GOOD + "1,11,3.0,10000000\n1,12")
    assert "line 4: has 2 fields, expected 4" in failure(str(tmp_path))


def test_a_metadata_row_split_over_lines(write, csv_folder):
    path = Path(csv_folder / "kaggle" / "movies_metadata.csv")
    write("kaggle/movies_metadata.csv", path.read_text().replace("tt0112346,The American", "tt0112346,The\nAmerican"))
    assert re.search(r"movies_metadata.csv, line 3: has 3 fields, expected 10", failure(str(csv_folder)))


def test_metadata_without_a_column(write, csv_folder):
    path = Path(csv_folder / "kaggle" / "movies_metadata.csv")
    write("kaggle/movies_metadata.csv", path.read_text().replace("runtime", "run_time", 1))
    assert "line 1: no column 'runtime' (did you mean 'run_time'?)" in failure(str(csv_folder))


@pytest.mark.parametrize(
    "name, content, expected",
    [
        (
            "movies.csv",
            "movieId,title,genres\n10,A (1990),Drama\n10,B (1991),Drama\n",
            r"line 3, column movieId: film 10 stands twice",
        ),
        (
            "movies.csv",
            "movieId,title,genres\n,A (1990),Drama\n",
            r"line 2, column movieId: found nothing, expected an id",
        ),
        ("links.csv", "movieId,imdbId,tmdbId\n10,1,2\n20,1,z\n", r"line 3, column tmdbId: found 'z', expected a whole"),
        ("links.csv", "movieId,imdbId,tmdb\n10,1,2\n", r"no column 'tmdbId' \(did you mean 'tmdb'\?\)"),
    ],
)
def test_bad_films_and_links(write, csv_folder, name, content, expected):
    write(f"ml/{name}", content)
    assert re.search(expected, failure(str(csv_folder)))


def test_nothing_there(tmp_path):
    assert "no such data" in failure(str(tmp_path / "nowhere"))
    assert "did you mean 'embedded'?" in failure("embeded")


def test_a_folder_with_nothing_recognised(write, tmp_path):
    write("notes/readme.md", "hello")
    message = failure(str(tmp_path))
    assert all(name in message for name in ("ratings.csv", "u.data", "ratings.dat", "one level down"))


def test_a_folder_with_two_data_sets(write, tmp_path):
    write("a/ratings.csv", HEAD + GOOD)
    write("b/u.data", GOOD.replace(",", "\t"))
    assert re.search(r"several data sets: a/ .*, b/ ", failure(str(tmp_path)))


def test_a_parquet_file_that_is_none(write, tmp_path):
    assert "cannot be read as Parquet" in failure(write("r.parquet", "user,item,rating\n1,2,3\n"))
    whole = tmp_path / "whole.parquet"
    pl.DataFrame({"user": range(1000), "item": range(1000), "rating": [1.0] * 1000}).write_parquet(whole)
    assert "truncated" in failure(write("cut.parquet", whole.read_bytes()[:-100]))


@pytest.mark.parametrize(
    "column, values, expected",
    [
        ("rating", [1.0, None], r"row 2, column rating: found nothing, expected a finite number"),
        ("rating", [1.0, float("nan")], r"row 2, column rating: found nan, expected a finite number"),
        ("rating", ["1", "two"], r"row 2, column rating: found 'two', expected a finite number"),
        ("rating", [True, False], r"column rating: found values of type Boolean, expected numbers"),
        ("user", [1.0, 2.0], r"row 1, column user: found Float64, expected text or whole numbers as ids.*astype"),
        ("user", [[1], [2]], r"column user: found values of type List.*, expected ids"),
        ("item", [1, None], r"row 2, column item: found nothing, expected an id"),
        ("time", [1, 2**62], r"row 2, column time: found 4611686018427387904, expected a time"),
    ],
)
def test_bad_values_in_parquet(tmp_path, column, values, expected):
    path = tmp_path / "r.parquet"
    table = {"user": [1, 2], "item": [1, 2], "rating": [1.0, 2.0], "time": [1, 2]} | {column: values}
    pl.DataFrame(table, strict=False).write_parquet(path)
    assert re.search(expected, failure(str(path)))


def test_an_empty_parquet(tmp_path):
    path = tmp_path / "r.parquet"
    pl.DataFrame(schema={"user": pl.Int64, "item": pl.Int64, "rating": pl.Float64}).write_parquet(path)
    assert "the file holds no rows" in failure(str(path))


def test_ids_of_a_table(write):
    assert "line 3, column user: found '  ', expected an id" in failure(
        write("b.csv", "user,item,rating\nu1,1,3\n  ,1,3\n")
    )


def test_a_rating_too_large_to_keep(write):
    assert "line 2, column rating: found 1e+39, expected a finite number" in failure(
        write("r.csv", "user,item,rating\n1,1,1e39\n")
    )


def test_a_test_table_that_repeats_train_pairs(write):
    train = write("train.csv", "user,item,rating\na,x,1\na,y,2\n")
    test = write("test.csv", "user,item,rating\nb,x,1\na,y,2\n")
    message = failure(train, test=test)
    assert message.startswith(f"{test}, line 3: user a rates item y again, first in {train}, line 3")
    assert "test ratings must not repeat train ratings" in message


def test_many_repeats_are_counted(write):
    message = failure(write("r.csv", "user,item,rating\n1,1,1\n2,1,1\n1,1,2\n2,1,2\n1,1,3\n"))
    assert "r.csv, line 4: user 1 rates item 1 again, first in" in message
    assert "line 2; 3 rows repeat" in message


def test_a_line_number_counts_lines_not_rows(write):
    content = 'user,note,item,rating\n1,"two\nlines",1,3\n2,plain,1,bad\n'
    assert "line 4, column rating: found 'bad'" in failure(write("r.csv", content))


@pytest.mark.parametrize(
    "options, expected",
    [
        (
            {"join": ["link"]},
            r"join 'link' is not possible here \(did you mean 'links'\?\); possible: links, paper, title",
        ),
        ({"unmatched": "maybe"}, r"unmatched is 'maybe', expected 'keep' or 'drop'"),
        ({"test": "nowhere.csv"}, r"nowhere.csv: file not found"),
    ],
)
def test_options_that_do_not_fit(csv_folder, options, expected):
    assert re.search(expected, failure(str(csv_folder), **options))


def test_options_that_a_source_cannot_take(write, tmp_path):
    assert "possible: none" in failure(write("r.csv", "user,item,rating\n1,1,1\n"), join=["links"])
    write("k/u.data", GOOD.replace(",", "\t"))
    write("k/u1.base", GOOD.replace(",", "\t"))
    assert "no test split 'u2'; its splits are u1" in failure(str(tmp_path / "k"), test="u2")
    assert "its columns are fixed" in failure(str(tmp_path / "k"), how=TableSettings(columns={"user": "who"}))


def test_dropping_everything_is_refused(write, tmp_path):
    write("ratings.csv", HEAD + GOOD)
    assert "finds metadata for none of the 1 ratings" in failure(str(tmp_path), unmatched="drop")


def test_a_folder_in_place_of_a_file(write, tmp_path):
    path = write("r.csv", "user,item,rating\n1,1,1\n")
    assert "cannot be read" in failure(path, test=str(tmp_path))

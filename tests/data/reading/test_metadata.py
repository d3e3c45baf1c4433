"""movies_metadata.csv, in the ten columns used and as Kaggle publishes it."""

from pathlib import Path

import pytest

from hierfed.data.reading.metadata import read_metadata
from hierfed.errors import DataError

HEAD = "id,title,release_date,genres,popularity,runtime,vote_average,vote_count,revenue\n"
FULL = (
    "adult,belongs_to_collection,budget,genres,homepage,id,imdb_id,original_language,original_title,overview,"
    "popularity,poster_path,production_companies,production_countries,release_date,revenue,runtime,spoken_languages,"
    "status,tagline,title,video,vote_average,vote_count\n"
)


def full_row(number, title, overview) -> str:
    return (
        f"False,,0,\"[{{'id': 18, 'name': 'Drama'}}]\",,{number},tt1,en,{title},{overview},2.5,/p.jpg,[],[],"
        f"1999-03-31,7.0,90.0,[],Released,,{title},False,6.5,10.0\n"
    )


def test_dirt_is_dropped_or_made_null_and_counted(write):
    path = write(
        "movies_metadata.csv",
        HEAD
        + "1,A,1999-01-01,\"[{'id': 1, 'name': 'Drama'}, {'name': \"\"Children's\"\", 'id': 2}]\",1.5,0.0,5,6,7\n"
        + "1997-08-20,,1,[],,,,,\n"
        + "1,B,2000-01-01,[],9,9,9,9,9\n"
        + "2,C,,,many,inf,,nan,3\n"
        + "3,D,bad,Drama,1,2,3,4,5\n",
    )
    metadata = read_metadata(Path(path))
    frame = metadata.frame
    assert frame["id"].to_list() == [1, 2, 3]
    assert frame["copies"].to_list() == [2, 1, 1]
    assert frame["title"].to_list() == ["A", "C", "D"]
    assert frame["year"].to_list() == [1999, None, None]
    assert frame["metadata_genres"].to_list() == [["Drama", "Children's"], [], []]
    assert frame["popularity"].to_list() == [1.5, None, 1.0]
    assert frame["runtime"].to_list() == [0.0, None, 2.0]
    assert frame["vote_count"].to_list() == [6.0, None, 4.0]
    notes = "\n".join(metadata.notes)
    assert "5 rows; 1 dropped whose id is no number, 1 dropped whose id stood before; 3 films left" in notes
    assert "1 rows where popularity is no finite number, such as 'many'" in notes
    assert "1 rows where runtime is no finite number, such as 'inf'" in notes
    assert "2 rows without vote_average" in notes
    assert "1 rows where genres are no list, such as 'Drama'" in notes
    assert metadata.file.rows == 5


def test_kaggles_full_file_with_its_three_split_rows(write):
    split = (
        "False,,0,\"[{'id': 28, 'name': 'Action'}]\",,82663,tt0113002,en,Midnight Man,\n"
        " - Written by Ørnås,0.065736,/f.jpg,\"[{'name': 'Carousel Productions', 'id': 1}]\",[],1997-08-20,0,104.0,"
        "[],Released,,Midnight Man,False,6.0,1\n"
    )
    path = write(
        "movies_metadata.csv",
        FULL + full_row(603, "The Matrix", '"Two lines,\nand a ""quote"""') + split + full_row(5, "Five", "Plain"),
    )
    metadata = read_metadata(Path(path))
    assert metadata.frame.select("id", "title", "year", "runtime", "vote_count").rows() == [
        (603, "The Matrix", 1999, 90.0, 10.0),
        (82663, None, None, None, None),
        (5, "Five", 1999, 90.0, 10.0),
    ]
    assert metadata.file.rows == 4


def test_any_other_split_row_is_an_error(write):
    path = write("movies_metadata.csv", FULL + full_row(603, "The Matrix", "Two\nlines") + full_row(5, "Five", "Plain"))
    with pytest.raises(DataError, match=r"movies_metadata.csv, line 2: has 10 fields, expected 24"):
        read_metadata(Path(path))


def test_no_usable_row(write):
    with pytest.raises(DataError, match="no row has a whole number as id"):
        read_metadata(Path(write("movies_metadata.csv", HEAD + "x,A,1999-01-01,[],1,1,1,1,1\n")))


def test_the_real_file(real_data):
    metadata = read_metadata(Path(real_data) / "the-movies-dataset" / "movies_metadata.csv")
    assert metadata.file.rows == 45_466
    assert "3 dropped whose id is no number, 30 dropped whose id stood before" in metadata.notes[0]
    assert "movies_metadata.csv: 86 rows without popularity" in metadata.notes
    assert "movies_metadata.csv: 263 rows without runtime" in metadata.notes
    assert len({genre for genres in metadata.frame["metadata_genres"].to_list() for genre in genres}) == 20

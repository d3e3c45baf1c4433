"""Each published format gives the same ratings and films."""

import pytest

from hierfed.data.reading.sources import load
from hierfed.errors import DataError

ROWS = [(7, 10, 4), (7, 20, 3), (3, 10, 1), (3, 40, 5)]
README = "This dataset (ml-25m) is MovieLens; neither the University of Minnesota nor anybody else guarantees it."
FLAGS = {10: "0|1|0|0|0|0|1|0|0|0|0|0|0|0|0|0|0|0|0", 40: "1" + "|0" * 18}


def dat(rows) -> str:
    return "".join(f"{u}::{i}::{r}::1000000000\n" for u, i, r in rows)


def tab(rows) -> str:
    return "".join(f"{u}\t{i}\t{r}\t881250949\n" for u, i, r in rows)


def check(dataset) -> None:
    items = dataset.catalogue.frame["item_id"].to_numpy()
    users = dataset.user_ids.to_numpy()
    ratings = dataset.ratings
    # Train rows before test rows, each by user and item.
    found = list(zip(users[ratings.user].tolist(), items[ratings.item].tolist(), ratings.value.tolist(), strict=True))
    assert sorted(found) == sorted(ROWS)
    frame = dataset.catalogue.frame
    assert frame["title"].to_list() == ["Heat", None, "Amélie: le destin"]
    assert frame["year"].to_list() == [1995, None, 2001]
    assert frame["genres"].to_list() == [["Action", "Crime"], None, []]
    assert any(note.startswith("1 rated films are not in") for note in dataset.provenance.notes)


def test_ml_1m(write, tmp_path):
    write("ratings.dat", dat(ROWS))
    write("users.dat", "1::F::1::10::48067\n")
    write("README", README)
    films = "10::Heat (1995)::Action|Crime\n40::Amélie: le destin (2001)::(no genres listed)\n"
    write("movies.dat", films.encode("latin-1"))
    dataset = load(str(tmp_path))
    check(dataset)
    assert dataset.provenance.name == "MovieLens ml-1m"
    assert "must not be redistributed" in dataset.provenance.licence
    assert [(file.name, file.rows) for file in dataset.provenance.files] == [("ratings.dat", 4), ("movies.dat", 2)]


def test_ml_10m(write, tmp_path):
    write("ml-10M100K/ratings.dat", dat(ROWS))
    write("ml-10M100K/README.html", README)
    write("ml-10M100K/tags.dat", "15::4973::excellent!::1215184630\n")
    films = "10::Heat (1995)::Action|Crime\n40::Amélie: le destin (2001)::(no genres listed)\n"
    write("ml-10M100K/movies.dat", films)
    dataset = load(str(tmp_path))
    check(dataset)
    assert dataset.provenance.name == "MovieLens ml-10m"
    write("ml-10M100K/movies.dat", films.encode("latin-1"))
    with pytest.raises(DataError, match=r"movies.dat, line 2: byte 7 of the line is 0xe9, expected UTF-8"):
        load(str(tmp_path))


def test_half_stars_are_in_ml_10m_and_not_in_ml_1m(write, tmp_path):
    write("ratings.dat", "1::1::0.5::1000000000\n")
    write("README", README)
    assert load(str(tmp_path)).ratings.value.tolist() == [0.5]
    write("users.dat", "1::F::1::10::48067\n")
    with pytest.raises(DataError, match=r"line 1, column rating: found 0.5, expected a number from 1 to 5"):
        load(str(tmp_path))


@pytest.fixture
def folder_100k(write, tmp_path) -> str:
    write("u.data", tab(ROWS))
    write("README", README)
    write("u1.base", tab(ROWS[:3]))
    write("u1.test", tab(ROWS[3:]))
    films = f"10|Heat (1995)|01-Jan-1995||http://x|{FLAGS[10]}\n40|Amélie: le destin (2001)|01-Jan-2001|||{FLAGS[40]}\n"
    write("u.item", films.encode("latin-1"))
    return str(tmp_path)


def test_ml_100k(folder_100k):
    dataset = load(folder_100k)
    check(dataset)
    assert dataset.test_rows is None
    assert dataset.provenance.name == "MovieLens ml-100k"


def test_ml_100k_split(folder_100k):
    dataset = load(folder_100k, test="u1")
    check(dataset)
    assert dataset.test_rows.tolist() == [False, False, False, True]
    assert dataset.ratings.value.tolist() == [1.0, 4.0, 3.0, 5.0]


def test_ml_100k_flags_are_0_or_1(folder_100k, write):
    write("u.item", f"10|Heat (1995)|01-Jan-1995||http://x|{FLAGS[10].replace('1', 'y')}\n")
    with pytest.raises(DataError, match=r"u.item, line 1, column Action: found 'y', expected 0 or 1"):
        load(folder_100k)


@pytest.mark.parametrize(
    "readme, folder, name",
    [
        (README, "data", "MovieLens ml-25m"),
        (README.replace("(ml-25m)", ""), "ml-20m", "MovieLens ml-20m"),
        (README.replace("(ml-25m)", ""), "data", "MovieLens (edition not known)"),
        (None, "ml-20m", "tables in ml-20m"),
        ("Our own ratings, laid out as MovieLens' are (ml-25m)", "data", "tables in data"),
    ],
)
def test_the_edition_comes_from_grouplens_own_readme(write, readme, folder, name):
    path = write(f"{folder}/ratings.csv", "userId,movieId,rating,timestamp\n1,1,1.0,1000000000\n")
    if readme:
        write(f"{folder}/README.txt", readme)
    provenance = load(path.removesuffix("/ratings.csv")).provenance
    assert provenance.name == name
    assert ("GroupLens" in provenance.licence) == name.startswith("MovieLens")


def test_ratings_from_before_movielens_are_pointed_out(write, tmp_path):
    write("ratings.csv", "userId,movieId,rating,timestamp\n672,1,1.0,0\n")
    write("README.txt", README)
    assert any("1 ratings are from before MovieLens began" in note for note in load(str(tmp_path)).provenance.notes)


def test_a_csv_folder_takes_a_test_table(csv_folder, write):
    test = write("held.csv", "userId,movieId,rating,timestamp\n7,30,2.0,1000000000\n")
    dataset = load(str(csv_folder / "ml"), test=test)
    assert dataset.test_rows.tolist() == [False] * 4 + [True]

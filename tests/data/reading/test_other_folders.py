"""Folders laid out as MovieLens' that are not: read as they are, on their own scale, with no licence claimed."""

from pathlib import Path

import pytest

from hierfed.data.description import describe
from hierfed.data.reading import editions
from hierfed.data.reading.sources import files_of, load
from hierfed.data.settings import TableSettings
from hierfed.errors import DataError

OTHERS = Path(__file__).parents[3] / "shared" / "other-data"
HEAD = "userId,movieId,rating,timestamp\n"
LICENCE = "MovieLens: neither the University of Minnesota nor anybody else guarantees it."
FOLDERS: dict[str, tuple[dict[str, str], tuple[float, float]]] = {
    "a rating of seven": ({"ratings.csv": HEAD + "1,10,7,1000000000\n2,20,1,1000000001\n"}, (1, 7)),
    "no header of GroupLens'": ({"ratings.csv": "user,item,rating\n1,10,4.5\n2,20,0.5\n"}, (0.5, 4.5)),
    "another's README": (
        {"ratings.csv": HEAD + "1,10,9,5\n2,20,1,6\n", "README.txt": "Like MovieLens (ml-20m)"},
        (1, 9),
    ),
    "GroupLens' README, another's header": (
        {"ratings.csv": "user_id,movieId,rating\n1,10,8\n2,20,2\n", "README.txt": LICENCE},
        (2, 8),
    ),
    "minus one for seen": ({"ratings.csv": "user_id,anime_id,rating\n1,10,-1\n2,20,10\n"}, (-1, 10)),
    "percent": ({"ratings.csv": "user,item,rating\n1,10,100\n2,20,0\n"}, (0, 100)),
    "MovieTweetings": (
        {
            "ratings.dat": "1::0010::7::1365029107\n2::0020::10::1366576639\n",
            "movies.dat": "0010::Heat (1995)::Action|Crime\n0020::Nothing (2003)::\n",
            "users.dat": "1::177651718\n2::139564917\n",
        },
        (7, 10),
    ),
    "ratings.dat alone": ({"ratings.dat": "1::10::0::1365029107\n2::20::5::1366576639\n"}, (0, 5)),
    "u.data on ten points": ({"u.data": "1\t10\t10\t881250949\n2\t20\t3\t881250949\n"}, (3, 10)),
    "FilmTrust": ({"ratings.txt": "1,10,0.5\n2,20,4"}, (0.5, 4)),
    "FilmTrust as published": ({"ratings.txt": "1 10 0.5\n2 20 4\n"}, (0.5, 4)),
    "ratings.txt with times": ({"ratings.txt": "1\t10\t2\t100\n2\t20\t3\t200\n"}, (2, 3)),
    "ratings.txt with a header": ({"ratings.txt": "item;user;rating\n10;1;2\n20;2;3\n"}, (2, 3)),
}


def load_files(write, tmp_path, files):
    for name, content in files.items():
        write(name, content)
    columns = {"item": "anime_id"} if "anime_id" in str(files) else None
    return load(str(tmp_path), how=TableSettings(columns=columns or {}))


@pytest.mark.parametrize("case", FOLDERS)
def test_a_folder_of_unknown_origin_has_its_own_scale_and_no_licence(write, tmp_path, case):
    files, limits = FOLDERS[case]
    dataset = load_files(write, tmp_path, files)
    assert (len(dataset.ratings), dataset.users, dataset.items) == (2, 2, 2)
    assert dataset.ratings.limits == limits
    told = {label: text for label, text in describe(dataset) if label in ("source", "licence", "cite")}
    assert "MovieLens" not in told["source"]
    assert told["licence"].startswith("not known")
    assert told["cite"] == "none known"
    assert any("unknown origin" in note for note in dataset.provenance.notes)


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("movies.csv", "movieId,title,genres\n10,Heat (1995),Action|Crime\n20,Nothing,\n"),
        ("items.csv", "item,title,genres\n20,Nothing,\n10,Heat (1995),Action|Crime\n"),
        ("items.csv", "Item ID;Genre;Title\n10;Action|Crime;Heat (1995)\n20;;Nothing\n"),
        ("books.csv", "id,name,genres,pages\n10,Heat (1995),Action|Crime,300\n20,Nothing,,20\n"),
    ],
)
def test_titles_years_and_genres_of_a_table_of_items_are_used(write, tmp_path, name, table):
    frame = load_files(write, tmp_path, {"ratings.csv": HEAD + "1,10,7,5\n2,20,1,6\n", name: table}).catalogue.frame
    assert frame["title"].to_list() == ["Heat", "Nothing"]
    assert frame["year"].to_list() == [1995, None]
    assert frame["genres"].to_list() == [["Action", "Crime"], []]


def test_titles_alone_and_a_table_that_says_nothing_of_items(write, tmp_path):
    ratings = HEAD + "1,10,7,5\n2,20,1,6\n"
    dataset = load_files(write, tmp_path, {"ratings.csv": ratings, "movies.csv": "movieId,title\n10,Heat\n"})
    assert dataset.catalogue.frame["title"].to_list() == ["Heat", None]
    assert dataset.catalogue.frame["genres"].null_count() == 2
    assert "1 rated items are not in movies.csv: no title, year or genres" in dataset.provenance.notes
    dataset = load_files(write, tmp_path, {"ratings.csv": ratings, "movies.csv": "shelf,colour\n1,red\n"})
    assert "movies.csv is not used: it has no columns for the item and its title" in dataset.provenance.notes
    assert [file.name for file in dataset.provenance.files] == ["ratings.csv"]


def test_text_ids_find_their_titles(write, tmp_path):
    files = {"ratings.dat": "ann::tt7::7::5\nbob::tt8::9::6\n", "movies.dat": "tt7::Heat (1995)::Action\n8::No::\n"}
    frame = load_files(write, tmp_path, files).catalogue.frame
    assert frame["title"].to_list() == ["Heat", None]


@pytest.mark.parametrize("rating", ["5.5", "0", "7"])
def test_an_edition_of_movielens_keeps_its_scale(write, tmp_path, rating):
    with pytest.raises(DataError, match=r"line 2, column rating: found .*, expected a number from 0.5 to 5"):
        load_files(write, tmp_path, {"ratings.csv": HEAD + f"1,10,{rating},1000000000\n", "README.txt": LICENCE})


def test_an_edition_without_its_readme_is_known_by_its_number_of_ratings(write, tmp_path, monkeypatch):
    monkeypatch.setattr(editions, "_CSV_EDITIONS", {2: "ml-20m"})
    monkeypatch.setattr(editions, "_DAT_EDITIONS", {3: "ml-1m"})
    for content, name in ((HEAD + "1,1,1,1000000000\n1,2,1,1000000000", "MovieLens ml-20m"), (HEAD + "1,1,1,5\n", "t")):
        write("ratings.csv", content)
        assert load(str(tmp_path)).provenance.name.startswith(name)
    write("dat/ratings.dat", "".join(f"1::{item}::1::1000000000\n" for item in range(3)))
    assert load(str(tmp_path / "dat")).provenance.name == "MovieLens ml-1m"


def test_the_cache_knows_every_file_that_is_read(write, tmp_path):
    write("ratings.csv", HEAD)
    write("items.csv", "item,title\n")
    write("README", LICENCE)
    names = {path.name for path in files_of(str(tmp_path)).values()}
    assert names == {"ratings.csv", "items.csv", "README"}


def test_movietweetings_as_published():
    if not OTHERS.is_dir():
        pytest.skip(f"no data at {OTHERS}")
    dataset = load(str(OTHERS / "movietweetings"))
    assert (len(dataset.ratings), dataset.users, dataset.items) == (100_000, 16_554, 10_506)
    assert dataset.ratings.limits == (0, 10)
    assert dataset.catalogue.frame["title"].null_count() == 0


def test_filmtrust_as_published_is_read_up_to_its_pairs_that_stand_twice():
    if not OTHERS.is_dir():
        pytest.skip(f"no data at {OTHERS}")
    with pytest.raises(DataError, match=r"line 7437: user 308 rates item 207 again.*; 3 rows repeat"):
        load(str(OTHERS / "filmtrust"))

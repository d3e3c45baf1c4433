"""A node's rows, numbered by the catalogue that all nodes share."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hierfed.data.catalogue import Catalogue
from hierfed.data.ratings import Ratings
from hierfed.data.reading.own import OwnRatings, own_ratings
from hierfed.data.reading.sources import read_ratings
from hierfed.errors import DataError

HEADER = "user,item,rating"
ROWS = ("9,30,4.5", "7,10,3", "9,10,0.5", "8,20,5", "7,30,2")


def catalogue_of(*ids) -> Catalogue:
    return Catalogue(pl.DataFrame({"item_id": list(ids)}))


@pytest.fixture
def own(write):
    def make(rows, catalogue: Catalogue, test=None, share=0.0, header=HEADER) -> OwnRatings:
        source = write("ratings.csv", "\n".join([header, *rows]) + "\n")
        held = None if test is None else write("test.csv", "\n".join([header, *test]) + "\n")
        return own_ratings(read_ratings(source, test=held), catalogue, share)

    return make


def triples(found: OwnRatings, rows: Ratings, catalogue: Catalogue) -> list[tuple[str, str, float]]:
    users, items = found.user_ids, catalogue.frame["item_id"]
    return [
        (str(users[int(u)]), str(items[int(i)]), float(v))
        for u, i, v in zip(rows.user, rows.item, rows.value, strict=True)
    ]


def told(rows) -> list[tuple[str, str, float]]:
    """The rows by user and item; those here have one width or are text."""
    return sorted((user, item, float(value)) for user, item, value in (row.split(",")[:3] for row in rows))


KNOWN = [(5, 10, 20, 30, 40), ("10", "20", "30", "5"), ("a", "30", "20", "10")]


@pytest.mark.parametrize("ids", KNOWN)
def test_items_have_the_catalogue_s_numbers_whether_ids_are_numbers_or_text(own, ids):
    catalogue = catalogue_of(*ids)
    found = own(ROWS, catalogue)
    names = [str(each) for each in ids]
    assert found.train.item.tolist() == [names.index(item) for _, item, _ in told(ROWS)]
    assert triples(found, found.train, catalogue) == told(ROWS)
    assert (len(found.test), found.unknown) == (0, 0)


def test_text_ids_meet_a_catalogue_of_numbers(own):
    catalogue = catalogue_of(10, 30)
    rows = ("u,10,1", "v,x9,2", "v,30,3", "u,010,4")
    found = own(rows, catalogue)
    assert triples(found, found.train, catalogue) == told([rows[0], rows[2]])
    assert found.unknown == 2


def test_rows_stand_by_user_and_item_with_their_times(own):
    found = own([f"{row},{1000 + k}" for k, row in enumerate(ROWS)], catalogue_of(10, 20, 30), header=f"{HEADER},time")
    assert found.user_ids.to_list() == [7, 8, 9]
    assert found.train.user.tolist() == [0, 0, 1, 2, 2]
    assert found.train.time.tolist() == [1001, 1004, 1003, 1002, 1000]
    kinds = (found.train.user.dtype, found.train.item.dtype, found.train.value.dtype)
    assert kinds == (np.int32, np.int32, np.float32)


def test_items_that_the_catalogue_does_not_know_are_left_out_and_counted(own):
    catalogue = catalogue_of(10, 20)
    found = own(ROWS, catalogue, test=["7,20,1", "7,31,1"])
    assert triples(found, found.train, catalogue) == told([ROWS[1], ROWS[2], ROWS[3]])
    assert triples(found, found.test, catalogue) == told(["7,20,1"])
    assert found.unknown == 3


def test_a_catalogue_that_knows_nothing_is_refused_in_one_line(own):
    with pytest.raises(
        DataError, match=r"knows none of its 5 ratings' items: .*not there are '10' and '20', there are '99' and '100'"
    ) as error:
        own(ROWS, catalogue_of(99, 100))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("test", [["7,20,1"], None])
def test_rows_that_are_all_held_out_or_unknown_are_refused_in_one_line(own, test):
    rows, catalogue = (["7,30,2"], catalogue_of(20)) if test else (["7,30,2"], catalogue_of(99))
    with pytest.raises(DataError) as error:
        own(rows, catalogue, test=test)
    assert "\n" not in str(error.value)


def test_a_test_table_is_never_learned_from(own):
    catalogue = catalogue_of(10, 20, 30)
    test = ["9,20,1", "6,10,2"]
    for share in (0.0, 0.5):
        found = own(ROWS, catalogue, test=test, share=share)
        assert triples(found, found.train, catalogue) == told(ROWS)
        assert triples(found, found.test, catalogue) == told(test)
        assert found.user_ids.to_list() == [6, 7, 8, 9]


def test_the_held_out_rows_of_a_user_depend_on_no_other_user(own):
    """So a training that goes on is judged on rows that nobody who is as before has learned from."""
    catalogue = catalogue_of(*range(10, 50))
    rows = [f"{user},{item},{1 + (user + item) % 5}" for user in range(3, 9) for item in range(10, 50, 1 + user % 3)]
    every = own(rows, catalogue, share=0.3)
    held = triples(every, every.test, catalogue)
    less = own([row for row in rows if not row.startswith("4,")], catalogue_of(*range(8, 50)), share=0.3)
    assert triples(less, less.test, catalogue_of(*range(8, 50))) == [each for each in held if each[0] != "4"]
    # Two users of the same items hold out different ones.
    assert len({tuple(item for user, item, _ in held if user == name) for name in ("3", "6")}) == 2


@pytest.mark.parametrize(
    ("rows", "test", "places"),
    [
        ([*ROWS, "9,10,1"], None, ("line 7", "line 4")),
        (ROWS, ["9,20,1", "8,20,1"], ("test.csv, line 3", "ratings.csv, line 5")),
        (["1,77,1", "1,77,1", "1,10,1"], None, ("line 3", "line 2")),
    ],
    ids=["within", "across", "of an item that is left out"],
)
def test_a_pair_that_stands_twice_is_refused_with_both_places(own, rows, test, places):
    with pytest.raises(DataError, match="rates item") as error:
        own(rows, catalogue_of(10, 20, 30), test=test)
    assert all(place in str(error.value) for place in places)
    assert "\n" not in str(error.value)


SOME = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 12), st.sampled_from([0.5, 2.0, 5.0])),
    min_size=1,
    max_size=40,
    unique_by=lambda row: row[:2],
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=SOME, share=st.sampled_from([0.05, 0.3, 0.5, 0.9]), unknown=st.integers(0, 6))
def test_a_share_of_each_user_s_known_rows_is_held_out_and_one_is_always_left(own, rows, share, unknown):
    catalogue, texts = catalogue_of(*range(unknown, 13)), [f"{u},{i},{v}" for u, i, v in rows]
    usable = [(str(u), str(i), v) for u, i, v in rows if i >= unknown]
    if not usable:
        return
    found = own(texts, catalogue, share=share)
    train, test = (triples(found, part, catalogue) for part in (found.train, found.test))
    assert sorted(train + test) == sorted(usable)
    assert found.unknown == len(rows) - len(usable)
    assert all(part == sorted(part, key=lambda row: (int(row[0]), int(row[1]))) for part in (train, test))
    for user in {row[0] for row in usable}:
        mine = sum(row[0] == user for row in usable)
        held = sum(row[0] == user for row in test)
        assert held == min(max(1, round(share * mine)), mine - 1)
    again = own(texts[::-1], catalogue, share=share)
    assert triples(again, again.test, catalogue) == test


def test_nothing_is_held_out_where_nothing_is_asked_for(own):
    assert len(own(ROWS, catalogue_of(10, 20, 30)).test) == 0


def test_which_rows_are_held_out_is_drawn(own):
    """Not the last ones, which may be the newest."""
    rows = [f"{user},{item},3" for user in range(20) for item in range(10)]
    found = own(rows, catalogue_of(*range(10)), share=0.1)
    assert len(found.test) == 20
    assert len(set(found.test.item.tolist())) > 4


def test_limits_are_those_of_all_rows(own):
    found = own(ROWS, catalogue_of(10, 20, 30), test=["9,20,0.25"])
    assert found.limits == (0.25, 5.0)


CHANGES = {
    "a value": (*ROWS[:4], "7,30,2.5"),
    "an item": (*ROWS[:4], "7,20,2"),
    "a user": (*ROWS[:4], "8,30,2"),
    "a user's id": tuple(row.replace("9,", "11,", 1) if row.startswith("9") else row for row in ROWS),
    "one row less": ROWS[:4],
    "one row more": (*ROWS, "8,10,1"),
}


@pytest.mark.parametrize("rows", CHANGES.values(), ids=CHANGES.keys())
def test_the_digest_changes_with_the_rows(own, rows):
    catalogue = catalogue_of(10, 20, 30)
    assert own(rows, catalogue).digest != own(ROWS, catalogue).digest


def test_the_digest_is_the_same_while_the_rows_are(own, write):
    catalogue = catalogue_of(10, 20, 30)
    before = own(ROWS, catalogue).digest
    assert own(ROWS, catalogue).digest == before
    # Another order, values in another notation, rows of unknown items, and other test rows of the same users.
    assert own(ROWS[::-1], catalogue).digest == before
    assert own([*ROWS[:1], "7,10,3.0", *ROWS[2:], "7,99,1"], catalogue).digest == before
    assert own(ROWS, catalogue, test=["7,20,1"]).digest == before
    table = pl.DataFrame(
        [row.split(",") for row in ROWS], schema=["user", "item", "rating"], orient="row"
    ).with_columns(pl.col("rating").cast(pl.Float32))
    path = write("same.parquet", b"")
    table.write_parquet(path)
    assert own_ratings(read_ratings(path), catalogue).digest == before


def test_a_catalogue_of_a_folder_and_its_own_rows_fit(csv_folder):
    from hierfed.data.reading.sources import load

    dataset = load(str(csv_folder / "ml"))
    found = own_ratings(read_ratings(str(csv_folder / "ml")), dataset.catalogue)
    assert found.train.item.tolist() == dataset.ratings.item.tolist()
    assert found.train.user.tolist() == dataset.ratings.user.tolist()
    assert found.user_ids.to_list() == dataset.user_ids.to_list()
    assert json.dumps(found.limits) == "[0.5, 5.0]"

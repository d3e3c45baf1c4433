"""Times, codes for no rating, repeats and bad rows: read, counted, or refused in a line that says what to do."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from hierfed.data.reading.sources import load
from hierfed.data.settings import TableSettings
from tests.data.reading.tables import NOON, frame_of, refusal, triples


@pytest.mark.parametrize("rating", ["4,5", "-4,5", " 3,0", "10,25"])
def test_decimal_commas_are_named(write, rating):
    message = refusal(write("r.csv", f"user;item;rating\nu1;i1;4.5\nu1;i2;{rating}\n"))
    assert f"line 3, column rating: found '{rating}', expected a finite number, with a point and no decimal" in message


# Times

TIMES: dict[str, Any] = {
    "seconds": (NOON, ""),
    "milliseconds": (NOON * 10**3 + 999, ""),
    "microseconds": (NOON * 10**6, ""),
    "nanoseconds": (NOON * 10**9, ""),
    "ISO": ("2020-12-31T12:00:00", ""),
    "ISO, UTC": ("2020-12-31T12:00:00Z", ""),
    "ISO with a zone": ("2020-12-31T13:00:00+01:00", ""),
    "ISO with a zone in hours": ("2020-12-31 06:00:00-06", ""),
    "ISO with a zone without colon": ("2020-12-31T17:30:00+0530", ""),
    "ISO with a fraction": ("2020-12-31T12:00:00.999999", ""),
    "ISO with both": ("2020-12-31 13:00:00.5+01:00", ""),
    "ISO without seconds": ("2020-12-31 12:00", ""),
    "ISO, UTC by name": ("2020-12-31 12:00:00 UTC", ""),
    "seconds as text": (f" {NOON} ", ""),
    "milliseconds as text": (f"{NOON}000", ""),
    "day first": ("31/12/2020 12:00", "dd/mm/yyyy hh:mm"),
    "day first, as strptime": ("31/12/2020 12:00", "%d/%m/%Y %H:%M"),
    "month first": ("12/31/2020 12:00:00", "mm/dd/yyyy hh:mm:ss"),
    "points": ("31.12.20 12:00", "dd.mm.yy HH:MM"),
    "no signs": ("20201231120000", "yyyymmddhhmmss"),
    "a name of a month": ("Dec 31, 2020 12:00", "%b %d, %Y %H:%M"),
    "half days": ("12/31/2020 12:00 PM", "%m/%d/%Y %I:%M %p"),
    "a zone by format": ("31/12/2020 13:00 +0100", "%d/%m/%Y %H:%M %z"),
}


@pytest.mark.parametrize("written, form", TIMES.values(), ids=TIMES.keys())
def test_times(table, written, form):
    frame = frame_of([("u1", "i1", 4.0, written), ("u2", "i1", 5.0, written)], ("user", "item", "rating", "time"))
    dataset = load(**table(frame), how=TableSettings(time_format=form))
    assert dataset.ratings.time.tolist() == [NOON, NOON]


def test_a_day_by_format(write):
    path = write("r.csv", "user,item,rating,date\nu1,i1,4,01/02/2020\n")
    found = load(path, how=TableSettings(time_format="dd/mm/yyyy")).ratings.time
    assert found.tolist() == [int(datetime(2020, 2, 1, tzinfo=UTC).timestamp())]


def test_a_format_of_times_without_times_is_refused(table):
    written = table(frame_of([("u1", "i1", 4.0)]))
    query = {k: v for k, v in written.items() if k == "query"}
    assert "no column of times among" in refusal(written["source"], time_format="dd/mm/yyyy", **query)


@pytest.mark.parametrize("unit, factor", [("milliseconds", 10**3), ("microseconds", 10**6), ("nanoseconds", 10**9)])
def test_a_finer_unit_is_said_aloud(table, unit, factor):
    frame = frame_of([("u1", "i1", 4.0, NOON * factor)], ("user", "item", "rating", "time"))
    told = f"column time: the times are taken for {unit}, by their size"
    assert load(**table(frame)).provenance.warnings == (told,)


def test_seconds_are_not_spoken_of(table):
    frame = frame_of([("u1", "i1", 4.0, NOON)], ("user", "item", "rating", "time"))
    assert load(**table(frame)).provenance.warnings == ()


@pytest.mark.parametrize(
    "times, form",
    [
        ((NOON, NOON * 1000), ""),
        ((NOON * 1000, NOON * 10**6), ""),
        ((-5, NOON), ""),
        (("31/12/2020", "2020-12-31"), ""),
        (("31/12/2020", "12/31/2020"), "dd/mm/yyyy"),
        (("2020-12-31", "2020-02-30"), ""),
        (("12:00", "13:00"), "hh:mm"),
        (("yesterday", "2020"), "%Q"),
    ],
)
def test_times_that_are_none(table, times, form):
    frame = frame_of([("u1", "i1", 4.0, times[0]), ("u2", "i1", 5.0, times[1])], ("user", "item", "rating", "time"))
    written = table(frame)
    message = refusal(written["source"], time_format=form, **{k: v for k, v in written.items() if k == "query"})
    assert "column time: found" in message
    assert all(words in message for words in ("seconds since 1970", "milliseconds", "ISO 8601", "--time-format"))


# Rows that are no ratings


def test_a_code_is_seen_and_no_rating(table):
    rows = [("u1", "i1", 4.0), ("u1", "i2", -1.0), ("u2", "i1", -1.0), ("u2", "i2", 9.0), ("u3", "i9", -1.0)]
    dataset = load(**table(frame_of(rows)), how=TableSettings(no_rating=-1))
    assert triples(dataset) == [("u1", "i1", 4.0), ("u2", "i2", 9.0)]
    assert dataset.seen.tolist() == [[0, 1], [1, 0]]
    assert dataset.provenance.rows_in == 5
    assert dataset.provenance.dropped == {"seen, not rated (rating -1)": 3}


def test_a_field_without_a_rating_is_a_code_too(table):
    rows = [("u1", "i1", 4.0), ("u1", "i2", None), ("u2", "i2", 0.0), ("u2", "i1", 3.0)]
    dataset = load(**table(frame_of(rows)), how=TableSettings(no_rating=["empty", 0]))
    assert triples(dataset) == [("u1", "i1", 4.0), ("u2", "i1", 3.0)]
    assert dataset.provenance.dropped == {"seen, not rated (rating empty or 0)": 2}


def test_only_codes(table):
    written = table(frame_of([("u1", "i1", -1.0)]))
    assert "no row is a rating (1: seen, not rated (rating -1))" in refusal(
        written["source"], no_rating=[-1], **{k: v for k, v in written.items() if k == "query"}
    )


REPEATED = [("u1", "i1", 1.0, 30), ("u1", "i1", 5.0, 10), ("u1", "i1", 3.0, 20), ("u2", "i1", 2.0, 5)]


@pytest.mark.parametrize("how, kept", [("first", (5.0, 10)), ("last", (1.0, 30)), ("mean", (3.0, 30))])
def test_repeats_by_their_times(table, how, kept):
    dataset = load(**table(frame_of(REPEATED, ("user", "item", "rating", "time"))), how=TableSettings(repeats=how))
    assert triples(dataset) == [("u1", "i1", kept[0]), ("u2", "i1", 2.0)]
    assert dataset.ratings.time.tolist() == [kept[1], 5]
    assert dataset.provenance.dropped == {f"rated again (repeats: {how})": 2}
    assert dataset.provenance.rows_in == 4


@pytest.mark.parametrize("how, kept", [("first", 1.0), ("last", 3.0), ("mean", 3.0)])
def test_repeats_without_times_by_the_order_of_a_file(table, how, kept):
    written = table(frame_of([row[:3] for row in REPEATED]))
    database = "query" in written or written["source"].endswith("sqlite")
    if database and how != "mean":
        query = {k: v for k, v in written.items() if k == "query"}
        assert "rows of a database have no order" in refusal(written["source"], repeats=how, **query)
        return
    assert triples(load(**written, how=TableSettings(repeats=how))) == [("u1", "i1", kept), ("u2", "i1", 2.0)]


def test_repeats_are_an_error_unless_asked(table):
    written = table(frame_of(REPEATED, ("user", "item", "rating", "time")))
    assert "rates item i1 again" in refusal(written["source"], **{k: v for k, v in written.items() if k == "query"})


def test_bad_rows_are_left_out_and_counted(table):
    rows = [
        ("u1", "i1", "4", "100"),
        ("", "i2", "4", "100"),
        ("u1", " ", "4", "100"),
        ("u1", "i3", "four", "100"),
        ("u1", "i4", "inf", "100"),
        ("u1", "i5", "4", "never"),
        ("", "i6", "five", "never"),
        ("u2", "i1", "5", "100"),
    ]
    written = table(frame_of(rows, ("user", "item", "rating", "time")))
    assert "found nothing, expected an id" in refusal(
        written["source"], **{k: v for k, v in written.items() if k == "query"}
    )
    dataset = load(**written, how=TableSettings(bad_rows="skip"))
    assert triples(dataset) == [("u1", "i1", 4.0), ("u2", "i1", 5.0)]
    assert dataset.provenance.dropped == {
        "column user: no id": 2,
        "column item: no id": 1,
        "column rating: no rating": 2,
        "column time: no time": 1,
    }
    assert dataset.provenance.rows_in == 8


def test_rows_with_a_wrong_number_of_fields_are_bad_too(write):
    path = write("r.csv", "user,item,rating\nu1,i1,4\nu1\nu1,i2,2,9\n\nu2,i1,5\nu2,i1,4\n")
    dataset = load(path, how=TableSettings(bad_rows="skip", repeats="first"))
    assert triples(dataset) == [("u1", "i1", 4.0), ("u2", "i1", 5.0)]
    assert dataset.provenance.dropped == {"a wrong number of fields": 3, "rated again (repeats: first)": 1}
    assert "line 7: user u2 rates item i1 again" in refusal(path, bad_rows="skip")


def test_nothing_but_bad_rows(write):
    path = write("r.csv", "user,item,rating\nu1,i1,four\nu2,i1,five\n")
    assert "no row is a rating (2: column rating: no rating)" in refusal(path, bad_rows="skip")

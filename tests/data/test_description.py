"""What `hierfed data` shows adds up and hides nothing."""

import hashlib
from dataclasses import replace

import pytest

from hierfed.data.description import describe
from hierfed.data.reading.sources import load


def test_everything_is_told(csv_folder):
    lines = describe(load(str(csv_folder), join=["paper"]))
    text = {label: [value for name, value in lines if name == label] for label, _ in lines}
    assert text["ratings"] == ["2 by 2 users of 1 items"]
    assert text["rows"] == ["4 in = 2 used + 2 dropped"]
    assert text["dropped"] == ["2: no metadata (join paper)"]
    assert text["time"] == ["2001-09-09 to 2001-09-09"]
    assert text["join"][0].startswith("paper: metadata for 2 ratings (50.0%) of 1 items; 4 rows before")
    assert "other films" in text["warning"][0]
    assert "GroupLens" in text["licence"][0]
    sha256 = hashlib.sha256((csv_folder / "ml" / "ratings.csv").read_bytes()).hexdigest()
    assert sha256 in text["file"][0]


def test_a_source_without_times_join_or_dropped_rows(write):
    labels = [label for label, _ in describe(load(write("r.csv", "user,item,rating\n1,1,1\n")))]
    assert not {"time", "dropped", "warning", "test"} & set(labels)


def test_rows_that_are_not_accounted_for_are_refused(csv_folder):
    dataset = load(str(csv_folder))
    with pytest.raises(ValueError, match="5 rows in, but 4 used and dropped"):
        replace(dataset, provenance=replace(dataset.provenance, rows_in=5))

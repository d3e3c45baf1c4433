"""Codes among ratings are pointed out, and true scales are left in peace."""

from pathlib import Path

import numpy as np
import pytest

from hierfed.data.description import describe
from hierfed.data.rating_codes import code_warning
from hierfed.data.reading.embedded import read_embedded
from hierfed.data.reading.sources import load

OTHERS = Path(__file__).parents[3] / "shared" / "other-data"
HALF_STARS = {step / 2: 10 for step in range(1, 11)}
TEN = {rating: 10 * rating for rating in range(1, 11)}
ODD = dict.fromkeys(np.linspace(-10, 10, 77) ** 3 / 100, 3)
FIVE = dict.fromkeys(range(1, 6), 20)


def column(counts) -> np.ndarray:
    return np.repeat(np.array(list(counts), np.float32), list(counts.values()))


CODES = {
    "anime: -1 for seen": (TEN | {-1: 130}, "-1", "130 of 680 ratings (19.1%)"),
    "books: 0 for read": (TEN | {0: 900}, "0", "900 of 1,450 ratings (62.1%)"),
    "-1 beside 0 to 10": (TEN | {0: 5, -1: 40}, "-1", "6.7%"),
    "-1 beside half stars": (HALF_STARS | {-1: 5}, "-1", "4.8%"),
    "-2 beside 1 to 5": (FIVE | {-2: 9}, "-2", "8.3%"),
    "-99 beside 1 to 5": (FIVE | {-99: 2}, "-99", "2.0%"),
    "99 beside -10 to 10 in odd steps": (
        ODD | {99: 50},
        "99",
        "17.8%",
    ),
    "99 beside 1 to 5": (FIVE | {99: 2}, "99", "2.0%"),
    "12 beside 1 to 5": (FIVE | {12: 10}, "12", "9.1%"),
    "999 beside percents": (dict.fromkeys(range(0, 101, 5), 4) | {999: 30}, "999", "26.3%"),
    "0 beside half stars": (HALF_STARS | {0: 150}, "0", "60.0%"),
    "-1 where 3 is rare": ({-1: 50, 1: 10, 2: 10, 4: 10, 5: 10}, "-1", "55.6%"),
}
SCALES = {
    "half stars": HALF_STARS,
    "five stars": FIVE,
    "ten points": TEN,
    "0 to 10 with a few zeros": TEN | {0: 8},
    "0 to 5, zero as common as one": dict.fromkeys(range(6), 30),
    "many zeros, and many ones": {0: 300, 1: 100, 2: 20, 3: 10, 4: 10},
    "thumbs": {-1: 60, 1: 40},
    "like or not": {0: 80, 1: 20},
    "three values": {-1: 30, 0: 30, 1: 40},
    "both signs": dict.fromkeys(range(-2, 3), 20),
    "a gap in few ratings": {1: 5, 3: 5, 4: 5, 5: 5},
    "a rare slip": TEN | {-1: 5},
    "any number": dict.fromkeys(np.random.default_rng(0).normal(3, 1, 300), 1),
    "jokes": dict.fromkeys(np.round(np.linspace(-9.95, 9.95, 200), 2), 3),
    "one value": {3: 10},
    "doubling steps": {1: 10, 2: 10, 4: 10, 8: 10, 16: 10},
}


@pytest.mark.parametrize("case", CODES)
def test_a_code_is_pointed_out(case):
    counts, code, rows = CODES[case]
    line = code_warning(column(counts))
    assert f" are {code}, which stands apart" in line
    assert rows in line
    assert "\n" not in line


@pytest.mark.parametrize("case", SCALES)
def test_a_true_scale_is_left_in_peace(case):
    assert code_warning(column(SCALES[case])) == ""


def test_real_scales_are_left_in_peace(real_data):
    assert code_warning(read_embedded()[0].train.value) == ""
    assert code_warning(load(real_data).ratings.value) == ""
    if OTHERS.is_dir():
        assert code_warning(load(str(OTHERS / "movietweetings")).ratings.value) == ""
        stars = np.loadtxt(OTHERS / "filmtrust" / "ratings.txt", np.float32, delimiter=",")[:, 2]
        assert code_warning(stars) == ""


def test_the_description_of_data_warns(write):
    rows = [f"{user},{item},{(-1, 6, 7, 8, 9)[(user + item) % 5]}" for user in range(9) for item in range(9)]
    dataset = load(write("r.csv", "\n".join(["user,item,rating", *rows]) + "\n"))
    warnings = [text for label, text in describe(dataset) if label == "warning"]
    assert len(warnings) == 1
    assert "are -1, which stands apart from the others, 6 to 9" in warnings[0]

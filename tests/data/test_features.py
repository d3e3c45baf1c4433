"""Features against a hand computation, and fitted on the training rows only."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import MultiLabelBinarizer, StandardScaler

from hierfed.data.catalogue import Catalogue
from hierfed.data.features import RatingFeatures, catalogue_features, prepare_features
from hierfed.data.ratings import Ratings
from hierfed.data.reading.sources import load
from hierfed.errors import DataError


def fitted(films, train_items):
    """Features fitted on training ratings of these items."""
    return prepare_features(films, np.bincount(train_items, minlength=len(films)).astype(float))


def catalogue(**columns) -> Catalogue:
    size = len(next(iter(columns.values())))
    lists = {"genres": [None] * size, "metadata_genres": [None] * size, "matched": [True] * size} | columns
    types = dict.fromkeys(("genres", "metadata_genres"), pl.List(pl.String))
    return Catalogue(pl.DataFrame({"item_id": range(size)} | lists, schema_overrides=types))


def test_by_hand():
    # Six films of 100 minutes and five of 40: each number is a group of its own.
    genres = [["B"], ["A", "B"], [], *[["B"]] * 5, *[[]] * 4]
    runtime, revenue = [100.0, None, 40.0, *[100.0] * 5, *[40.0] * 4], [None, 6.0, 9.0, *[None] * 9]
    films = catalogue(genres=genres, runtime=runtime, revenue=revenue)
    train = np.array([0, 0, 1, 2])
    features = fitted(films, train)
    assert features.names == ("A", "B", "runtime", "revenue")
    assert features.missing == ("popularity", "vote_average", "vote_count")
    raw = np.array(
        [[0, 1, 100, 0], [1, 1, 100, 6], [0, 0, 40, 9], *[[0, 1, 100, 0]] * 5, *[[0, 0, 40, 0]] * 4], dtype=float
    )
    rows = raw[train]
    expected = (raw - rows.mean(axis=0)) / rows.std(axis=0)
    assert np.allclose(features.matrix, expected, atol=1e-6)
    assert features.matrix.dtype == np.float32


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(80, 90), min_size=1, max_size=60), st.data())
def test_medians_are_of_groups_of_five_items_or_more_and_exact_where_so_many_share_a_number(runtimes, data):
    films = catalogue(genres=[["A"]] * (len(runtimes) + 1), runtime=[*map(float, runtimes), None])
    (imputed,) = catalogue_features(films).imputed
    sizes = np.bincount(imputed.group[:-1])
    assert (sizes >= min(5, len(runtimes))).all()
    counts = np.array(data.draw(st.lists(st.integers(0, 4), min_size=len(films), max_size=len(films))), float)
    counts[0] += 1
    exact = np.median(np.repeat(runtimes, counts[:-1].astype(int)))
    scale = 2.0 ** np.frexp(max(runtimes))[1]
    found = imputed.median(imputed.totals(counts)) * scale
    if all(list(runtimes).count(each) >= 5 for each in runtimes):
        assert found == exact
    assert abs(found - exact) <= max(
        np.ptp(np.array(runtimes)[imputed.group[:-1] == group]) for group in set(imputed.group[:-1])
    )


def test_no_sum_is_of_one_item():
    """Whatever item a rating is of, what it adds is the same for all items that are like it."""
    films = catalogue(genres=[["A"], ["A"], ["B"]] * 4, runtime=[100.0, 100.0, None] * 4)
    fitting, one = catalogue_features(films), np.eye(len(films))
    first, second = (fitting.sums_of_counts({}, one[item]) for item in (0, 1))
    assert first.keys() == {"rows", "sums", "groups"}
    assert all(np.array_equal(first[name], second[name]) for name in first)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.sampled_from("ABCDE"), unique=True), min_size=1, max_size=12), st.data())
def test_flags_and_scaling_are_scikit_learns(genres, data):
    runtime = data.draw(st.lists(st.floats(1, 1e4), min_size=len(genres), max_size=len(genres)))
    train = np.array(data.draw(st.lists(st.integers(0, len(genres) - 1), min_size=1, max_size=30)))
    features = fitted(catalogue(genres=genres, runtime=runtime), train)
    binarizer = MultiLabelBinarizer()
    raw = np.column_stack([binarizer.fit_transform(genres), runtime])
    expected = StandardScaler().fit(raw[train]).transform(raw)
    assert features.names == (*binarizer.classes_, "runtime")
    varied = np.ptp(raw[train], axis=0) > 1e-6
    assert np.allclose(features.matrix[:, varied], expected[:, varied], rtol=1e-5, atol=1e-5)
    assert np.allclose(features.matrix[train][:, np.ptp(raw[train], axis=0) == 0], 0, atol=1e-9)


def test_a_constant_column_that_binary_fractions_cannot_hold_is_not_blown_up():
    films = catalogue(genres=[["A"], []] * 5, vote_average=[0.1 + 0.2] * 10)
    assert np.allclose(fitted(films, np.arange(10) // 3).matrix[:, 1], 0, atol=1e-9)


def test_metadata_genres_come_first():
    films = catalogue(genres=[["Sci-Fi"], ["War"]], metadata_genres=[["Science Fiction"], None])
    assert fitted(films, np.array([0, 1])).names == ("Science Fiction",)


def test_unmatched_items_are_flagged_in_a_column_of_0_and_1():
    films = catalogue(genres=[["A"], ["A"], []], runtime=[1.0, None, 3.0], matched=[True, False, True])
    features = fitted(films, np.array([0, 1, 2]))
    assert features.names[-1] == "no_metadata"
    assert features.matrix[:, -1].tolist() == [0, 1, 0]


def test_constant_and_unknown_columns_are_0():
    films = catalogue(genres=[["A"], ["A"]], runtime=[None, None], vote_count=[5.0, 5.0])
    assert (fitted(films, np.array([0, 1])).matrix == 0).all()


def test_no_features_at_all():
    with pytest.raises(DataError, match="no item features, and the network needs some: genres"):
        fitted(catalogue(matched=[False, False]), np.array([0]))


def test_no_training_rows():
    with pytest.raises(DataError, match="no training ratings"):
        fitted(catalogue(genres=[["A"]]), np.array([], dtype=np.int32))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.decimals(0, 10**6, places=2).map(float), min_size=3, max_size=20), st.data())
def test_items_outside_the_training_rows_change_nothing(values, data):
    train = data.draw(st.lists(st.integers(0, len(values) - 2), min_size=1, max_size=40))
    changed = [*values[:-1], 12345.0]
    features = [fitted(catalogue(runtime=v, vote_average=v), np.array(train)).matrix for v in (values, changed)]
    assert np.array_equal(features[0][:-1], features[1][:-1])
    assert np.isfinite(features[0]).all()


def test_the_papers_25_features(real_data):
    dataset = load(real_data, join=["paper"])
    features = fitted(dataset.catalogue, dataset.ratings.item)
    assert features.matrix.shape == (2_830, 25)
    assert features.names[20:] == ("popularity", "runtime", "vote_average", "vote_count", "revenue")
    assert features.missing == ()
    rows = features.matrix[dataset.ratings.item].astype(float)
    assert np.allclose(rows.mean(axis=0), 0, atol=1e-4)
    assert np.allclose(rows.std(axis=0), 1, atol=1e-3)


def test_ratings_of_items_under_the_threshold_are_neither_summed_nor_told():
    fitting = RatingFeatures(items=3, threshold=2, limits=(1.0, 5.0))
    item = np.array([0, 0, 1, 2, 2, 2], np.int32)
    train = Ratings(np.arange(6, dtype=np.int32), item, np.array([1, 2, 5, 3, 4, 5], np.float32))
    known = fitting.learn({}, fitting.sums({}, train))
    edges = np.array([14 / 3 / 2, 0, 14 / 3 / 2**0.5])
    np.testing.assert_allclose(known["counts"], edges, rtol=1e-12)
    assert known["exact"].tolist() == [2, 1, 3]
    sums = fitting.sums(known, train)
    assert sums["ratings"].tolist() == [3, 12]
    told = fitting.learn(known, sums)
    assert told.keys() == {"counts", "means"}
    matrix = fitting.features(told).matrix
    steps = 2**0.5 / edges[[0, 2]]
    first, last = 1 + steps * np.round((np.array([1.5, 4.0]) - 1) / steps)
    np.testing.assert_allclose(told["means"], [first, 0, last], rtol=1e-12)
    mean = (edges[0] * first + edges[2] * last) / edges.sum()
    raw = np.column_stack([np.log1p(edges), (edges * told["means"] + 10 * mean) / (edges + 10)])
    centred = raw - np.average(raw, axis=0, weights=edges)
    spread = np.sqrt(np.average(centred**2, axis=0, weights=edges))
    assert np.allclose(matrix, centred / spread, atol=1e-6)

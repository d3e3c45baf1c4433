"""Rows go to the nodes that the partitioner names, whatever part of the data is divided."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hierfed.data.division import assign, divide, load_dataset
from hierfed.data.partitions import RowsToDivide, partitioner_of
from hierfed.data.ratings import Dataset
from hierfed.errors import SettingsError
from hierfed.randomness import generator
from hierfed.settings import load_settings


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Ratings of 20 users, mixed, at times of no order."""
    rng = np.random.default_rng(0)
    pairs = rng.permutation(20 * 15)[:200]
    lines = [f"{pair // 15},{pair % 15},{rng.integers(1, 6)},{rng.integers(10**6)}" for pair in pairs.tolist()]
    path = tmp_path_factory.mktemp("table") / "ratings.csv"
    path.write_text("\n".join(["user,item,rating,time", *lines]) + "\n")
    return str(path)


@pytest.mark.parametrize("protocol", ["warm", "temporal"])
def test_nodes_have_times_where_the_protocol_goes_by_them(table, protocol):
    settings = load_settings("paper", {"data.source": table, "split.protocol": protocol, "nodes": 3, "join": "none"})
    dataset = load_dataset(settings)
    for nodes in assign(dataset, divide(dataset, settings), settings):
        for node in nodes:
            assert (node.train.time is not None) == (protocol == "temporal")
    assert dataset.ratings.time is not None


@pytest.mark.parametrize("protocol", ["warm", "cold"])
@pytest.mark.parametrize("how", ["rows", "users", "sizes", "time"])
def test_train_and_test_rows_are_divided_as_one_list(table, protocol, how):
    settings = load_settings(
        "paper", {"data.source": table, "split.protocol": protocol, "nodes": 3, "partition": how, "join": "none"}
    )
    personal = settings.personalisation.model_copy(update={"personal_nodes": 3})
    if how != "rows":
        personal = personal.model_copy(update={"personal_partition": how})
    else:
        personal = personal.model_construct(**personal.model_dump() | {"personal_partition": "rows"})
    settings = settings.model_copy(update={"personalisation": personal})
    dataset = load_dataset(settings)
    split = divide(dataset, settings)
    nodes, personal_nodes = assign(dataset, split, settings)
    assert (nodes is personal_nodes) == (protocol == "warm")
    test = split.personal_test if protocol == "warm" else np.empty(0, np.int64)
    assert_divided(dataset, nodes, split.train, test, how)


def assert_divided(dataset: Dataset, nodes, train: np.ndarray, test: np.ndarray, how: str) -> None:
    """Each node holds what the partitioner gives it of the train rows followed by the test rows."""
    rows = np.concatenate([train, test])
    rng = generator(0, 0, 0, "partition")
    everything = dataset.ratings.take(rows)
    to_divide = RowsToDivide(
        everything.user,
        everything.item,
        everything.time,
        nodes=3,
        skew=1.0,
        concentration=0.5,
        sorted_share=1.0,
        genre_flags=lambda: np.empty(0),
        value=lambda: everything.value,
        rng=rng,
    )
    place = partitioner_of(how).divide(to_divide)
    for node in nodes:
        for part, first, count in ((node.train, 0, len(train)), (node.test, len(train), len(test))):
            mine = rows[first : first + count][place[first : first + count] == node.number]
            np.testing.assert_array_equal(part.user, dataset.ratings.user[mine])
            np.testing.assert_array_equal(part.item, dataset.ratings.item[mine])


def test_a_division_by_the_scale_does_not_depend_on_test_ratings(table):
    asked = {"data.source": table, "protocol": "warm", "nodes": 4, "join": "none"}
    settings = load_settings("paper", {**asked, "partition": "scale"})
    dataset = load_dataset(settings)
    split = divide(dataset, settings)
    value = dataset.ratings.value.copy()
    value[split.test] = 6 - value[split.test]
    other = replace(dataset, ratings=replace(dataset.ratings, value=value))
    for node, again in zip(assign(dataset, split, settings)[0], assign(other, split, settings)[0], strict=True):
        np.testing.assert_array_equal(node.train.user, again.train.user)


@pytest.mark.parametrize("protocol", ["warm", "cold", "temporal", "two_groups"])
def test_judged_on_validation_rows_no_test_row_is_seen(table, protocol):
    asked = {"data.source": table, "protocol": protocol, "join": "none"}
    settings, validation = (load_settings("paper", {**asked, "judged_on": rows}) for rows in ("test", "validation"))
    dataset = load_dataset(settings)
    split, again = divide(dataset, settings), divide(dataset, validation)
    assert np.isin(np.union1d(split.test, split.personal_test), again.unused).all()
    assert sum({id(part): len(part) for part in vars(again).values()}.values()) == len(dataset.ratings)
    assert (again.personal_train is again.train) == (split.personal_train is split.train)
    assert 0 < len(again.personal_test) < len(split.personal_test)


def test_validation_rows_are_refused_where_nothing_draws_test_rows(table):
    settings = load_settings("paper", {"data.source": table, "protocol": "none", "judged_on": "validation"})
    with pytest.raises(SettingsError, match=r"split\.judged_on 'validation': needs a protocol"):
        divide(load_dataset(settings), settings)

"""Judge, then learn: blocks in the order of time, strategies that agree where they must, and how long models last."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

import hierfed
from hierfed.cli.prequential import prequential
from hierfed.data.catalogue import Catalogue
from hierfed.data.federation import Node
from hierfed.data.ratings import Ratings
from hierfed.engines.going_on import Faded
from hierfed.engines.in_process import run_rounds
from hierfed.errors import DataError, HierfedError, SettingsError
from hierfed.evaluation.half_life import AgedErrors
from hierfed.evaluation.prequential import blocks_of, judge_then_learn
from hierfed.generated.world import make_world
from hierfed.methods import Case, prepare
from hierfed.settings import load_settings

DAY = 86_400


@pytest.fixture(scope="module")
def world():
    return make_world(0, 60, 80, 1500)


@pytest.fixture(scope="module")
def ratings(world):
    return world.ratings_of(np.arange(60))


@pytest.fixture(scope="module")
def method(world):
    settings = load_settings("hierarchical", {"rank": 2, "embedding_rank": 4, "min_raters": 3})
    catalogue = Catalogue(world.films.frame().with_columns())
    return prepare(Case(settings, catalogue, (0.5, 5.0))).method


def test_blocks_are_in_the_order_of_time_and_hold_every_row_once(ratings):
    for by in ("year", "month", "400"):
        blocks = blocks_of(ratings, by)
        rows = np.concatenate([rows for _, rows in blocks])
        assert np.array_equal(np.sort(rows), np.arange(len(ratings)))
        assert (np.diff(ratings.time[rows]) >= 0).all()
    assert {len(rows) for _, rows in blocks[:-1]} == {400}
    years = 1970 + ratings.time / (365.2425 * DAY)
    for name, rows in blocks_of(ratings, "year"):
        assert (np.abs(years[rows] - int(name) - 0.5) < 0.51).all()


def test_what_cannot_be_cut_is_refused(ratings):
    with pytest.raises(SettingsError, match="expected year, month, or a number"):
        blocks_of(ratings, "week")
    with pytest.raises(DataError, match="need timestamps"):
        blocks_of(ratings.untimed, "year")


@pytest.fixture(scope="module")
def found(method, ratings):
    return judge_then_learn(method, ratings, "300", full_rounds=4, rounds=2, first=0.5, fadings=(0.8,))


def test_at_the_first_block_all_strategies_are_the_same_and_later_they_are_not(found):
    first, last = found.blocks[0], found.blocks[-1]
    assert len({*first.rmse.values()}) == 1
    assert len({last.rmse[name] for name in ("frozen", "users", "rounds", "retrain")}) == 4
    assert last.seconds["frozen"] < last.seconds["users"]
    assert first.fading == 1


def test_the_errors_are_those_of_a_model_of_the_rows_before(found, method, ratings):
    """The independent truth: a training from the start on all rows before the last block."""
    parts = blocks_of(ratings, "300")
    known = ratings.take(np.sort(np.concatenate([rows for _, rows in parts[:-1]])))
    node = [Node(0, "1", known, known.between(0, 0))]
    trained = run_rounds(method, node, 4)
    model = method.personalise(trained.shared, node, trained.private)[0]
    last = ratings.take(np.sort(parts[-1][1]))
    rmse = float(np.sqrt(np.mean((model.predict(last).numpy() - last.value) ** 2)))
    assert found.blocks[-1].rmse["retrain"] == pytest.approx(rmse, abs=1e-12)


def test_sums_that_fade_by_a_half_are_half_the_sums(method, ratings):
    nodes = [Node(0, "1", ratings, ratings.between(0, 0))]
    plain, faded = (next(m.contribute(m.start(), nodes, [None]))[0] for m in (method, Faded(method, {0: 0.5})))
    assert all((2 * faded.arrays[name] == each).all() for name, each in plain.arrays.items())


def test_a_half_life_is_the_first_age_with_half_the_gain():
    rows = np.full(7, 100.0)
    unknown = rows * 1.0
    personal = rows * np.array([0.64, 0.64, 0.7, 0.85, 0.9, 1.0, 1.0])
    aged = AgedErrors(rows, personal, unknown)
    assert aged.gains()[0] == ("under 1 day", 100, pytest.approx(0.2))
    assert aged.half_life() == "30 to 90 days"
    assert AgedErrors(rows, rows * 0.64, unknown).half_life() == "longer than measured (over 1095 days)"
    assert AgedErrors().half_life() == "not measured: no user rated again"


def test_ages_count_from_the_last_rating_that_is_known(method):
    known = Ratings(np.array([0, 0]), np.array([1, 2]), np.full(2, 3, np.float32), np.array([0, 10 * DAY]))
    later = Ratings(np.array([0, 1, 0]), np.array([3, 3, 4]), np.full(3, 4, np.float32), np.array([12, 12, 50]) * DAY)
    shared = run_rounds(method, [Node(0, "1", known, known.between(0, 0))], 1).shared
    aged = AgedErrors().and_those_of(method, shared, lambda rows: np.full(len(rows), 3.0), known, later)
    assert aged.rows.tolist() == [0, 1, 0, 1, 0, 0, 0]
    assert aged.personal.tolist() == [0, 1, 0, 1, 0, 0, 0]


def test_the_command_prints_a_table_and_leaves_a_figure(ratings, tmp_path, capsys):
    frame = pl.DataFrame({"user": ratings.user, "item": ratings.item, "rating": ratings.value, "time": ratings.time})
    frame.write_csv(tmp_path / "ratings.csv")
    prequential(
        data=str(tmp_path / "ratings.csv"),
        by="600",
        update_rounds=1,
        first=0.3,
        sets=["rounds=2", "rank=2"],
        out=tmp_path / "found",
    )
    told = capsys.readouterr()
    assert "frozen" in told.out
    assert "half-life of a personal model" in told.err
    table = pl.read_csv(tmp_path / "found" / "prequential.csv")
    assert table.columns == ["block", "ratings", "frozen", "users", "rounds", "forgetting", "retrain"]
    assert table["ratings"][0] == 600
    assert (tmp_path / "found" / "prequential.png").is_file()


def test_methods_that_cannot_go_on_are_refused(ratings):
    frame = {"user": ratings.user, "item": ratings.item, "rating": ratings.value, "time": ratings.time}
    with pytest.raises(HierfedError, match="take hierarchical"):
        hierfed.prequential("item_biases", data=pl.DataFrame(frame))

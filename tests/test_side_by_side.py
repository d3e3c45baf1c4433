"""Seeds, comparisons and sweeps from Python are the single runs that one would make oneself."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

import hierfed
from hierfed.errors import SettingsError
from hierfed.federated.rules import OPEN_SUM
from hierfed.methods.item_biases import ItemBiasesKind
from hierfed.methods.item_biases.item_biases import ItemBiases
from hierfed.methods.kind import Case, Prepared

SMALL: dict[str, Any] = {"rounds": 1, "nodes": 2, "personal_nodes": 2, "hidden": [4], "local_epochs": 1}


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    """300 ratings of 30 users on 40 items."""
    rng = np.random.default_rng(8)
    rows = [
        (user, item, float(rng.integers(1, 11)) / 2)
        for user in range(30)
        for item in rng.choice(40, 10, replace=False).tolist()
    ]
    return pl.DataFrame(rows, schema=["user", "item", "rating"], orient="row")


def test_seeds_are_single_runs_one_after_the_other(table):
    found = hierfed.run("network", data=table, seeds=2, seed=3, **SMALL)
    single = [hierfed.run("network", data=table, seed=seed, **SMALL).result for seed in (3, 4)]
    assert [each.digest for each in found.results] == [each.digest for each in single]
    assert found.to_frame()["seed"].to_list() == [3, 4]
    assert found.to_frame()["rmse_after"].to_list() == [each.users.rmse_after for each in single]
    mean = np.mean([each.users.rmse_after for each in single])
    assert found.summary.figures["rmse_after"].mean == pytest.approx(mean)
    with pytest.raises(SettingsError, match="seeds 0"):
        hierfed.run("network", data=table, seeds=0)


def test_presets_are_compared_on_the_same_seeds(table):
    common = {"nodes": 2, "personal_nodes": 2, "rounds": 1}
    found = hierfed.compare(["network", "item_biases"], data=table, seeds=2, **common)
    frame = found.to_frame()
    assert frame["preset"].to_list() == ["network", "network", "item_biases", "item_biases"]
    assert frame["seed"].to_list() == [0, 1, 0, 1]
    (told,) = [each for each in found.differences if each.first == "network: rmse_after"]
    values = {name: np.array([each.users.rmse_after for each in seeds.results]) for name, seeds in found.seeds.items()}
    assert told.mean == pytest.approx((values["network"] - values["item_biases"]).mean())


@pytest.mark.parametrize("presets", [["network"], ["network", "network"], "network"])
def test_what_cannot_be_compared_is_refused(presets):
    with pytest.raises(SettingsError, match="two presets or more"):
        hierfed.compare(presets)


def test_a_sweep_tries_every_choice_on_validation_rows(table):
    asked = {**SMALL, "protocol": "warm"}
    found = hierfed.sweep(
        "network", {"learning_rate": [1e-9, 0.05], "user_level": ["none", "bias"]}, data=table, **asked
    )
    assert [(each["learning_rate"], each["user_level"]) for each in found.choices] == [
        (1e-9, "none"),
        (1e-9, "bias"),
        (0.05, "none"),
        (0.05, "bias"),
    ]
    for choice, error in zip(found.choices, found.errors, strict=True):
        alone = hierfed.run("network", data=table, judged_on="validation", **{**asked, **choice}).result
        assert alone.users.rmse_after == error
    assert found.best == found.choices[int(np.argmin(found.errors))]
    assert found.to_frame()["validation_rmse"].to_list() == list(found.errors)


@pytest.mark.parametrize(
    ("grid", "told"),
    [
        ({}, "no setting in it"),
        ({"rounds": 3}, "a list of values"),
        ({"partition": "random"}, "a list of values"),
        ({"ronds": [3]}, "did you mean 'rounds'"),
    ],
)
def test_a_grid_that_is_none_is_refused(table, grid, told):
    with pytest.raises(SettingsError, match=told):
        hierfed.sweep("network", grid, data=table, protocol="warm")


def test_a_rule_of_ones_own_makes_the_totals(table):
    asked = []

    def same_sum(contributions):
        given = list(contributions)
        asked.append([number for number, _ in given])
        return OPEN_SUM(iter(given))

    def first_alone(contributions):
        given = list(contributions)
        return OPEN_SUM([(number, given[0][1]) for number, _ in given])

    usual = hierfed.run("network", data=table, **SMALL).result
    assert hierfed.run("network", data=table, rule=same_sum, **SMALL).result.digest == usual.digest
    assert asked
    assert all(numbers == [0, 1] for numbers in asked)
    assert hierfed.run("network", data=table, rule=first_alone, **SMALL).result.digest != usual.digest
    with pytest.raises(SettingsError, match="sees single contributions"):
        hierfed.run("network", data=table, rule=same_sum, topology="tree", **SMALL)


class TwiceTheStars(ItemBiasesKind):
    """Item biases on a scale without an upper end."""

    def prepare(self, case: Case) -> Prepared:
        return Prepared(ItemBiases(len(case.catalogue), 1, (0.0, 10.0)), (), ())


def test_a_method_of_ones_own_takes_the_place_of_the_presets_and_has_no_run_to_load(table, tmp_path):
    usual = hierfed.run("item_biases", data=table, min_raters=1, scale=(0.0, 10.0), **SMALL)
    own = hierfed.run("item_biases", data=table, method=TwiceTheStars(), **SMALL)
    assert own.result.digest == usual.result.digest
    assert own.result.settings["method"] == "TwiceTheStars"
    assert own.outcome.method.limits == (0.0, 10.0)
    assert len(hierfed.run("item_biases", data=table, method=TwiceTheStars(), seeds=2, **SMALL).results) == 2
    own.save(tmp_path / "run")
    with pytest.raises(SettingsError, match="no method 'TwiceTheStars'; there are: averaging"):
        hierfed.load(tmp_path / "run")


class item_biases(TwiceTheStars):
    pass


@pytest.mark.parametrize(
    ("method", "more", "told"),
    [
        (3, {}, r"expected a name, or an object of a class made from hierfed.methods.kind.MethodKind \(found int\)"),
        (TwiceTheStars, {}, r"\(found type\)"),
        (TwiceTheStars(), {"rule": "median"}, "the sums of method 'TwiceTheStars' can only be added"),
        (TwiceTheStars(), {"device": "cuda"}, "method 'TwiceTheStars'"),
        (item_biases(), {}, "'item_biases' is a method that there is: give your class another name"),
        ("item_bias", {}, "no method 'item_bias'"),
    ],
)
def test_a_method_that_is_none_or_cannot_do_what_is_asked_is_refused_in_one_line(table, method, more, told):
    with pytest.raises(SettingsError, match=told) as refusal:
        hierfed.run("item_biases", data=table, method=method, **SMALL, **more)
    assert "\n" not in str(refusal.value)

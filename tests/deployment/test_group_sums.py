"""A federation whose server sees secure sums of groups: the same model as in one process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

from hierfed.data.federation import Node
from hierfed.engines.in_process import run_rounds
from hierfed.engines.rounds import round_of
from hierfed.engines.stages import after_earlier_stages
from hierfed.errors import HierfedError, SettingsError
from hierfed.federated.groups import groups_of
from hierfed.methods import Case, prepare

NAMES = [f"node {number}" for number in range(1, 7)]
GROUPED = {"secure_sums": True, "scale": [0.5, 5.0], "groups": 3, "nodes": 6, "rule": "median"}


@pytest.fixture
def six(data, tmp_path: Path):
    """The ratings of the same users on six nodes."""
    table = data.table.with_columns(("node " + (pl.col("user") % 6 + 1).cast(pl.String)).alias("node"))
    found = replace(data, place=tmp_path, table=table)
    for name in NAMES:
        for held in (False, True):
            own = table.filter((pl.col("node") == name) & (pl.col("held") == held))
            own.select("user", "item", "rating").write_parquet(found.file(name, held))
    return found


@pytest.fixture
def serve(six, village, make_settings):
    def run(settings, meddle=lambda name, kind, facts: ""):
        found = village(settings)
        for side in found.sides.values():
            side.state.close()
        found.sides.clear()
        found.data = six
        found.start(*NAMES)
        return SimpleNamespace(result=found.serve(meddle), records=found.records)

    return run


def test_the_model_is_that_of_one_process(six, serve, make_settings):
    settings = make_settings("network", **GROUPED)
    served = serve(settings)
    nodes = [Node(number, name, six.rows(name, False), six.rows(name, True)) for number, name in enumerate(NAMES)]
    how = round_of(settings)
    method = prepare(after_earlier_stages(Case(settings, six.catalogue, (0.5, 5.0)), nodes, how)).method
    expected = run_rounds(method, nodes, settings.training.rounds, how=how).shared
    assert served.result.digest == expected.digest()
    assert all(record.contributors == NAMES for record in served.records)


def test_rounds_with_too_few_groups_for_the_rule_are_abandoned(serve, make_settings):
    settings = make_settings("network", **GROUPED)
    lost = NAMES[groups_of(6, 3, settings.seed)[0][0]]

    def lose(name, kind, facts):
        return "lost" if kind == "mask" and name == lost else ""

    with pytest.raises(
        HierfedError, match=r"abandoned 5 times: federation.rule .*needs 3 nodes or more, and there are 2"
    ):
        serve(settings, lose)


def test_more_groups_than_pairs_are_refused_at_the_server_too(make_settings, village):
    settings = make_settings("network", **GROUPED)
    with pytest.raises(SettingsError, match="3 groups of 3 nodes leave one alone"):
        village(settings).serve()

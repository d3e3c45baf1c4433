"""Protocol none: everything is learned from, for a model to use, and no figure is invented."""

from __future__ import annotations

import warnings
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from rich.console import Console

import hierfed
from hierfed.data.rater_classes import rounded_up
from hierfed.evaluation.metrics import METRICS
from hierfed.report import contents, terminal
from hierfed.serving.served import Served

NEVER = {"global_rmse", "rmse_before", "rmse_after", "gain_per_node", "nodes_harmed", "users_harmed", "coverage"}
NEVER |= {"ndcg@10", "hr@10", "recall@20"}
SMALL: dict[str, dict[str, Any]] = {
    "item_biases": {"min_raters": 1},
    "network": {"rounds": 1, "local_epochs": 1, "hidden": [4]},
    "hierarchical": {
        "rounds": 2,
        "rank": 2,
        "embedding_rank": 3,
        "embedding_rounds": 1,
        "implicit_rank": 3,
        "implicit_rounds": 1,
        "min_raters": 1,
    },
}


@pytest.fixture
def table() -> pl.DataFrame:
    rng = np.random.default_rng(3)
    rows = [
        (f"u{user}", f"i{item}", float(rng.integers(1, 6)))
        for user in range(30)
        for item in rng.choice(20, 9, replace=False)
    ]
    return pl.DataFrame(rows, schema=["user", "item", "rating"], orient="row")


@pytest.mark.parametrize("preset", SMALL)
def test_every_row_is_learned_from_and_nothing_is_judged(preset: str, table: pl.DataFrame, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        run = hierfed.run(preset, data=table, protocol="none", nodes=2, personal_nodes=2, **SMALL[preset])
    result = run.result
    assert result.data.split == {"train": 270, "test": 0, "personal_train": 270, "personal_test": 0, "unused": 0}
    assert sum(node.train_rows for node in result.nodes) == 270
    assert METRICS.keys() >= NEVER
    assert not NEVER & result.metrics.keys()
    assert "nothing was held out, so nothing was judged" in result.verdict.words[0]
    assert contents.lead(result).endswith("it learned from every row, and nothing was judged.")
    run.save(tmp_path / preset)
    shown = Console(file=StringIO(), width=100)
    shown.print(terminal.result_tables(result))
    page = (tmp_path / preset / "report.html").read_text()
    for told in (shown.file.getvalue(), page):  # type: ignore[attr-defined]
        assert "nothing was judged" in told
        for word in ("nan", "Nodes harmed", "does not beat", "RMSE of every model"):
            assert word not in told
    rated = set(table.filter(pl.col("user") == "u3")["item"])
    listed = [item.item for item in Served(tmp_path / preset).recommend("u3", 20).items]
    assert set(listed) == {f"i{item}" for item in range(20)} - rated


def test_the_raters_of_an_item_are_all_who_rated_it(table: pl.DataFrame) -> None:
    run = hierfed.run(
        "hierarchical", data=table, protocol="none", select=False, rank_items=False, **SMALL["hierarchical"]
    )
    ids = run.outcome.dataset.catalogue.frame["item_id"]
    counted = dict(table.group_by("item").len().iter_rows())
    raters = run.outcome.models["rating"].arrays["raters"]
    counts = np.array([float(counted[item]) for item in ids])
    assert raters.tolist() == rounded_up(counts, run.outcome.settings.factors.min_raters).tolist()

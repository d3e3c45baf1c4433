"""Sample recommendations are those that serving gives to the same person, and show nobody's own list."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

import hierfed
from hierfed.results import Result

SMALL = {
    "hierarchical": {"rank": 2, "embedding_rank": 3, "embedding_rounds": 1, "implicit_rank": 3, "implicit_rounds": 1},
    "item_biases": {},
    "network": {"hidden": [4], "local_epochs": 1},
}


@pytest.mark.parametrize("preset", SMALL)
def test_they_are_the_lists_that_serving_gives(preset: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    rows = [
        (f"visitor-{user}", f"i{item}", float(rng.integers(1, 6)))
        for user in range(25)
        for item in {0, 1, *rng.choice(30, 8, replace=False).tolist()}
    ]
    frame = pl.DataFrame(rows, schema=["user", "item", "rating"], orient="row")
    changes = {"protocol": "warm", "nodes": 2, "personal_nodes": 2, "min_raters": 2, **SMALL[preset]}
    changes |= {"select": False} if preset == "hierarchical" else {}
    hierfed.run(preset, data=frame, rounds=2, **changes).save(tmp_path / "run")
    result = Result.model_validate_json((tmp_path / "run/result.json").read_text())
    served = hierfed.load(tmp_path / "run")
    assert {sample.loved for sample in result.samples} == {"item i0", "item i1"}
    for sample in result.samples:
        listed = served.recommend(ratings={sample.loved.removeprefix("item "): 5.0}, k=5).items
        assert sample.titles == [item.title for item in listed]
        assert sample.expected == pytest.approx([item.rating for item in listed], abs=1e-4)
        assert sample.loved not in sample.titles
    page = (tmp_path / "run/report.html").read_text()
    assert "Sample recommendations" in page
    assert "visitor-" not in page

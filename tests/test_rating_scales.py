"""The same ratings on another scale give the same models, and errors on that scale."""

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from safetensors import safe_open

from hierfed.data.catalogue import Catalogue
from hierfed.data.reading.catalogue_file import catalogue_bytes
from hierfed.experiment import Outcome, run_experiment
from hierfed.results import Result
from hierfed.runs.reports import save_run
from hierfed.settings import load_settings
from tests.small_experiment import GENRES, ITEMS, SMALL, small_ratings

Make = Callable[[float, float], str]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A folder of the same ratings, times a factor and a number more; genres are the only features."""

    @lru_cache
    def write(factor: float, more: float) -> str:
        place = tmp_path_factory.mktemp("scale")
        rating = pl.col("rating") * factor + more
        small_ratings().with_columns(rating).rename({"movieId": "item"}).write_parquet(place / "ratings.parquet")
        lists = [[GENRES[item % 4], GENRES[item % 3]] for item in range(ITEMS)]
        films = {"item_id": range(1, ITEMS + 1), "title": [f"Film {item}" for item in range(ITEMS)], "genres": lists}
        frame = pl.DataFrame(films).with_columns(
            year=pl.lit(1990, pl.Int32), metadata_genres=pl.lit(None, pl.List(pl.String)), matched=pl.lit(value=False)
        )
        (place / "items.parquet").write_bytes(catalogue_bytes(Catalogue(frame)))
        return str(place)

    return write


def experiment(source: str, preset: str, changes: dict[str, Any]) -> Outcome:
    return run_experiment(load_settings(preset, {**SMALL, "data.source": source, **changes}))


def figures(result: Result) -> dict[str, float]:
    """Every error and loss of a run, in ratings (losses by their roots)."""
    found = {f"node {node.node}": node.rmse_after for node in result.nodes}
    for record in result.rounds:
        found |= {f"round {record.round}": record.global_rmse, f"mae {record.round}": record.global_mae}
        found |= {f"loss {record.round}.{epoch}": loss**0.5 for epoch, loss in enumerate(record.train_loss)}
    for name in ("local_only", "centralised", "biases"):
        found |= {name: getattr(result.baselines, name), f"own {name}": getattr(result.personal_baselines, name)}
    return {**found, "users": result.users.rmse_after}


WAYS = {
    "network": ("network", {}),
    "paper": ("paper", {}),
    "bias of a node": ("network", {"node_level": "bias", "user_level": "bias"}),
    "head": ("network", {"node_level": "head"}),
    "ditto": ("network", {"node_level": "ditto", "tuning_proximal": 0.5}),
    "early stopping": ("network", {"node_level": "fine_tuning", "validation": 0.3}),
    "fedprox": ("network", {"proximal": 0.7}),
    "random start": ("network", {"output_bias": "random"}),
    "secure sums": ("network", {"secure_sums": True, "rounds": 1}),
    "private examples": ("network", {"privacy_unit": "example", "epsilon": 50, "output_bias": "random"}),
    "private nodes": ("network", {"privacy_unit": "node", "epsilon": 50, "secure_sums": True, "output_bias": "random"}),
    "local": ("local", {}),
}


@pytest.mark.parametrize("way", WAYS)
def test_ratings_times_twenty_give_the_same_model_and_errors_times_twenty(make, way):
    preset, changes = WAYS[way]
    if "private" in way or "secure" in way:
        pytest.importorskip("dp_accounting")
    one, twenty = (experiment(make(factor, 0), preset, changes).result for factor in (1, 20))
    assert one.digest == twenty.digest
    once, twentyfold = figures(one), figures(twenty)
    assert once.keys() == twentyfold.keys()
    for name, error in once.items():
        assert twentyfold[name] == pytest.approx(20 * error, rel=1e-5, nan_ok=True), name


@pytest.mark.parametrize(("factor", "more"), [(100 / 4.5, -50 / 4.5), (4 / 4.5, 1 - 2 / 4.5), (1, -0.5)])
@pytest.mark.parametrize("preset", ["network", "paper"])
def test_no_scale_is_learned_worse_than_another(make, preset, factor, more):
    one, other = (experiment(make(*scale), preset, {}).result for scale in ((1, 0), (factor, more)))
    for name, error in figures(one).items():
        assert figures(other)[name] == pytest.approx(factor * error, rel=2e-3), name


def test_the_settings_scale_is_learned_on_where_it_is_wider_than_the_ratings(make):
    found = experiment(make(1, 0), "network", {"data.scale": [0, 9]})
    assert (found.method.training.scale.unit, found.method.training.scale.zero) == (2, -1)


def test_the_file_of_a_network_says_how_its_output_becomes_a_rating(make, tmp_path: Path):
    outcome = experiment(make(20, 0), "network", {})
    save_run(outcome, tmp_path)
    with safe_open(tmp_path / "model.safetensors", "np") as model:
        facts, tensors = model.metadata(), {name: model.get_tensor(name) for name in model.keys()}  # noqa: SIM118
    hidden = outcome.method.features.numpy()
    last = len(tensors) // 2 - 1
    for number in range(last + 1):
        hidden = hidden @ tensors[f"layers.{number}.weight"].T + tensors[f"layers.{number}.bias"]
        hidden = np.maximum(hidden, 0) if number < last else hidden
    rated = float(facts["unit"]) * hidden[:, 0] + float(facts["zero"])
    test = outcome.dataset.ratings
    assert outcome.method.predict(outcome.shared, test).numpy() == pytest.approx(rated[test.item], rel=1e-5)
    assert json.loads(facts["settings"])["method"] == "averaging"

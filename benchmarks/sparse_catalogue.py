"""Sparse catalogues: personal models beside biases under the same threshold, and what a node's own users win back.

    python benchmarks/sparse_catalogue.py [--users 20000] [--items 50000] [--ratings 200000] [--regions 8] [--seed 0]
        [--only regions]

First worlds as many as there are regions, each with users, items and a node of its own: RMSE at threshold 1, at 5 with
nothing learned at the node, and at 5 with it; the share of the threshold's price that it wins back. No
hyperparameters are chosen there. Then the same after rounds at threshold 1, whose model is asked with what a node knows
of items under 5 in the place of what it has summed of them: so what is left of the price is lost in the rounds, or at
the node. Then one world (as `hierfed data make --least 5 --no-content`), protocol `warm`, at
thresholds 1 and 5: RMSE of user and item biases under the same threshold, whose penalties are the best of nine on
validation rows, and of the hierarchical model with its own selection.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import torch

from hierfed.data.division import allocate, load_dataset
from hierfed.data.federation import Node
from hierfed.data.last_rows import last_of_each_user
from hierfed.data.ratings import Ratings, concatenated
from hierfed.engines.in_process import run_rounds
from hierfed.experiment import run_experiment
from hierfed.federated.contract import SharedModel
from hierfed.generated.world import make_world, rating_frame
from hierfed.methods import Case, prepare
from hierfed.methods.hierarchical.beliefs import Beliefs
from hierfed.methods.hierarchical.hierarchical import HierarchicalFactors
from hierfed.methods.hierarchical.shared_model import RATERS, FactorsModel
from hierfed.models.symmetric import pack
from hierfed.models.threads import one_torch_thread
from hierfed.settings import Settings, load_settings

PENALTIES = (3.0, 5.0, 10.0)
SWEEPS, LEAST = 15, 5


def rmse(predicted: np.ndarray, rows: Ratings) -> float:
    """Root of the mean squared error, on a scale from .5 to 5."""
    return float(np.sqrt(np.mean((np.clip(predicted, 0.5, 5.0) - rows.value) ** 2)))


def biases(train: Ratings, rows: Ratings, threshold: int, penalties: tuple[float, float]) -> np.ndarray:
    """What user and item biases with these penalties expect; items under the threshold share one bias."""
    items, users = (
        1 + int(max(each.max() for each in pair)) for pair in ((train.item, rows.item), (train.user, rows.user))
    )
    group = np.where(np.bincount(train.item, minlength=items) >= threshold, np.arange(items), items)
    mean, user, item = train.value.mean(dtype=float), np.zeros(users), np.zeros(items + 1)
    for _ in range(SWEEPS):
        for mine, others, own, other, penalty in (
            (item, user, group[train.item], train.user, penalties[1]),
            (user, item, train.user, group[train.item], penalties[0]),
        ):
            sums = np.bincount(own, train.value - mean - others[other], minlength=len(mine))
            mine[:] = sums / (np.bincount(own, minlength=len(mine)) + penalty)
    return mean + user[rows.user] + item[group[rows.item]]


def best_biases(train: Ratings, rows: Ratings, threshold: int) -> float:
    """RMSE of the biases whose penalties are the best on a tenth of each user's train rows."""
    held = last_of_each_user(
        np.unique(train.user, return_inverse=True)[1], np.random.default_rng(0).random(len(train)), 0.1
    )
    inner, outer = train.take(~held), train.take(held)
    pairs = [(first, second) for first in PENALTIES for second in PENALTIES]
    chosen = min(pairs, key=lambda pair: rmse(biases(inner, outer, threshold, pair), outer))
    return rmse(biases(train, rows, threshold, chosen), rows)


def beside_biases(folder: Path, seed: int, threshold: int) -> None:
    """A line: biases, ours, and how much lower ours is."""
    changes = {
        "data.source": str(folder),
        "protocol": "warm",
        "seed": seed,
        "min_raters": threshold,
        "rank_items": False,
    }
    settings = load_settings("hierarchical", changes)
    nodes = allocate(load_dataset(settings, lambda *given: None, None), settings).nodes
    train, test = (concatenated([getattr(node, name) for node in nodes]) for name in ("train", "test"))
    plain = best_biases(train, test, threshold)
    ours = run_experiment(settings).result.users.rmse_after
    print(f"threshold {threshold}: biases {plain:.4f}, ours {ours:.4f}, {1 - ours / plain:.2%} lower", flush=True)


def as_under(shared: SharedModel, threshold: int) -> SharedModel:
    """The model without what its rounds have summed of items under this threshold: their priors are in its place."""
    assert isinstance(shared, FactorsModel) and shared.design is not None and shared.prior_features is not None
    under = (shared.server[RATERS] > 0) & (shared.server[RATERS] < threshold)
    beliefs = Beliefs.of(shared.arrays)
    item_mean, item_covariance = beliefs.item_mean.clone(), beliefs.item_covariance.clone()
    item_mean[under] = shared.prior_features[under] @ beliefs.item_weights
    item_covariance[under] = pack(beliefs.item_spread)
    design = replace(shared.design, shared=torch.where(under, 0.0, shared.design.shared))
    arrays = {**shared.arrays, "item_mean": item_mean, "item_covariance": item_covariance}
    return replace(shared, arrays=arrays, design=design)


def regional_rmse(settings: Settings, nodes: list[Node], asked_under: int | None = None) -> float:
    """Of personal models on the nodes' test rows.

    asked_under: of `as_under`, for the personal models, which then know of such items at the node; None for as trained.
    """
    dataset = load_dataset(settings, lambda *given: None, None)
    method = prepare(Case(settings, dataset.catalogue, (0.5, 5.0))).method
    assert isinstance(method, HierarchicalFactors)
    trained = run_rounds(method, nodes, settings.training.rounds)
    shared = trained.shared
    if asked_under is not None:
        shared, method = as_under(shared, asked_under), replace(method, threshold=asked_under, rare_at_node=True)
    models = method.personalise(shared, nodes, trained.private)
    found = np.concatenate([model.predict(node.test).numpy() for model, node in zip(models, nodes, strict=True)])
    return rmse(found, concatenated([node.test for node in nodes]))


def regions(place: Path, options: argparse.Namespace) -> None:
    """Worlds side by side, a node each."""
    share = [each // options.regions for each in (options.users, options.items, options.ratings)]
    frames = []
    for region in range(options.regions):
        world = make_world(options.seed + region, *share, least=LEAST)
        rows = rating_frame(concatenated(list(world.batches())))
        frames.append(rows.with_columns(pl.col("user") + region * share[0], pl.col("item") + region * share[1]))
    folder = place / "regions"
    folder.mkdir()
    pl.concat(frames).select("user", "item", "rating").write_csv(folder / "ratings.csv")
    found = {}
    for name, threshold, at_node, asked in (
        ("1", 1, False, None),
        ("5", 5, False, None),
        ("5, and at the node", 5, True, None),
        ("5 after rounds at 1, and at the node", 1, True, 5),
    ):
        changes = {"data.source": str(folder), "protocol": "warm", "seed": options.seed, "select": False}
        changes |= {"nodes": options.regions, "min_raters": threshold, "rare_at_node": at_node}
        settings = load_settings("hierarchical", changes)
        dataset = load_dataset(settings, lambda *given: None, None)
        region = (dataset.user_ids.cast(pl.Int64).to_numpy() - 1) // share[0]
        whole = allocate(dataset, settings).nodes
        train, test = (concatenated([getattr(node, part) for node in whole]) for part in ("train", "test"))
        nodes = [
            Node(k, str(k + 1), *(rows.take(np.flatnonzero(region[rows.user] == k)) for rows in (train, test)))
            for k in range(options.regions)
        ]
        found[name] = regional_rmse(settings, nodes, asked)
        print(f"{options.regions} regions, threshold {name}: {found[name]:.4f}", flush=True)
    open_price, left = found["5"] - found["1"], found["5, and at the node"] - found["1"]
    print(f"the node wins back {1 - left / open_price:.0%} of the threshold's price")


def main() -> None:
    """Make the worlds and print the lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, usual in (("users", 20_000), ("items", 50_000), ("ratings", 200_000), ("regions", 8), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--only", choices=["regions"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, one_torch_thread():
        place, sizes = Path(name), (options.users, options.items, options.ratings)
        regions(place, options)
        if options.only:
            return
        world = make_world(options.seed, *sizes, least=LEAST)
        folder = place / "world"
        folder.mkdir()
        rows = rating_frame(concatenated(list(world.batches())))
        rows.select("user", "item", "rating").write_csv(folder / "ratings.csv")
        for threshold in (1, 5):
            beside_biases(folder, options.seed, threshold)


if __name__ == "__main__":
    main()

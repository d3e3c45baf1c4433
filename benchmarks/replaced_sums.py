"""What can be read from two totals between which some nodes' sums were replaced, as asynchronous rounds replace them?

    python benchmarks/replaced_sums.py --data FOLDER [--nodes 64] [--changed 1 2 4 8 16 64] [--rounds 8] [--seeds 5]

The hierarchical model, protocol warm. The nodes that have changed answer the model of the last round, and all others'
sums stay, so that the difference of two totals is the difference of these nodes' sums. One node is what a server sees
that steps after each answer; more are a group that adds securely, and whose sum replaces its former one. A line for
each number of nodes, means over disjoint groups and seeds:

- users: in a group. items: of which the difference is not zero, of those that are summed. told: the share of what the
  group's users have rated that this gives away, and of what it names the share that they have rated.
- alone: the share of these items with one rater in the group; few: with fewer than the threshold.
- R2 sum, R2 change: of those items with one rater, how much of the variance of that user's ratings, less what the
  shared model expects of a newcomer, is read from the group's sum, and from its change alone. The reader, boosted
  trees, is taught on half of the groups, whose ratings it knows, and judged on the others; 0 is nothing. It reads the
  item's entries in `item_precision` and `item_pull`, and each over the first.

The last line is about those who see models and no sums: the largest error, relative to the largest entry, of the total
`item_precision` as computed from the model before and the model after.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingRegressor

from hierfed.data.division import allocate, load_dataset
from hierfed.data.federation import Node
from hierfed.data.ratings import rows_to_predict
from hierfed.engines.in_process import run_rounds
from hierfed.federated.contract import Contribution, SharedModel, ordered_sum
from hierfed.federated.groups import groups_of
from hierfed.federated.method import Method
from hierfed.methods import Case, prepare
from hierfed.models.symmetric import inverse, unpack
from hierfed.settings import Settings, load_settings

ENTRIES = ("item_precision", "item_pull")
FEWEST = 50
"""Entries that a reader is taught on, and judged on, at the least."""


def entries_of(sums: Contribution) -> np.ndarray:
    """The entries of each item, [items, entries]."""
    return torch.cat([sums.arrays[name] for name in ENTRIES], 1).numpy()


@dataclass(frozen=True)
class Answers:
    """The nodes' entries in two rounds in a row, [nodes, items, entries], and what they were made of.

    raters, ratings: numbers and sums, by node and item. expected: of each item, by the model after them. All are of
    the items that are summed. error: of a total that is computed from models.
    """

    former: np.ndarray
    last: np.ndarray
    raters: np.ndarray
    ratings: np.ndarray
    expected: np.ndarray
    error: float


def error_from_models(before: SharedModel, after: SharedModel, shared_items: np.ndarray, total: Contribution) -> float:
    """The largest error of the total that whoever has two models in a row can compute: posteriors less their prior."""
    covariance, spread = after.arrays["item_covariance"][shared_items].double(), before.arrays["item_spread"].double()
    true = unpack(total.arrays["item_precision"], len(spread))
    found = inverse(unpack(covariance, len(spread))) - inverse(spread)
    return float((found - true).abs().max() / true.abs().max())


def answers(settings: Settings, method: Method, nodes: Sequence[Node], items: int, rounds: int) -> Answers:
    """The answers to the round `rounds` and to the one after it."""
    begun = run_rounds(method, nodes, rounds - 1)
    shared, private, given = begun.shared, list(begun.private), list[np.ndarray]()
    for _ in range(2):
        sent = []
        for place, node in enumerate(nodes):
            contribution, private[place] = next(iter(method.contribute(shared, [node], [private[place]])))
            sent.append(contribution)
        given.append(np.array([entries_of(each) for each in sent]))
        before, total = shared, ordered_sum(sent)
        shared = method.combine(before, total)
    raters = np.array([np.bincount(node.train.item, minlength=items) for node in nodes])
    ratings = np.array([np.bincount(node.train.item, node.train.value, minlength=items) for node in nodes])
    summed = np.flatnonzero(raters.sum(0) >= settings.factors.min_raters)
    expected = method.predict(shared, rows_to_predict(np.full(len(summed), -1), summed)).numpy()
    error = error_from_models(before, shared, summed, total)
    return Answers(*given, raters[:, summed], ratings[:, summed], expected, error)


def explained(entries: np.ndarray, ratings: np.ndarray, taught: np.ndarray) -> float:
    """The share of the variance of the ratings that are not taught which the reader explains."""
    over = entries[:, 1:] / np.where(np.abs(entries[:, :1]) > 0, entries[:, :1], 1)
    seen = np.column_stack([entries, over])
    reader = HistGradientBoostingRegressor(random_state=0).fit(seen[taught], ratings[taught])
    return float(reader.score(seen[~taught], ratings[~taught]))


def of_groups(settings: Settings, nodes: Sequence[Node], found: Answers, changed: int) -> np.ndarray:
    """The figures of a line; see the top."""
    parts: Sequence[Sequence[int]] = [[number] for number in range(len(nodes))]
    if changed > 1:
        parts = groups_of(len(nodes), len(nodes) // changed, settings.seed)
    lines, of_sum, of_change, ratings, taught = [], [], [], [], []
    for place, part in enumerate(parts):
        before, after = (each[list(part)].sum(0) for each in (found.former, found.last))
        own, seen = found.raters[list(part)].sum(0), (after != before).any(1)
        rated, single = own > 0, own == 1
        named, rare = (seen & rated).sum(), (rated & (own < settings.factors.min_raters)).sum()
        users = sum(len(np.unique(nodes[number].train.user)) for number in part)
        shares = named / rated.sum(), named / max(seen.sum(), 1), single.sum() / rated.sum(), rare / rated.sum()
        lines.append((users, seen.sum(), *shares))
        of_sum.append(after[single])
        of_change.append((after - before)[single])
        ratings.append((found.ratings[list(part)].sum(0) - found.expected)[single])
        taught.append(np.full(int(single.sum()), place % 2 == 0))
    truth, known, read = np.concatenate(ratings), np.concatenate(taught), [np.nan, np.nan]
    if FEWEST < known.sum() < len(known) - FEWEST:
        read = [explained(np.concatenate(each), truth, known) for each in (of_sum, of_change)]
    return np.array([*np.mean(lines, 0), *read])


def main() -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--nodes", type=int, default=64)
    parser.add_argument("--changed", type=int, nargs="+", default=[1, 2, 4, 8, 16, 64])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    errors = list[float]()
    lines: dict[int, list[np.ndarray]] = {changed: [] for changed in options.changed}
    for seed in range(options.seeds):
        base = {"protocol": "warm", "partition": "users", "nodes": options.nodes, "personal_nodes": options.nodes}
        changes = {**base, "seed": seed, "data.source": options.data, "threads": 1}
        settings = load_settings("hierarchical", changes)
        allocation = allocate(load_dataset(settings), settings)
        limits = settings.data.limits(allocation.dataset.ratings.limits)
        method = prepare(Case(settings, allocation.dataset.catalogue, limits)).method
        nodes, items = list(allocation.nodes), len(allocation.dataset.catalogue)
        found = answers(settings, method, nodes, items, options.rounds)
        errors.append(found.error)
        for changed, own in lines.items():
            own.append(of_groups(settings, nodes, found, changed))
    print("| nodes that changed | users | items | told | rightly | alone | few | R2 sum | R2 change |")
    print("|---|---|---|---|---|---|---|---|---|")
    for changed, own in lines.items():
        users, items, told, rightly, alone, few, of_sum, of_change = np.mean(own, 0)
        shares = " | ".join(f"{each:.1%}" for each in (told, rightly, alone, few))
        read = " | ".join("" if np.isnan(each) else f"{each:.2f}" for each in (of_sum, of_change))
        print(f"| {changed} | {users:.0f} | {items:.0f} | {shares} | {read} |")
    print(f"the total from two models in a row: {max(errors):.1e} of its largest entry wrong at the most")


if __name__ == "__main__":
    main()

"""Judge, then learn, block by block: what strategies of updating are worth, what they cost, and how long models last.

    python benchmarks/prequential.py --data FOLDER [--by year] [--seeds 1] [--rounds 5] [--first .2]
    python benchmarks/prequential.py --data FOLDER --only update --rounds 2 --keeps    # the update of `hierfed update`
    hierfed data make FOLDER --users 150 --items 300 --ratings 10000 --drift .15    # a known drift, and its oracle

The hierarchical model with the settings of its preset and no choice of hyperparameters; the vote averages of the
metadata are left out, since they are newer than the ratings. Rows are predicted at their own times. Prints the RMSE of
every block and strategy, CPU seconds of learning, paired tests over blocks, and the gain of personal models by their
age. Then one step: strategies begin at each block from the training anew, learn the block, and are judged on the next.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import polars as pl
import torch

from hierfed.data.division import load_dataset
from hierfed.data.ratings import Dataset, Ratings, concatenated
from hierfed.evaluation.paired import paired_p_value
from hierfed.evaluation.prequential import Learner, Prequential, blocks_of, judge_then_learn
from hierfed.federated.method import Method
from hierfed.generated.files import TRUTH, read_truth
from hierfed.methods import Case, prepare
from hierfed.settings import load_settings

FIXED = {"vote_average": "leave_out", "between_nodes": False, "select": False, "rank_items": False}


def rmse(errors: np.ndarray) -> float:
    """The root of the mean of squared errors."""
    return float(np.sqrt(errors.mean()))


def print_blocks(found: Prequential, names: list[str], oracle: list[float]) -> None:
    """The table of the blocks, and the strategies' means, costs and tests."""
    print(
        f"{'block':12}{'rows':>8}{'new users':>11}"
        + "".join(f"{name:>12}" for name in names)
        + "  fading" * bool(names)
    )
    for number, block in enumerate(found.blocks):
        told = "".join(f"{block.rmse[name]:12.4f}" for name in names)
        known = f"{oracle[number]:10.4f}" if oracle else ""
        print(f"{block.label:12}{block.rows:8}{block.newcomers:7}/{block.users:<4}{told}{block.fading:7.1f}{known}")
    every = {name: np.concatenate(found.errors[name]) for name in found.errors}
    print(f"{'all rows':31}" + "".join(f"{rmse(every[name]):12.4f}" for name in names))
    if oracle:
        squares = [block.rows * each**2 for block, each in zip(found.blocks, oracle, strict=True)]
        print(f"oracle, all rows: {(sum(squares) / sum(block.rows for block in found.blocks)) ** 0.5:.4f}")
    costs = {name: sum(block.seconds[name] for block in found.blocks) for name in names}
    print(f"{'CPU s':31}" + "".join(f"{costs[name]:12.1f}" for name in names))
    for first, second in (("users", "frozen"), ("rounds", "users"), ("forgetting", "rounds"), ("retrain", "rounds")):
        if first in names and second in names:
            differences = np.array([block.rmse[first] - block.rmse[second] for block in found.blocks])
            value = paired_p_value(differences)
            print(
                f"{first} - {second}: {differences.mean():+.4f} a block, p {'-' if value is None else f'{value:.2g}'}"
            )
    for fading in sorted({name for name in found.errors if name.startswith("forgetting ")}):
        print(f"{fading}: {rmse(every[fading]):.4f}")


def oracle(options: argparse.Namespace, dataset: Dataset) -> list[float]:
    """The RMSE by block of whoever knows the truth of generated ratings and its drift; empty for others."""
    place, ratings = Path(options.data), dataset.ratings
    if not (place / TRUTH).is_file():
        return []
    ids = [each.cast(pl.Int64).to_numpy() - 1 for each in (dataset.user_ids, dataset.catalogue.frame["item_id"])]
    expected = read_truth(place).prediction(ids[0][ratings.user], ids[1][ratings.item], ratings.time)[0]
    parts = blocks_of(ratings, options.by)
    sizes = np.cumsum([len(rows) for _, rows in parts])
    begin = int(np.searchsorted(sizes, options.first * len(ratings))) + 1
    return [rmse((expected[rows] - ratings.value[rows]) ** 2) for _, rows in parts[begin:]]


def print_updates(method: Method, ratings: Ratings, by: str, full: int, rounds: int, first: float, keeps: bool) -> None:
    """One step from a training anew: the share of the gain that each level recovers on the next block, and its cost."""
    parts = blocks_of(ratings, by)
    sizes = np.cumsum([len(rows) for _, rows in parts])
    begin = int(np.searchsorted(sizes, first * len(ratings))) + 1
    learner, chain = Learner(method, rounds, full, keeps), None
    told: dict[str, list[float]] = {name: [] for name in ("frozen", "users", "rounds", "retrain")}
    spent: dict[str, list[float]] = {name: [] for name in ("users", "rounds", "retrain")}
    fitting = {"rounds": 0.0, "retrain": 0.0}
    for number in range(begin, len(parts) - 1):
        known = concatenated([ratings.take(np.sort(rows)) for _, rows in parts[:number]])
        chain = chain or learner.anew(known)
        block, judged = (ratings.take(np.sort(parts[place][1])) for place in (number, number + 1))
        every, changed = concatenated([known, block]), np.unique(block.user)
        models, nobody = {"frozen": chain}, np.zeros(int(ratings.user.max()) + 1, np.int64)
        assert chain.kept  # As files they are there before an update begins; no strategy's cost holds their writing.
        for name, learn in (
            ("users", lambda: learner.alone(chain, every, changed)),  # noqa: B023
            ("rounds", lambda: learner.further(chain, every, 1.0, nobody)),  # noqa: B023
            ("retrain", lambda: learner.anew(every)),  # noqa: B023
        ):
            began = time.process_time()
            models[name] = learn()
            spent[name].append(time.process_time() - began)
            if name != "users":
                fitting[name] += models[name].fitting
        for name, model in models.items():
            told[name].append(rmse((model.predict(judged) - judged.value) ** 2))
        chain = models["retrain"]
    gain = np.array(told["frozen"]) - np.array(told["retrain"])
    counted = gain >= 0.003
    print(f"\none step: {counted.sum()} of {len(gain)} blocks where a training anew gains .003 or more")
    for name in ("users", "rounds"):
        won = np.array(told["frozen"]) - np.array(told[name])
        share = won[counted].sum() / gain[counted].sum() if counted.any() else np.nan
        cost = sum(spent[name]) / sum(spent["retrain"])
        print(
            f"{name}: {share:.0%} of the gain ({won[counted].mean():.4f} of {gain[counted].mean():.4f}), "
            f"{cost:.0%} of the CPU"
        )
    shared = {name: sum(spent[name]) - fitting[name] for name in fitting}
    print(f"without users' own models, rounds take {shared['rounds'] / shared['retrain']:.0%} of the CPU")


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="embedded")
    parser.add_argument("--by", default="year")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keeps", action="store_true", help="of one step: updates open as `hierfed update` does")
    parser.add_argument("--first", type=float, default=0.2)
    parser.add_argument("--only", choices=("blocks", "update"), default="")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for seed in range(options.seeds):
        settings = load_settings("hierarchical", {**FIXED, "source": options.data, "seed": seed})
        dataset = load_dataset(settings)
        method = prepare(Case(settings, dataset.catalogue, dataset.ratings.limits)).method
        print(
            f"\nseed {seed}: {dataset.provenance.name}, {len(dataset.ratings):,} ratings, blocks by {options.by}",
            flush=True,
        )
        common = {"first": options.first, "rounds": options.rounds}
        if options.only != "update":
            found = judge_then_learn(
                method,
                dataset.ratings,
                options.by,
                full_rounds=settings.training.rounds,
                **common,
                tell=lambda line: print(line, flush=True),
            )
            print_blocks(found, ["frozen", "users", "rounds", "forgetting", "retrain"], oracle(options, dataset))
            print("gain of a personal model over the global one, by its age")
            for age, rows, gain in found.aged.gains():
                print(f"  {age:18}{rows:9}{gain:+9.4f}")
            print(f"half-life: {found.aged.half_life()}", flush=True)
        if options.only != "blocks":
            print_updates(method, dataset.ratings, options.by, settings.training.rounds, **common, keeps=options.keeps)


if __name__ == "__main__":
    main()

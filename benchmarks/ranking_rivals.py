"""Published federated recommenders beside ours, under leave-one-out: as published, and with sound negatives.

    python benchmarks/ranking_rivals.py [--data FOLDER ...] [--seeds 5] [--rounds 60]

Without --data it takes the embedded ratings and generated ones; a folder, such as MovieLens 100k's, may be given. As
published, training negatives are drawn from the items that a user has never touched, the test item excluded. Sound
negatives are drawn from the items outside the user's train rows. Rivals are written anew, in one process, small:

- FedMF (Chai et al., IEEE Intelligent Systems 2021): factors; the server adds up the gradients of the items' vectors.
- FedNCF (Perifanis and Efraimidis, Knowledge-Based Systems 2022): a network on both vectors, averaged as the items are.
- PFedRec (Zhang et al., IJCAI 2023): a score function of the user's own, on item vectors that the user tunes further.
- FedRAP-like (Li et al., ICLR 2024): shared item vectors plus item vectors of the user's own, which are kept.
- alone: item vectors of the user's own and nothing else. Whatever it hits above chance is a leak.

Ours are the lists of `hierfed run --protocol loo`: Ease, implicit factors, their blend. HR@10 and NDCG@10, among 99
sampled items and among all; after ± the standard deviation over seeds.
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from hierfed.evaluation.leaks import leak_test
from hierfed.evaluation.ranking import RankingMetrics, judge_ranking
from hierfed.experiment import run_experiment
from hierfed.generated.files import write_world
from hierfed.models.lists import rated_matrix
from hierfed.models.threads import one_torch_thread
from hierfed.randomness import generator
from hierfed.settings import load_settings

WIDTH, NEGATIVES, STEPS = 16, 4, 3
GENERATED = {"users": 300, "items": 500, "ratings": 15_000, "seed": 0}
MINE = ("popularity", "ease", "implicit", "blend")


@dataclass(frozen=True)
class Task:
    """What a rival learns from: train pairs, and the items from which no negative is drawn, bool [users, items]."""

    user: Tensor
    item: Tensor
    barred: Tensor
    rounds: int
    rng: np.random.Generator

    def samples(self) -> tuple[Tensor, Tensor, Tensor]:
        """Users, items and labels of a round: every train pair, and NEGATIVES times as many negatives."""
        user = self.user.repeat(NEGATIVES)
        drawn = torch.from_numpy(self.rng.integers(self.barred.shape[1], size=len(user)))
        kept = ~self.barred[user, drawn]
        labels = torch.cat([torch.ones(len(self.user)), torch.zeros(int(kept.sum()))])
        return torch.cat([self.user, user[kept]]), torch.cat([self.item, drawn[kept]]), labels

    def normal(self, *shape: int) -> Tensor:
        """Small random numbers."""
        return torch.from_numpy(self.rng.normal(0, 0.1, shape)).float()


def factors(task: Task, own: str, rate: float = 1.0) -> Callable[[Tensor], Tensor]:
    """score = w_u . (q_i + d_ui): d is nothing, is tuned anew each round, or is kept, and then q may be nothing.

    own: `none` (FedMF), `tuned` (PFedRec), `kept` (FedRAP-like) or `alone`.
    """
    users, items = task.barred.shape
    weights, shared = task.normal(users, WIDTH) + 0.3, task.normal(items, WIDTH)
    mine = torch.zeros(users, items, WIDTH) if own != "none" else None
    if own == "alone":
        shared.zero_()
    for _ in range(task.rounds):
        if own == "tuned" and mine is not None:
            mine.zero_()
        user, item, label = task.samples()
        counts = torch.bincount(user, minlength=users).float()
        for _ in range(STEPS):
            vector = shared[item] if mine is None else shared[item] + mine[user, item]
            # The gradient of the cross-entropy: a mean over each user's samples for the user's weights.
            slope = torch.sigmoid((weights[user] * vector).sum(1)) - label
            step = (slope[:, None] * vector) / counts[user, None]
            pull = slope[:, None] * weights[user]
            weights = weights.index_add(0, user, step, alpha=-rate)
            if mine is not None:
                mine.index_put_((user, item), -0.3 * rate * pull, accumulate=True)
            if own in ("none", "kept"):
                touched = torch.bincount(item, minlength=items).clamp_min(1).float()
                shared = shared.index_add(0, item, pull / touched[item, None], alpha=-rate)
        if own == "tuned" and mine is not None:
            trained = mine
            raters = (trained != 0).any(2).sum(0).clamp_min(1)
            following = shared + trained.sum(0) / raters[:, None]
            final = shared
            shared = following
    base = final if own == "tuned" else shared

    def scores(of: Tensor) -> Tensor:
        found = weights[of] @ base.T
        return found if mine is None else found + torch.einsum("uw,uiw->ui", weights[of], mine[of])

    return scores


def network(task: Task) -> Callable[[Tensor], Tensor]:
    """FedNCF: a network on the vectors of user and item; the nodes' gradients are averaged in every round."""
    users, items = task.barred.shape
    people, things = (torch.nn.Parameter(task.normal(count, WIDTH)) for count in (users, items))
    layers = torch.nn.Sequential(
        torch.nn.Linear(2 * WIDTH, 32),
        torch.nn.ReLU(),
        torch.nn.Linear(32, 16),
        torch.nn.ReLU(),
        torch.nn.Linear(16, 1),
    )
    optimizer = torch.optim.Adam([people, things, *layers.parameters()], lr=0.01)
    for _ in range(task.rounds):
        user, item, label = task.samples()
        for _ in range(STEPS):
            optimizer.zero_grad()
            logits = layers(torch.cat([people[user], things[item]], 1))[:, 0]
            torch.nn.functional.binary_cross_entropy_with_logits(logits, label).backward()
            optimizer.step()

    @torch.no_grad()
    def scores(of: Tensor) -> Tensor:
        return torch.stack([layers(torch.cat([people[[u]].expand(items, -1), things], 1))[:, 0] for u in of.tolist()])

    return scores


RIVALS: dict[str, Callable[[Task], Callable[[Tensor], Tensor]]] = {
    "FedMF": lambda task: factors(task, "none"),
    "FedNCF": network,
    "PFedRec": lambda task: factors(task, "tuned"),
    "FedRAP-like": lambda task: factors(task, "kept"),
    "alone": lambda task: factors(task, "alone"),
}


def measure(data: str, seed: int, rounds: int) -> tuple[dict[str, list[float]], list[str]]:
    """HR@10 and NDCG@10 of each model, sampled and of all items; and what the leak test says of both negatives."""
    outcome = run_experiment(load_settings("hierarchical", {"data.source": data, "protocol": "loo", "seed": seed}))
    ratings, items = outcome.dataset.ratings, outcome.dataset.items
    train, test = ratings.take(outcome.split.train), ratings.take(outcome.split.test)
    known = torch.from_numpy(rated_matrix(train, outcome.dataset.users, items).toarray() > 0)
    touched = known | torch.from_numpy(rated_matrix(test, outcome.dataset.users, items).toarray() > 0)
    found = {
        f"ours: {each.model}": [each.sampled_hr_at_10, each.sampled_ndcg_at_10, each.hr_at_10, each.ndcg_at_10]
        for each in outcome.result.rankers
        if each.model in MINE
    }
    user, item = (torch.from_numpy(column).long() for column in (train.user, train.item))
    for name, fit in RIVALS.items():
        for how, barred in (("as published", touched), ("sound", known)):
            torch.manual_seed(seed)
            scores = fit(Task(user, item, barred, rounds, generator(seed, 0, 0, f"rival {name}")))
            scorers = {f"{name}, {how}": lambda of, scores=scores: scores(of).double()}
            judged = judge_ranking(scorers, train, test, items, sampling_seed=seed)
            found |= {rival: _figures(metrics) for rival, metrics in judged.items()}

    def drawn(barred: Tensor) -> Callable[[np.random.Generator], np.ndarray]:
        def draw(rng: np.random.Generator) -> np.ndarray:
            samples = [Task(user, item, barred, rounds, rng).samples() for _ in range(rounds)]
            return np.concatenate([torch.stack([who, what], 1)[label == 0].numpy() for who, what, label in samples])

        return draw

    def candidates(rng: np.random.Generator) -> np.ndarray:
        lists = [rng.permutation(np.flatnonzero(~touched[who].numpy()))[:99] for who in test.user.tolist()]
        pairs = (np.column_stack([np.full(len(each), who), each]) for who, each in zip(test.user, lists, strict=True))
        return np.concatenate(list(pairs))

    pairs = [np.column_stack([rows.user, rows.item]) for rows in (train, test)]
    told = [
        f"negatives {how}: {leak_test(*pairs, candidates, negatives=drawn(barred))}"
        for how, barred in (("as published", touched), ("sound", known))
    ]
    return found, told


def _figures(metrics: RankingMetrics) -> list[float]:
    assert metrics.sampled is not None
    return [
        metrics.sampled.hit_rate_at_10,
        metrics.sampled.ndcg_at_10,
        metrics.hit_rate_at_10,
        metrics.ndcg_at_10,
    ]


def main() -> None:
    """Measure every source and print a table for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="*", default=[])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    console = Console(width=120)
    with tempfile.TemporaryDirectory() as folder, one_torch_thread():
        made = Path(folder) / "generated"
        if not options.data:
            write_world(made, **GENERATED)
        for data in options.data or ["embedded", str(made)]:
            runs = [measure(data, seed, options.rounds) for seed in range(options.seeds)]
            table = Table(title=f"{Path(data).name}, leave-one-out, {options.seeds} seeds, %")
            for heading in ("model", "HR@10 of 99", "NDCG@10 of 99", "HR@10 of all", "NDCG@10 of all"):
                table.add_column(heading, justify="left" if heading == "model" else "right")
            for name in runs[0][0]:
                values = 100 * np.array([found[name] for found, _ in runs])
                spread = values.std(0, ddof=1) if len(values) > 1 else np.zeros(4)
                table.add_row(
                    name, *(f"{mean:.1f} ± {by:.1f}" for mean, by in zip(values.mean(0), spread, strict=True))
                )
            console.print(table)
            for line in runs[0][1]:
                console.print(line)


if __name__ == "__main__":
    main()

"""The task every anchor is given, and the clock and ruler it is judged by.

An anchor is a script with a function from a Task to the ratings it expects. It learns from all rows that a company
which pools everything would have: under `cold`, the newcomers' tuning rows too. The splits are those of `hierfed run
--protocol PROTOCOL --seed SEED`. Test rows reach an anchor without their ratings.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.sparse import csr_array

from hierfed.data import splits
from hierfed.data.content import Content, content_of
from hierfed.data.ratings import Dataset, Ratings
from hierfed.data.reading.sources import load
from hierfed.evaluation.ranking import judge_ranking
from hierfed.models.lists import rated_matrix
from hierfed.models.metrics import rating_errors
from hierfed.randomness import generator

PROTOCOLS = ("warm", "temporal", "cold")
NODES = 8
ROW_BYTES = 4 + 4 + 4  # a user, an item and a rating


@dataclass(frozen=True)
class Task:
    """What an anchor may learn from and what is asked of it.

    train: all rows. federated: those of the users that make a global model; the same but under `cold`. asked: the test
    rows, with NaN for ratings.
    """

    dataset: Dataset
    train: Ratings
    federated: Ratings
    asked: Ratings
    protocol: str
    seed: int

    def content(self) -> Content:
        """Public features of the items; TMDB's vote averages are of 2017, which a test of the future must not see."""
        return content_of(self.dataset.catalogue, vote_average=self.protocol != "temporal")


Predict = Callable[[Task], np.ndarray]


def load_ratings(data: str) -> Dataset:
    """All ratings of the source, with the best metadata there is."""
    return load(data, join=["links", "title", "none"], unmatched="keep")


def divide(ratings: Ratings, protocol: str, seed: int) -> splits.Split:
    """The split that the settings' defaults make."""
    rng = generator(seed, 0, 0, "split")
    if protocol == "warm":
        return splits.warm(ratings, test_share=0.2, rng=rng)
    if protocol == "temporal":
        return splits.temporal(ratings, test_share=0.2)
    return splits.cold(ratings, federated_users=0.7, test_share=0.3, rng=rng)


def make_task(dataset: Dataset, protocol: str, seed: int, validate: bool = False) -> tuple[Task, np.ndarray]:
    """A task, and the ratings that are asked for.

    validate: whether a fifth of the rows that personal models learn from takes the place of the test rows, for tuning.
    """
    ratings = dataset.ratings
    split = divide(ratings, protocol, seed)
    tuning, asked = split.personal_train, split.personal_test
    if validate:
        inner = splits.warm(ratings.take(tuning), test_share=0.2, rng=generator(seed, 0, 0, "validation"))
        tuning, asked = tuning[inner.train], tuning[inner.test]
    federated = np.setdiff1d(split.train, asked)
    wanted = ratings.take(asked)
    nothing = np.full(len(wanted), np.nan, np.float32)
    task = Task(
        dataset=dataset,
        train=ratings.take(np.union1d(federated, tuning)),
        federated=ratings.take(federated),
        asked=Ratings(wanted.user, wanted.item, nothing, wanted.time),
        protocol=protocol,
        seed=seed,
    )
    return task, wanted.value


def rows_sent(task: Task) -> float:
    """Bytes that a node sends where all rows are pooled, on average."""
    return len(task.train) * ROW_BYTES / NODES


def seen_matrix(task: Task) -> csr_array:
    """Which items each user has rated, as ones, float64 [users, items]."""
    return rated_matrix(task.train, task.dataset.users, task.dataset.items)


def run_anchor(name: str, version: str, predict: Predict, sent: Callable[[Task], float] = rows_sent) -> None:
    """Let an anchor predict, judge it, and print one line of JSON; loading the data is not on the clock.

    Predictions are clipped to the range of the train ratings. sent: bytes that a node sends, on average.
    """
    task, wanted = asked_task(name)
    started = time.process_time()
    predicted = predict(task)
    cpu = time.process_time() - started
    clipped = np.clip(predicted, task.train.value.min(), task.train.value.max())
    figures = {"rmse": rating_errors(clipped, wanted, task.asked.user).rmse}
    report(name, version, figures, cpu, sent(task))


def run_ranking_anchor(name: str, version: str, score: Predict) -> None:
    """As run_anchor, for scores of all users and items; every test item counts as relevant."""
    task, wanted = asked_task(name)
    started = time.process_time()
    scores = torch.from_numpy(score(task))
    cpu = time.process_time() - started
    test = replace(task.asked, value=wanted)
    found = judge_ranking({name: lambda users: scores[users]}, task.train, test, task.dataset.items)[name]
    figures = {"ndcg@10": found.ndcg_at_10, "recall@20": found.recall_at_20, "hr@10": found.hit_rate_at_10}
    report(name, version, figures, cpu, rows_sent(task))


def asked_task(name: str) -> tuple[Task, np.ndarray]:
    """The task that the command line asks for, and its ratings."""
    parser = argparse.ArgumentParser(description=f"Judge {name} on one split.")
    add_options(parser)
    parser.add_argument("--validate", action="store_true", help="judge on a fifth of the train rows instead, to tune")
    options = parser.parse_args()
    return make_task(load_ratings(options.data), options.protocol, options.seed, options.validate)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of every script here."""
    parser.add_argument("--data", default="embedded")
    parser.add_argument("--protocol", choices=PROTOCOLS, default="warm")
    parser.add_argument("--seed", type=int, default=0)


def report(name: str, version: str, figures: dict[str, float], cpu_seconds: float, sent_per_node: float) -> None:
    """Print what came of one split; raises ValueError where a figure is no number."""
    if not np.isfinite([*figures.values()]).all():
        raise ValueError(f"{name} reached {figures}")
    costs = {"cpu_seconds": round(cpu_seconds, 2), "sent_per_node": round(sent_per_node)}
    print(json.dumps({"name": name, "version": version, **figures, **costs}))

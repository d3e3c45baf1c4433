"""Users who are forgotten: what is left of them in the predictions of others, what it costs, and what an attack sees.

    python benchmarks/forget.py --data FOLDER [--batches 10] [--seed 0] [--rounds 16] [--tolerance .001]

Protocol `warm`. Of the 100 users with most ratings, who move the model most, every other one is never trained on. The
other 50 leave, five at a time, each time from the same run. Distances are root mean squares, over the held-out rows of
all who stay, between the predictions after forgetting and those of a training that never saw the five: of as many
rounds as the run has (`anew`), and of as many as run and forgetting have together (`alike`). At the end all 50 leave at
once, and an attacker who knows everybody's ratings tells the 50 from the 50 who were never there: by the counts of
raters, solved as linear equations, and by the loss on half of the candidate's ratings, fitted on the other half.
"""

import argparse
import time
from collections.abc import Sequence

import numpy as np
import torch
from scipy.sparse import csr_array

from hierfed.data.division import allocate, load_dataset
from hierfed.data.federation import Node
from hierfed.data.ratings import Ratings
from hierfed.engines.going_on import Settled, resumed_training
from hierfed.engines.in_process import run_rounds
from hierfed.evaluation.attacks.membership import solve_members
from hierfed.evaluation.attacks.roc import area_of_few
from hierfed.federated.contract import SharedModel
from hierfed.federated.method import Method
from hierfed.methods import Case, prepare
from hierfed.settings import load_settings

CANDIDATES, BATCH = 50, 5


def without(nodes: Sequence[Node], users: np.ndarray) -> list[Node]:
    """The nodes without these users."""

    def left(rows: Ratings) -> Ratings:
        return rows.take(~np.isin(rows.user, users))

    return [Node(node.number, node.name, left(node.train), left(node.test)) for node in nodes]


def predictions(method: Method, shared: SharedModel, nodes: Sequence[Node]) -> np.ndarray:
    """Of all held-out rows, by users' models that take no sums out, so that all trainings are treated alike."""
    models = method.personalise(shared, nodes, [None] * len(nodes))
    return np.concatenate([model.predict(node.test).numpy() for model, node in zip(models, nodes, strict=True)])


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """The root of the mean squared difference."""
    return float(np.sqrt(np.mean((one - other) ** 2)))


def attack(method: Method, shared: SharedModel, rows: Ratings, gone: np.ndarray, never: np.ndarray) -> dict[str, str]:
    """The areas under the curve, with their 95% intervals, of telling who was there from who never was."""
    items = len(shared.arrays["raters"])
    shown = shared.arrays["raters"].numpy() > 0
    users = np.unique(rows.user)
    place = np.searchsorted(users, rows.user)
    rated = csr_array((np.ones(len(rows)), (rows.item, place)), (items, len(users)))
    solved = solve_members(shared.arrays["raters"].numpy()[shown], rated[np.flatnonzero(shown)])
    candidates = np.concatenate([gone, never])
    member = np.arange(len(candidates)) < len(gone)
    learn, losses = method.learner(shared), []
    for user in candidates.tolist():
        own = rows.take(rows.user == user)
        own = Ratings(np.zeros_like(own.user), own.item, own.value)
        fit, rest = own.take(np.arange(0, len(own), 2)), own.take(np.arange(1, len(own), 2))
        losses.append(-float(np.mean((learn(fit).predict(rest).numpy() - rest.value) ** 2)))
    scores = {"counts": solved[np.searchsorted(users, candidates)].round(6), "loss": np.array(losses)}
    areas = {name: area_of_few(each, member) for name, each in scores.items()}
    return {name: f"{area.value:.3f} [{area.low:.3f}, {area.high:.3f}]" for name, area in areas.items()}


def main() -> None:
    """Print a line for each batch, the means, and the attack before and after."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="embedded")
    parser.add_argument("--batches", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--tolerance", type=float, default=0.001)
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings = load_settings("hierarchical", {"source": options.data, "protocol": "warm", "seed": options.seed})
    allocation = allocate(load_dataset(settings), settings)
    catalogue, full = allocation.dataset.catalogue, settings.training.rounds
    method = prepare(Case(settings, catalogue, allocation.dataset.ratings.limits)).method
    counts = np.bincount(np.concatenate([node.train.user for node in allocation.nodes]))
    heavy = np.argsort(-counts, kind="stable")[: 2 * CANDIDATES]
    gone, never = heavy[::2], heavy[1::2]
    nodes = without(list(allocation.nodes), never)
    before = run_rounds(method, nodes, full).shared

    def forgotten(left: Sequence[Node], most: int) -> tuple[SharedModel, float]:
        began, ends = time.process_time(), Settled(method, len(catalogue), options.tolerance)
        _, trained = resumed_training(method, left, before, most, observer=ends)
        return trained.shared, time.process_time() - began

    told = []
    print("batch   rounds  CPU share   not forgotten to anew   forgotten to anew  alike: not forgotten   forgotten")
    for number in range(options.batches):
        left = without(nodes, gone[number::10])
        shared, spent = forgotten(left, options.rounds)
        began = time.process_time()
        anew = run_rounds(method, left, full)
        cost = time.process_time() - began
        alike = run_rounds(method, left, shared.round, begin=anew).shared
        now, was, one, two = (predictions(method, each, left) for each in (shared, before, anew.shared, alike))
        line = (
            shared.round - full,
            spent / cost,
            distance(was, one),
            distance(now, one),
            distance(was, two),
            distance(now, two),
        )
        told.append(line)
        print(f"{number:5}{line[0]:9}" + f"{line[1]:11.0%}" + "".join(f"{each:20.5f}" for each in line[2:]), flush=True)
    mean = np.mean(told, 0)
    anew, alike = mean[3] / mean[2], mean[5] / mean[4]
    print(f"mean: {mean[0]:.1f} rounds, {mean[1]:.0%} of the CPU; left: anew {anew:.0%}, alike {alike:.0%}")
    rows = allocation.dataset.ratings.take(allocation.split.train)
    after = forgotten(without(nodes, gone), options.rounds)[0]
    print("attack before", attack(method, before, rows, gone, never))
    print("attack after ", attack(method, after, rows, gone, never))


if __name__ == "__main__":
    main()

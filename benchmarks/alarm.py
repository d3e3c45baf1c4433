"""The alarm for users whose new ratings no longer fit: how many unchanged users it flags, and how many swapped ones.

    python benchmarks/alarm.py --data FOLDER [--order random|newest] [--seed 0]

Users with 100 ratings or more have 50 held out, at random or the newest; the model learns from all else. An unchanged
user gets the own 50 one by one, a swapped one those of another such user. Half of the users choose the level of the
alarm, half of the rate being flagged; the other half are judged. Beside it stands the level that theory gives.
"""

import argparse
import math

import numpy as np
import torch

from hierfed.data.division import load_dataset
from hierfed.data.federation import Node
from hierfed.engines.in_process import run_rounds
from hierfed.methods import Case, prepare
from hierfed.models.strangeness import FALSE_ALARMS
from hierfed.randomness import generator
from hierfed.settings import load_settings

LEAST, NEW, SOON = 100, 50, 20


def main() -> None:
    """Print the shares that are flagged."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="embedded")
    parser.add_argument("--order", choices=("random", "newest"), default="random")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings = load_settings("hierarchical", {"source": options.data, "protocol": "warm", "seed": options.seed})
    dataset = load_dataset(settings)
    ratings, rng = dataset.ratings, generator(options.seed, 0, 0, "alarm")
    counts = np.bincount(ratings.user)
    chosen = np.flatnonzero(counts >= LEAST)
    key = rng.random(len(ratings)) if options.order == "random" else ratings.time.astype(float)
    order = np.lexsort((key, ratings.user))
    ends = np.cumsum(counts)
    new = {int(user): order[ends[user] - NEW : ends[user]] for user in chosen}
    held = np.zeros(len(ratings), bool)
    held[np.concatenate(list(new.values()))] = True
    known = ratings.take(~held)
    nodes = [Node(0, "1", known, known.between(0, 0))]
    method = prepare(Case(settings, dataset.catalogue, ratings.limits)).method
    trained = run_rounds(method, nodes, settings.training.rounds)
    (models,) = method.personalise(trained.shared, nodes, trained.private)
    restore = method.restorer(trained.shared)
    own = {user: restore(tensors) for user, tensors in models.tensors()}
    other = dict(zip(chosen.tolist(), np.roll(rng.permutation(chosen), 1).tolist(), strict=True))

    def strangeness(user: int, whose: int) -> np.ndarray:
        return own[user].strangeness(ratings.take(new[whose])).numpy()

    same = np.array([strangeness(user, user) for user in chosen.tolist()])
    swapped = np.array([strangeness(user, other[user]) for user in chosen.tolist() if other[user] != user])
    half = rng.random(len(same)) < 0.5
    highest = np.sort(same[half].max(1))[::-1]
    fitted = float(highest[int(FALSE_ALARMS / 2 * len(highest))]) + 1e-9
    print(f"{len(chosen)} users, {half.sum()} of them choose the level; order {options.order}")
    for name, level in (("theory", -math.log(FALSE_ALARMS)), ("chosen", fitted)):
        judged, moved = same[~half], swapped[~half[: len(swapped)]]
        print(
            f"{name}: level {level:.2f}, unchanged flagged in {NEW}: {(judged.max(1) >= level).mean():.1%} of "
            f"{len(judged)}; swapped flagged in {SOON}: {(moved[:, :SOON].max(1) >= level).mean():.1%}, in {NEW}: "
            f"{(moved.max(1) >= level).mean():.1%} of {len(moved)}"
        )


if __name__ == "__main__":
    main()

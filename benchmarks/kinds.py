"""Would a mixture of kinds be a better prior of users than the hierarchical model's one? Figures of a prototype.

    python benchmarks/kinds.py [--data FOLDER] [--worlds three,one,warm,cold] [--seeds 5]

    z_u ~ sum_k s_k N(B_k' h_u, S_k)

A user's shares r_uk in the kinds follow from the likelihood of the user's own ratings. Sums over users weighted by
them, of r h h', r h z', r (d d' + Z) and r, give s, B and S, so that nodes could send no more than these. Here one
process has all users, and no node knows items under the threshold by itself (`factors.rare_at_node`).

Kinds grow from one, with items held: each kind is split along each of the three directions in which it spreads expected
ratings most, and the split with the best bound is kept. Their number is chosen on a fifth of each user's train rows,
which a trial holds out. Then items and kinds are trained together, from the shares that users found in the trial.

Worlds three and one are generated (2,000 users, 600 films, 100,000 ratings, protocol warm), with three kinds of users
and with one. Worlds warm and cold are protocols of --data. HELD and INNER of `mixture_fit.py` were chosen on the test
rows of seed 0 of world three; earlier forms had seen those of warm (seeds 0, 1) and cold (0), and the generated kinds'
defaults were set with the oracle's gain on seeds 0 and 1 of world three. Judged are
test rows, with the settings' kriging (of each kind's prior, weighed by shares) and by the factors alone:

- one kind: the package's model. chosen: as many kinds as were chosen. two kinds: two, whatever was chosen.
- oracle: each user's kind is told from the truth. asked: its films and priors, with shares from users' ratings.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from mixture_fit import Bed, Fitted
from torch import Tensor

from hierfed.data.division import assign, divide, load_dataset
from hierfed.data.last_rows import last_of_each_user
from hierfed.data.ratings import Ratings, concatenated
from hierfed.generated.files import read_truth, write_world
from hierfed.methods import Case, prepare
from hierfed.methods.hierarchical.hierarchical import HierarchicalFactors
from hierfed.randomness import generator
from hierfed.settings import load_settings

USERS, ITEMS, RATINGS = 2000, 600, 100_000
# Another kind is taken if it gains more than a standard error over users, and so much RMSE.
LEAST_GAIN, VALIDATION, MOST_KINDS = 0.0015, 0.2, 4


def chosen(bed: Bed, rounds: int, seed: int) -> list[tuple[Tensor, float, bool]]:
    """Users' shares in one kind, in two, and so on until one more gains nothing; validation RMSE; whether it gained."""
    rows = bed.node.train
    held = last_of_each_user(rows.user, generator(seed, 0, 0, "validation rows").random(len(rows)), VALIDATION)
    trial = Bed(bed.method, rows.take(~held), None, rows.take(held))
    fitted = trial.one_kind(rounds)
    error = trial.predicted(fitted, False) - trial.test.value
    found = [(fitted.shares, float(np.sqrt(np.mean(error**2))), True)]
    for more in trial.grown(fitted):
        now = trial.predicted(more, False) - trial.test.value
        gains = np.bincount(trial.test.user, error**2 - now**2)
        rmse = float(np.sqrt(np.mean(now**2)))
        gained = gains.sum() > np.sqrt(np.sum(gains**2)) and rmse < found[-1][1] - LEAST_GAIN
        found.append((more.shares, rmse, bool(gained)))
        if not gained or len(more.kinds) == MOST_KINDS:
            return found
        error = now
    raise AssertionError


def judged(source: str, protocol: str, seed: int, truth: bool) -> tuple[int, dict[str, tuple[float, float]]]:
    """The number of kinds that was chosen, and RMSE with kriging and by the factors alone, of each variant."""
    given = {"join": "none"} if truth else {}
    settings = load_settings("hierarchical", {"source": source, "protocol": protocol, "seed": seed, **given})
    dataset = load_dataset(settings)
    nodes, personal = assign(dataset, divide(dataset, settings), settings)
    method = prepare(Case(settings, dataset.catalogue, dataset.ratings.limits)).method
    assert isinstance(method, HierarchicalFactors)
    train, own, test = (
        _by_user(parts)
        for parts in (
            [each.train for each in nodes],
            [each.train for each in personal],
            [each.test for each in personal],
        )
    )
    bed = Bed(replace(method, rare_at_node=False), train, None if personal is nodes else own, test)
    rounds, trials = settings.training.rounds, chosen(bed, settings.selection.validation_rounds, seed)
    kinds, plain = sum(gained for _, _, gained in trials), bed.one_kind(rounds)
    fits: dict[str, tuple[Fitted, Tensor | None]] = {"one kind": (plain, None)}
    if kinds > 1:
        fits["chosen"] = bed.trained(trials[kinds - 1][0], rounds), None
    if not truth:
        fits["two kinds"] = bed.trained(trials[1][0], rounds), None
    if truth and (of_users := read_truth(Path(source)).kind) is not None:
        places = dataset.user_ids.to_numpy().astype(np.int64)[bed.cohort.users] - 1
        one_hot = torch.nn.functional.one_hot(torch.from_numpy(of_users[places])).double()
        knows = bed.trained(one_hot, rounds, known=True)
        fits |= {"oracle": (knows, one_hot), "asked": (knows, None)}
    return kinds, {
        name: (bed.rmse(fit, True, known), bed.rmse(fit, False, known)) for name, (fit, known) in fits.items()
    }


def _by_user(parts: Sequence[Ratings]) -> Ratings:
    rows = concatenated(parts)
    return rows.take(np.lexsort((rows.item, rows.user)))


def main() -> None:
    """Print each seed as it ends, and means and shares of the oracle's gain."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="embedded")
    parser.add_argument("--worlds", default="three,one,warm,cold")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for world in options.worlds.split(","):
        print(f"\n{world}: RMSE with kriging / by the factors alone", flush=True)
        told = []
        for seed in range(options.seeds):
            began = time.perf_counter()
            if world in ("three", "one"):
                with tempfile.TemporaryDirectory() as folder:
                    kinds = 3 if world == "three" else 1
                    into = Path(folder) / "data"
                    write_world(into, users=USERS, items=ITEMS, ratings=RATINGS, seed=seed, kinds=kinds)
                    kinds, found = judged(f"{folder}/data", "warm", seed, truth=True)
            else:
                kinds, found = judged(options.data, world, seed, truth=False)
            # Where one kind is chosen, the model is the one of one kind.
            found.setdefault("chosen", found["one kind"])
            told.append(found)
            words = "  ".join(f"{name} {kriged:.4f} / {plain:.4f}" for name, (kriged, plain) in found.items())
            print(f"  seed {seed}: {kinds} kinds  {words}  ({time.perf_counter() - began:.0f} s)", flush=True)
        for name in told[0]:
            gains = [[found["one kind"][at] - found[name][at] for found in told] for at in (0, 1)]
            words = " / ".join(f"{mean(each):+.4f}" for each in gains)
            if "oracle" in told[0]:
                best = [mean(found["one kind"][at] - found["oracle"][at] for found in told) for at in (0, 1)]
                words += "  of the oracle's gain " + " / ".join(
                    f"{mean(each) / most:.0%}" for each, most in zip(gains, best, strict=True)
                )
            print(f"  gain of {name:9} {words}", flush=True)


if __name__ == "__main__":
    main()

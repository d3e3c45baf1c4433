"""Are sparse ratings predicted better than by the best rivals, each tuned on the same validation rows?

    python benchmarks/sparse.py --data SOURCE... [--seeds 5] [--models "biases,SVD,SVD++,kNN,FM,FM implicit,ours"]

A split is that of `hierfed run --protocol warm --seed SEED`. Rivals learn from all other rows in one place and are held
to no threshold. Each rival's candidates are compared once, on validation rows inside the train rows of seed 0; the best
is then judged on the test rows of every seed. The rivals are those of the extra `bench`: surprise's SVD, SVD++ and
KNNBaseline, and myfm's Gibbs sampler with and without implicit features, for ratings as numbers and as ordered classes.
Ours runs with its own selection.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix, diags, hstack, identity

sys.path.insert(0, str(Path(__file__).parent / "anchors"))

from task import Task, load_ratings, make_task

from hierfed.data.ratings import Ratings
from hierfed.models.baselines import Biases
from hierfed.models.metrics import rating_errors

Predict = Callable[[Task], np.ndarray]


def shrunk_biases(of_users: float, of_items: float) -> Predict:
    """User and item biases with these penalties."""

    def predict(task: Task) -> np.ndarray:
        train, users, items = task.train, task.dataset.users, task.dataset.items
        mean = float(train.value.mean(dtype=float))
        user, item = np.zeros(users), np.zeros(items)
        for _ in range(15):
            for mine, others, penalty, own, other in (
                (item, user, of_items, train.item, train.user),
                (user, item, of_users, train.user, train.item),
            ):
                sums = np.bincount(own, train.value - mean - others[other], minlength=len(mine))
                mine[:] = sums / (np.bincount(own, minlength=len(mine)) + penalty)
        return Biases(mean, user, item).predict(task.asked)

    return predict


def surprise(name: str, **settings: object) -> Predict:
    """One of surprise's algorithms."""

    def predict(task: Task) -> np.ndarray:
        import surprise as library
        from surprise_models import fit_and_predict

        seeded = {} if name == "KNNBaseline" else {"random_state": task.seed}
        return fit_and_predict(getattr(library, name)(**seeded, **settings), task)

    return predict


def machine(rank: int, *, implicit: bool, ordinal: bool = False, sweeps: int = 120) -> Predict:
    """A Bayesian factorisation machine.

    implicit: with what a user has rated and by whom an item was rated.
    """

    def predict(task: Task) -> np.ndarray:
        from myfm import MyFMOrderedProbit, MyFMRegressor, RelationBlock

        shape = task.dataset.users, task.dataset.items
        seen = csr_matrix((np.ones(len(task.train)), (task.train.user, task.train.item)), shape)
        sides = []
        for count, rated in ((shape[0], seen), (shape[1], seen.T.tocsr())):
            sizes = np.maximum(np.asarray(rated.sum(1)).ravel(), 1)
            sides.append([identity(count, format="csr"), *([(diags(sizes**-0.5) @ rated).tocsr()] if implicit else [])])
        content = task.content()
        sides[1] += [csr_matrix(each) for each in (content.unit_genres, content.year_bumps) if np.any(each)]
        users, items = (hstack(side, format="csr") for side in sides)

        def relations(rows: Ratings) -> list[RelationBlock]:
            pairs = ((rows.user, users), (rows.item, items))
            return [RelationBlock(numbers.astype(np.int64), features) for numbers, features in pairs]

        groups = [block.shape[1] for side in sides for block in side]
        how = {"n_iter": sweeps, "n_kept_samples": sweeps - 20, "group_shapes": groups}
        if not ordinal:
            fitted = MyFMRegressor(rank=rank, random_seed=task.seed)
            fitted.fit(None, task.train.value.astype(float), X_rel=relations(task.train), **how)
            return fitted.predict(None, relations(task.asked))
        classes, grade = np.unique(task.train.value, return_inverse=True)
        ordered = MyFMOrderedProbit(rank=rank, random_seed=task.seed)
        ordered.fit(None, grade, X_rel=relations(task.train), **how)
        return ordered.predict_proba(None, relations(task.asked)) @ classes

    return predict


def descents(name: str, factors: tuple[int, ...], penalties: tuple[float, ...]) -> Iterator[tuple[str, Predict]]:
    """Candidates of a surprise model that is trained by gradient descent."""
    for rank in factors:
        for penalty in penalties:
            settings = {"n_factors": rank, "n_epochs": 30, "lr_all": 0.007, "reg_all": penalty}
            yield f"rank {rank}, penalty {penalty}", surprise(name, **settings)


def neighbours() -> Iterator[tuple[str, Predict]]:
    """Candidates of the nearest neighbours."""
    # Users' similarities do not fit into memory where there are many.
    for shrinkage in (50, 200):
        similarity = {"name": "pearson_baseline", "user_based": False, "shrinkage": shrinkage}
        how = {"sim_options": similarity, "bsl_options": {"reg_u": 3, "reg_i": 3}, "verbose": False}
        yield f"items, shrinkage {shrinkage}", surprise("KNNBaseline", k=40, **how)


RIVALS: dict[str, list[tuple[str, Predict]]] = {
    "biases": [(f"penalties {each}", shrunk_biases(each, each)) for each in (3, 5, 10)],
    "SVD": [*descents("SVD", (10, 50), (0.05, 0.1, 0.2))],
    "SVD++": [*descents("SVDpp", (10,), (0.05, 0.1, 0.2))],
    "kNN": [*neighbours()],
    "FM": [(f"rank {rank}", machine(rank, implicit=False)) for rank in (2, 8)],
    "FM implicit": [
        *((f"rank {rank}", machine(rank, implicit=True)) for rank in (2, 8)),
        ("rank 8, ordered", machine(8, implicit=True, ordinal=True)),
    ],
}


def judged(predict: Predict, task: Task, wanted: np.ndarray) -> float:
    """The RMSE of predictions within the scale."""
    found = np.clip(predict(task), task.train.value.min(), task.train.value.max())
    return rating_errors(found, wanted, task.asked.user).rmse


def main() -> None:
    """Tune, judge and print a line a model and data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["embedded"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--models", default=",".join([*RIVALS, "ours"]))
    options = parser.parse_args()
    for data in options.data:
        dataset = load_ratings(data)
        for name in options.models.split(","):
            began = time.process_time()
            if name == "ours":
                from own import ours

                chosen = "own selection"
                found = [ours("hierarchical", data, "warm", seed)[0].users.rmse_after for seed in range(options.seeds)]
            else:
                rehearsal = make_task(dataset, "warm", 0, validate=True)
                tried = {what: judged(each, *rehearsal) for what, each in RIVALS[name]}
                chosen = min(tried, key=lambda what: tried[what])
                best = dict(RIVALS[name])[chosen]
                found = [judged(best, *make_task(dataset, "warm", seed)) for seed in range(options.seeds)]
            figures = " ".join(f"{each:.4f}" for each in found)
            seconds = time.process_time() - began
            print(f"{Path(data).name}: {name} ({chosen}) {np.mean(found):.4f}: {figures}; {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()

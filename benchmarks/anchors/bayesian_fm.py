"""Anchor: a Bayesian factorisation machine (myfm's Gibbs sampler for ordered ratings), flipped and with content.

A row is a user with what it has rated and with the mean features of that, and an item with who has rated it (the
"flipped" half of SVD++; Rendle, Zhang and Koren, 2019) and its public features. Every block has priors of its own.
Ratings are classes of an ordered probit, and the expected rating is what counts.
Settings chosen on the validation rows of seed 0, warm, in stars. Rank 8, normal ratings: .862 without content, .828
with, .827 with users' mean features; ordinal ratings: .825. Rank 16, ordinal, 100 sweeps: .819; rank 10 .822, rank 32
.824, without the raters .821, numbers in ten bins .828. Long chains drift to worse predictions (300 sweeps .822, 800
at rank 8 .828), so four short ones of different seeds are averaged: .817. myfm 0.4.0 imports pkg_resources, which
setuptools 82 no longer has.
"""

from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version

import numpy as np
from myfm import MyFMOrderedProbit, RelationBlock
from scipy.sparse import csr_matrix, diags, hstack, identity
from task import Task, run_anchor

from hierfed.data.ratings import Ratings

Blocks = Callable[[Task], Sequence[tuple[np.ndarray, np.ndarray, int]]]

RANK = 16
SWEEPS = 100
BURN_IN = 16
CHAINS = 4
PROFILE_SHRINKAGE = 5


def unit_rows(matrix: csr_matrix) -> csr_matrix:
    """Rows of ones scaled to norm 1, as in SVD++."""
    counts = np.asarray(matrix.sum(1)).ravel()
    return diags(1 / np.sqrt(np.maximum(counts, 1))) @ matrix


def user_blocks(seen: csr_matrix, public: np.ndarray) -> Iterator[csr_matrix]:
    """Who a user is, what it has rated, and the mean features of that."""
    counts = np.asarray(seen.sum(1))
    yield identity(seen.shape[0])
    yield unit_rows(seen)
    yield csr_matrix(seen @ public / (counts + PROFILE_SHRINKAGE))


def item_blocks(seen: csr_matrix, *public: np.ndarray) -> Iterator[csr_matrix]:
    """What an item is, who has rated it, and its features."""
    yield identity(seen.shape[1])
    yield unit_rows(seen.T.tocsr())
    yield from (csr_matrix(features) for features in public if features.shape[1])


def predict(task: Task, more: Blocks | None = None) -> np.ndarray:
    """The mean over chains of expected ratings.

    more: gives further blocks, each the number of a row of one-hot features for every train row and for every asked
    one, and how many features there are.
    """
    train, content = task.train, task.content()
    shape = (task.dataset.users, task.dataset.items)
    seen = csr_matrix((np.ones(len(train)), (train.user, train.item)), shape)
    of_users = [*user_blocks(seen, np.hstack([content.genres, content.scalars]))]
    of_items = [*item_blocks(seen, content.unit_genres, content.year_bumps, content.scalars)]
    users, items = hstack(of_users, format="csr"), hstack(of_items, format="csr")

    further = more(task) if more else []

    def relations(rows: Ratings, asked: bool) -> list[RelationBlock]:
        pairs = [(rows.user, users), (rows.item, items)]
        # The last number is that of nothing known: a row without a feature.
        pairs += [(each[asked], csr_matrix(identity(size + 1, format="csr")[:, :size])) for *each, size in further]
        return [RelationBlock(numbers.astype(np.int64), features) for numbers, features in pairs]

    classes, grade = np.unique(train.value, return_inverse=True)
    total = np.zeros(len(task.asked))
    for chain in range(CHAINS):
        machine = MyFMOrderedProbit(rank=RANK, random_seed=task.seed * CHAINS + chain)
        machine.fit(
            None,
            grade,
            X_rel=relations(train, False),
            n_iter=SWEEPS,
            n_kept_samples=SWEEPS - BURN_IN,
            group_shapes=[block.shape[1] for block in of_users + of_items] + [size for *_, size in further],
        )
        total += machine.predict_proba(None, relations(task.asked, True)) @ classes
    return total / CHAINS


if __name__ == "__main__":
    run_anchor("Bayesian FM", f"myfm {version('myfm')}", predict)

"""A test of other people's evaluations: does the training know which item is held out?

Many recommenders are trained on negatives drawn from the items that a user has never touched, the held-out item
excluded. A model with item vectors of the user's own then learns which item is never pushed down. The test finds this
with a probe that can know nothing else: one free number for each user and item, which every negative pushes down. It
has no features and no popularity, and users share nothing. So whatever the probe hits above chance is a leak.

Chance is measured, not assumed: each user's probe also ranks another user's held-out item among that user's candidates.
Items that are drawn often or seldom for everybody weigh the same on both sides, so that a sound sampler by popularity
is not flagged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import ttest_1samp

from hierfed.errors import DataError

LEAST_SEEDS, LENGTH, LEVEL = 5, 10, 0.001
SHIFTS = 20

Sampler = Callable[[np.random.Generator], np.ndarray]
"""Draws pairs of user and item, int64 [pairs, 2]."""

Scores = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""The scores of pairs, from their users and their items, int64 [pairs]; higher is better."""

Fit = Callable[[np.ndarray, np.random.Generator], Scores]
"""Trains a model on pairs of user and item, int64 [pairs, 2]."""


@dataclass(frozen=True)
class LeakFinding:
    """The outcome of a leak test.

    tested: False where there is nothing to test, since finished scores do not tell how they came about.
    leaks: True where the hit rate is above chance at p < LEVEL.
    hit_rate: of the probe at LENGTH. chance: its hit rate on other users' items. p: one-sided, over users.
    users, seeds: how many were tested.
    """

    tested: bool
    leaks: bool = False
    hit_rate: float = float("nan")
    chance: float = float("nan")
    p: float = float("nan")
    users: int = 0
    seeds: int = 0

    def __str__(self) -> str:
        """The finding in a sentence."""
        if not self.tested:
            return (
                "cannot be tested: finished scores do not tell how they were trained; "
                "give the sampler of training negatives, or the function that trains"
            )
        figures = (
            f"a probe that knows nothing hits {self.hit_rate:.1%} of the held-out items at {LENGTH}, "
            f"{self.chance:.1%} by chance (p = {self.p:.1g}, {self.users:,} users, {self.seeds} seeds)"
        )
        if self.leaks:
            return f"leak: {figures}"
        return f"no leak found: {figures}"


def leak_test(
    train: np.ndarray,
    test: np.ndarray,
    candidates: Sampler,
    *,
    negatives: Sampler | None = None,
    fit: Fit | None = None,
    scores: object = None,
    seeds: int = LEAST_SEEDS,
) -> LeakFinding:
    """Test whether the training negatives, or a whole training, give away the held-out items.

    train, test: pairs of user and item, int64 [pairs, 2]; a user has one test item.
    candidates: draws the items that each test item is ranked among.
    negatives: draws training negatives as the evaluation under test does, for all its epochs.
    fit: trains the model under test. It is given train items that are random for each user, so that a sound training
    cannot know anything of the test items; what it finds all the same, it has from elsewhere.
    scores: finished scores; of these nothing can be tested.
    seeds: at least LEAST_SEEDS.

    Raises DataError unless exactly one of negatives, fit and scores is given, and for pairs that fit no split.

    >>> import numpy as np
    >>> train = np.array([(user, user % 7) for user in range(60)])
    >>> test = np.array([(user, 10 + user % 11) for user in range(60)])
    >>> every = np.array([(user, item) for user in range(60) for item in range(10, 40)])
    >>> others = every[(every != test[every[:, 0]]).any(1)]
    >>> leak_test(train, test, lambda rng: others, negatives=lambda rng: others).leaks
    True
    >>> leak_test(train, test, lambda rng: others, negatives=lambda rng: every).leaks
    False
    """
    if sum(each is not None for each in (negatives, fit, scores)) != 1:
        raise DataError("leak test: give one of negatives, fit and scores")
    if scores is not None:
        return LeakFinding(tested=False)
    if seeds < LEAST_SEEDS:
        raise DataError(f"leak test: {seeds} seeds are too few: take {LEAST_SEEDS} or more")
    train, test = _pairs(train, "train"), _pairs(test, "test")
    users, counts = np.unique(test[:, 0], return_counts=True)
    if len(users) < 2 or (counts > 1).any():
        raise DataError("leak test: expected one test item for each of two or more users")
    wanted = dict(test.tolist())
    hits: dict[int, list[float]] = {user: [] for user in wanted}
    gains: dict[int, list[float]] = {user: [] for user in wanted}
    chances: list[float] = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        listed = _by_user(_pairs(candidates(rng), "candidates"))
        if negatives is not None:
            known, scored = _by_user(train), _pushed_down(_pairs(negatives(rng), "negatives"), rng)
        else:
            assert fit is not None
            random = _random_items(train, wanted, listed, rng)
            known, scored = _by_user(random), fit(random, rng)
        for user, hit, own, other in _compared(wanted, listed, known, scored, rng):
            hits[user].append(hit)
            gains[user].append(own - other)
            chances.append(other)
    means = np.array([np.mean(each) for each in gains.values() if each])
    if len(means) < 2:
        raise DataError("leak test: fewer than two users have candidates that another user could be given")
    if means.std() == 0:
        p = 0.0 if means[0] > 0 else 1.0
    else:
        p = float(ttest_1samp(means, 0.0, alternative="greater").pvalue)
    hit_rate = float(np.mean([np.mean(each) for each in hits.values() if each]))
    return LeakFinding(True, p < LEVEL, hit_rate, float(np.mean(chances)), p, len(means), seeds)


def _compared(
    wanted: dict[int, int],
    listed: dict[int, np.ndarray],
    known: dict[int, np.ndarray],
    scored: Scores,
    rng: np.random.Generator,
) -> Iterator[tuple[int, float, float, float]]:
    """Each user, whether the own item is hit, the same in a list as long as the other's, and whether the other's is.

    wanted: the test item of each user. listed: the candidates. known: the train items, which no list may hold.
    """
    nothing = np.empty(0, np.int64)
    users = np.array([user for user in wanted if len(listed.get(user, nothing))])
    for user in users.tolist():
        mine = np.append(known.get(user, nothing), wanted[user])
        for other in rng.choice(users, min(SHIFTS, len(users)), replace=False).tolist():
            if wanted[other] not in mine:
                break
        else:
            continue
        theirs = listed[other][~np.isin(listed[other], mine)]
        own = rng.permutation(listed[user][listed[user] != wanted[user]])
        size = min(len(own), len(theirs))
        if size:
            hit, equal = (_hit(scored, user, wanted[user], some, rng) for some in (own, own[:size]))
            yield user, hit, equal, _hit(scored, user, wanted[other], rng.permutation(theirs)[:size], rng)


def _hit(scored: Scores, user: int, item: int, others: np.ndarray, rng: np.random.Generator) -> float:
    """1 if the item is among the first LENGTH, else 0; equal scores are in random order."""
    items = np.append(others, item)
    scores = np.asarray(scored(np.full(len(items), user), items), np.float64)
    ahead, equal = int((scores[:-1] > scores[-1]).sum()), int((scores[:-1] == scores[-1]).sum())
    return float(ahead + rng.integers(equal + 1) < LENGTH)


def _pushed_down(negatives: np.ndarray, rng: np.random.Generator) -> Scores:
    """The probe: a free number for each user and item, which begins at 0, and every negative moves down.

    Only the order of the numbers counts, so that the size of a step says nothing.
    """
    width = int(negatives[:, 1].max(initial=0)) + 1
    keys, counts = np.unique(negatives[:, 0] * width + negatives[:, 1], return_counts=True)

    def score(user: np.ndarray, item: np.ndarray) -> np.ndarray:
        key = user * width + item
        place = np.searchsorted(keys, key).clip(max=len(keys) - 1)
        drawn = (item < width) & (keys[place] == key) if len(keys) else np.zeros(len(key), bool)
        return np.where(drawn, -counts[place] if len(keys) else 0, 0).astype(np.float64)

    return score


def _random_items(
    train: np.ndarray, wanted: dict[int, int], listed: dict[int, np.ndarray], rng: np.random.Generator
) -> np.ndarray:
    """Train pairs with random items in place of the user's own; none is the user's test item or a candidate."""
    items = 1 + max(int(train[:, 1].max(initial=0)), *wanted.values(), *(int(each.max()) for each in listed.values()))
    found = []
    for user, own in _by_user(train).items():
        barred = np.append(listed.get(user, np.empty(0, np.int64)), wanted.get(user, -1))
        free = np.setdiff1d(np.arange(items), barred)
        drawn = rng.permutation(free)[: len(own)]
        found.append(np.column_stack([np.full(len(drawn), user), drawn]))
    return np.concatenate(found)


def _by_user(pairs: np.ndarray) -> dict[int, np.ndarray]:
    """The items of each user."""
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    users, first = np.unique(pairs[:, 0], return_index=True)
    return dict(zip(users.tolist(), np.split(pairs[:, 1], first[1:]), strict=True))


def _pairs(found: np.ndarray, name: str) -> np.ndarray:
    pairs = np.asarray(found)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or not len(pairs) or pairs.dtype.kind not in "iu" or pairs.min() < 0:
        raise DataError(f"leak test, {name}: expected pairs of user and item as whole numbers from 0 on, [pairs, 2]")
    return pairs.astype(np.int64)

"""Who rates what: each user's films, drawn without replacement, and each film by one user at least."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hierfed.generated.tails import attractions, distinct_after
from hierfed.randomness import generator, ragged_bits, stream_keys, uniforms

# Whose films would take more draws than this share of all films races all of them instead, as many numbers at once.
RACING_SHARE = 0.25
RACED_AT_ONCE = 2_000_000
FIRST_DRAWS, MORE_DRAWS = 1.1, 2


@dataclass(frozen=True)
class Audience:
    """What decides who rates what.

    seed: of all chances. activity: how many films each user rates, int64 [users]. weights: the chances of films to be
    drawn next, float64 [items]. draws: how many are expected to give a user so many different films, float64 [users],
    infinite where these are too many to tell. first_films: those of which a user is the first rater, user after user,
    int64 [items]; first_counts: how many these are, int64 [users].
    """

    seed: int
    activity: np.ndarray
    weights: np.ndarray
    draws: np.ndarray
    first_films: np.ndarray
    first_counts: np.ndarray

    def films(self, users: np.ndarray) -> np.ndarray:
        """The films of these users, user after user, int64; the same for a user in whatever company.

        A user's are the first to come that differ, of those that the user is the first rater of and then of a stream
        of films with chances in proportion to the weights.
        """
        found = np.empty(int(self.activity[users].sum()), dtype=np.int64)
        begins = np.cumsum(self.activity[users]) - self.activity[users]
        racing = self.draws[users] > RACING_SHARE * len(self.weights)
        step = max(RACED_AT_ONCE // len(self.weights), 1)
        for some in _parts(np.flatnonzero(racing), step):
            _place(found, begins[some], self.activity[users[some]], self._raced(users[some]))
        left = np.flatnonzero(~racing)
        count = np.ceil(FIRST_DRAWS * self.draws[users[left]] + 10).astype(np.int64)
        while len(left):
            films, numbers = self._streamed(users[left], count)
            done = numbers == self.activity[users[left]]
            _place(found, begins[left[done]], numbers[done], films[np.repeat(done, numbers)])
            left, count = left[~done], MORE_DRAWS * count[~done]
        return found

    def _first(self, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The films of which these users are the first raters, user after user, and how many these are."""
        begins, counts = (np.cumsum(self.first_counts) - self.first_counts)[users], self.first_counts[users]
        return self.first_films[np.repeat(begins, counts) + _within(counts)], counts

    def _streamed(self, users: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The different ones among a user's first films and so many draws, user after user, and how many these are.

        No more than the user rates.
        """
        keys = stream_keys(self.seed, 0, users, "generated pairs")
        drawn = np.searchsorted(np.cumsum(self.weights)[:-1], uniforms(ragged_bits(keys, draws)), side="right")
        first, first_counts = self._first(users)
        lengths = first_counts + draws
        owner, place = np.repeat(np.arange(len(users)), lengths), _within(lengths)
        films = np.empty(len(owner), dtype=np.int64)
        is_first = place < first_counts[owner]
        films[is_first], films[~is_first] = first, drawn
        _, earliest = np.unique(owner * len(self.weights) + films, return_index=True)
        earliest.sort()
        numbers = np.bincount(owner[earliest], minlength=len(users))
        kept = _within(numbers) < np.repeat(self.activity[users], numbers)
        return films[earliest[kept]], np.minimum(numbers, self.activity[users])

    def _raced(self, users: np.ndarray) -> np.ndarray:
        """The same law without draws that repeat: every film comes in after an exponential time."""
        keys = stream_keys(self.seed, 0, users, "generated race")
        counts = np.full(len(users), len(self.weights))
        times = -np.log(uniforms(ragged_bits(keys, counts))).reshape(len(users), -1) / self.weights
        first, first_counts = self._first(users)
        times[np.repeat(np.arange(len(users)), first_counts), first] = 0.0
        order = np.argsort(times, axis=1)
        picked: np.ndarray = order[np.arange(len(self.weights)) < self.activity[users][:, None]]
        return picked


def gather(seed: int, activity: np.ndarray, rank: np.ndarray, expected: np.ndarray) -> Audience:
    """The audience of films with these ranks in popularity, int64 [items], from 0.

    expected: how many raters the film of each rank shall have besides its first one, float64 [items].
    """
    ratings, items = int(activity.sum()), len(rank)
    slots = generator(seed, 0, 0, "generated first raters").choice(ratings, items, replace=False)
    first_rater = np.searchsorted(np.cumsum(activity), slots, side="right")
    first_counts = np.bincount(first_rater, minlength=len(activity))
    by_rank = attractions(expected, activity - first_counts) if ratings > items else np.full(items, 1 / items)
    draws = draws_needed(by_rank, activity)
    return Audience(seed, activity, by_rank[rank], draws, np.argsort(first_rater, kind="stable"), first_counts)


def draws_needed(weights: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """How many draws with replacement are expected to give so many different films; infinite beyond 10 per film."""
    grid = np.geomspace(1, 10 * len(weights), 200)
    draws: np.ndarray = np.interp(wanted, distinct_after(weights, grid), grid, right=np.inf)
    return draws


def _within(counts: np.ndarray) -> np.ndarray:
    """0, 1, ... within each of some groups that follow each other."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    places: np.ndarray = np.arange(total) - np.repeat(ends - counts, counts)
    return places


def _place(found: np.ndarray, begins: np.ndarray, counts: np.ndarray, films: np.ndarray) -> None:
    found[np.repeat(begins, counts) + _within(counts)] = films


def _parts(rows: np.ndarray, step: int) -> Iterator[np.ndarray]:
    return (rows[begin : begin + step] for begin in range(0, len(rows), step))

"""The pairs of users and films that are rated.

Users draw films without replacement, and each film has at least one rater.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hierfed.generated.tails import attractions, distinct_after
from hierfed.randomness import generator, ragged_bits, stream_keys, uniforms

# A user who would need more draws than this share of all films races all films instead, so many numbers at once.
RACING_SHARE = 0.25
RACED_AT_ONCE = 2_000_000
FIRST_DRAWS, MORE_DRAWS = 1.1, 2


@dataclass(frozen=True)
class Audience:
    """The parameters that determine the pairs of users and films.

    seed: of all random draws.
    activity: number of films that each user rates, int64 [users].
    weights: probabilities of films in a draw, float64 [items].
    draws: expected number of draws until a user has enough different films, float64 [users]; infinite if too many.
    first_films: the films of which each user is the first rater, user after user, int64 [items].
    first_counts: their number for each user, int64 [users].
    """

    seed: int
    activity: np.ndarray
    weights: np.ndarray
    draws: np.ndarray
    first_films: np.ndarray
    first_counts: np.ndarray

    def films(self, users: np.ndarray) -> np.ndarray:
        """The films of these users, user after user, int64. A user's films do not depend on the other users asked for.

        A user takes the films of which it is the first rater, then different films from a stream of draws with
        probabilities in proportion to the weights.
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
        """The films of which these users are the first raters, user after user, and their number for each user."""
        begins, counts = (np.cumsum(self.first_counts) - self.first_counts)[users], self.first_counts[users]
        return self.first_films[np.repeat(begins, counts) + _within(counts)], counts

    def _streamed(self, users: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The different films among each user's first films and so many draws, user after user, and their numbers.

        A user gets no more films than it rates.
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
        """The same distribution without repeated draws: every film arrives after an exponential time."""
        keys = stream_keys(self.seed, 0, users, "generated race")
        counts = np.full(len(users), len(self.weights))
        times = -np.log(uniforms(ragged_bits(keys, counts))).reshape(len(users), -1) / self.weights
        first, first_counts = self._first(users)
        times[np.repeat(np.arange(len(users)), first_counts), first] = 0.0
        order = np.argsort(times, axis=1)
        picked: np.ndarray = order[np.arange(len(self.weights)) < self.activity[users][:, None]]
        return picked


def gather(seed: int, activity: np.ndarray, rank: np.ndarray, expected: np.ndarray) -> Audience:
    """The audience of films with these ranks.

    rank: ranks in popularity from 0, int64 [items].
    expected: expected number of raters of the film of each rank, besides its first rater, float64 [items].
    """
    ratings, items = int(activity.sum()), len(rank)
    slots = generator(seed, 0, 0, "generated first raters").choice(ratings, items, replace=False)
    first_rater = np.searchsorted(np.cumsum(activity), slots, side="right")
    first_counts = np.bincount(first_rater, minlength=len(activity))
    by_rank = attractions(expected, activity - first_counts) if ratings > items else np.full(items, 1 / items)
    draws = draws_needed(by_rank, activity)
    return Audience(seed, activity, by_rank[rank], draws, np.argsort(first_rater, kind="stable"), first_counts)


def draws_needed(weights: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The expected number of draws with replacement until so many films differ; infinite beyond 10 per film."""
    grid = np.geomspace(1, 10 * len(weights), 200)
    draws: np.ndarray = np.interp(wanted, distinct_after(weights, grid), grid, right=np.inf)
    return draws


def _within(counts: np.ndarray) -> np.ndarray:
    """0, 1, ... within each of several consecutive groups."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    places: np.ndarray = np.arange(total) - np.repeat(ends - counts, counts)
    return places


def _place(found: np.ndarray, begins: np.ndarray, counts: np.ndarray, films: np.ndarray) -> None:
    found[np.repeat(begins, counts) + _within(counts)] = films


def _parts(rows: np.ndarray, step: int) -> Iterator[np.ndarray]:
    return (rows[begin : begin + step] for begin in range(0, len(rows), step))

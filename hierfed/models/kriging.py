"""Kriging at the user: a Gaussian process on the user's own ratings, on top of a shared linear model (Matheron, 1963).

    K_l = X S X' + k(i, j) + l diag(noise),  y ~ N(0, s / l K_l),  log l ~ N(0, 1) on LEVELS,  s ~ Gamma^-1(a, a)
    prediction = prior + K_q sum_l w_l K_l^-1 y
    variance = s_l / l (k_q - K_q K_l^-1 K_q') + s_l noise,  s_l = (a + l y' K_l^-1 y / 2) / (a + n / 2),  likeliest l
    log w_l = (n log l - log |K_l| - log^2 l) / 2 - (a + n / 2) log(a + l y' K_l^-1 y / 2)

Users differ in the level of their noise and in the spread of their taste. l is the ratio of the two. s is the scale of
both, and is integrated out. a is STRENGTH, n the number of the user's ratings.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from hierfed.models.influence import Influence, LevelSystem, near_duplicates, padded, sets_of
from hierfed.models.kernel import ItemKernel
from hierfed.models.noise_levels import LEVELS, fit_of, log_evidence, solve
from hierfed.models.threads import in_order

# Most kernel values of users who share a block: 2 MB in float64, which stays in a core's cache.
BLOCK = 1 << 18
# Users share a block if the largest has at most this many times the ratings of the smallest, and so many rows more.
PADDING_RATIO, PADDING_ROWS = 1.2, 8
# Blocks of users with more kriged ratings are computed in single precision, which takes half of the time;
# of the embedded ratings it moves a prediction by at most 2e-5 stars.
SINGLE_FROM = 256
# A user's matrices grow as the square of the ratings, and the time as their cube. So at most this many ratings are
# kriged, evenly spread over the user's list; the prior mean and the noise know all of them.
MOST_KRIGED = 4096


@dataclass(frozen=True)
class Observations:
    """Users' own ratings, user after user, with all data that a prediction needs of them; private.

    counts [users]: number of ratings of each user.
    items, ratings [ratings]: the items' numbers, and the ratings in stars.
    vectors [ratings, t]: x_i.
    residuals [ratings]: the ratings minus their prior means.
    noise [ratings]: their noise variances, given item and user.
    times: when they were given, in seconds since 1970, float64 [ratings]; None if that is not known.
    """

    counts: Tensor
    items: Tensor
    ratings: Tensor
    vectors: Tensor
    residuals: Tensor
    noise: Tensor
    times: Tensor | None = None


@dataclass(frozen=True)
class OwnFit:
    """The fit of the prior to some users' own ratings, padded to n of each.

    users: their places.
    inside: False at padding, [users, n].
    items, vectors: as in Observations, [users, n] and [users, n, t].
    inverse, solution: C^-1 [users, n, n] and C^-1 y [users, n], where C is the scaled covariance of the ratings at the
    likeliest level; both 0 at padding.
    """

    users: Tensor
    inside: Tensor
    items: Tensor
    vectors: Tensor
    inverse: Tensor
    solution: Tensor


@dataclass(frozen=True)
class Kriging:
    """Predicts deviations from the prior mean.

    spread: S, the prior covariance of the users' weights, [t, t].
    """

    kernel: ItemKernel
    spread: Tensor
    observations: Observations
    threads: int = 1

    @property
    def timed(self) -> bool:
        """True if predictions for a moment differ from those for none."""
        return self.observations.times is not None and self.kernel.time.used

    def predict(
        self, place: Tensor, items: Tensor, vectors: Tensor, times: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and variance of the deviation from the prior, without noise, and the factor on the user's noise, [rows].

        place: the user of each row, as a place among the observations' users.
        items: [rows].
        vectors: x, [rows, t].
        times: the moments for which one asks, in seconds, float64 [rows]; None leaves all times out.
        """
        times = times if self.timed else None
        mean, variance, loudness = (torch.zeros_like(vectors[:, 0]) for _ in range(3))

        def fill(block: tuple[Tensor, Tensor]) -> None:
            users, rows = block
            inside = rows >= 0
            item, x = items[rows.clamp_min(0)], vectors[rows.clamp_min(0)]
            when = None if times is None else times[rows.clamp_min(0)]
            prior = torch.einsum("umt,ts,ums->um", x, self.spread, x) + self.kernel.of_itself(item, when is not None)
            counts = self._counts[users]
            kind = torch.float32 if int(counts.max()) > SINGLE_FROM else torch.float64
            try:
                found = self._predicted(users, item, x, when, kind)
            except RuntimeError:
                # torch's LinAlgError, which torch.linalg does not export, is one; any other comes again.
                # Nearly equal ratings with next to no noise need all digits.
                found = self._predicted(users, item, x, when, torch.float64)
            expected, gained, signal, louder = found
            mean[rows[inside]] = expected.double()[inside]
            variance[rows[inside]] = (signal[:, None] * (prior - gained.double()))[inside]
            loudness[rows[inside]] = louder[:, None].expand_as(gained)[inside]

        # Every block writes its own rows, so the numbers do not depend on the threads. The largest blocks go first, so
        # that no thread is left alone with one at the end.
        blocks = list(self._blocks(place))[::-1]
        deque(in_order(fill, blocks, min(self.threads, len(blocks) or 1)), maxlen=0)
        return mean, variance, loudness

    def _predicted(
        self, users: Tensor, items: Tensor, vectors: Tensor, when: Tensor | None, kind: torch.dtype
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The means and what the ratings take off the variances, [users, m], and the factors on signal and noise.

        Arguments as of `_system`. kind: the type of the numbers. Raises torch.linalg.LinAlgError if it is too short.
        """
        covariance, noise, cross, residuals = self._system(users, items, vectors, when, kind)
        found = solve(covariance, noise, residuals, self._counts[users])
        gained = torch.linalg.solve_triangular(found.factor, cross.transpose(1, 2), upper=False).square().sum(1)
        return (cross @ found.weights[:, :, None])[:, :, 0], gained, found.signal, found.loudness

    def influence(self, place: int, items: Tensor, vectors: Tensor, times: Tensor | None = None) -> Influence:
        """The change of the mean at each item by own ratings of one user: each alone, and pairs of near duplicates.

        It is exact: the mean with all ratings minus the mean of a fit without them, with their noise and prior held.
        Ratings that are not kriged have no influence. times: as in `predict`.
        """
        here = torch.tensor([place], device=items.device)
        when = times[None] if times is not None and self.timed else None
        system = self._system(here, items[None], vectors[None], when)
        covariance, noise, cross, residuals = (each[0] for each in system)
        counts = self.observations.counts
        places = self._own(here)[0][0] - counts[:place].sum()
        return _influence(covariance, noise, cross, residuals).among(places, int(counts[place]))

    def likeness(self, item: int, vectors: Tensor) -> Tensor:
        """The correlation, between users, of the deviation at an item with that at each item: float64 [items].

        vectors: x of all items, [items, t].
        """
        every = torch.arange(len(vectors), device=vectors.device)
        here = every[item : item + 1]
        covariance = self.kernel.between(here[None], every[None])[0, 0] + vectors @ (self.spread @ vectors[item])
        variance = (vectors @ self.spread * vectors).sum(1) + self.kernel.of_itself(every)
        return covariance / (variance * variance[item]).sqrt()

    def evidence(self) -> Tensor:
        """The log evidence of each user's own ratings, up to a function of their number: [users]."""
        counts = self._counts
        found = torch.zeros(len(counts), dtype=torch.float64, device=counts.device)
        for users, _ in self._blocks(torch.arange(len(counts), device=counts.device)):
            own, inside = self._own(users)
            found[users] = solve(*self._own_system(own, inside), counts[users]).evidence
        return found

    def own_fits(self) -> Iterator[OwnFit]:
        """The fits of the prior to the users' own ratings, some users at a time."""
        known, counts = self.observations, self._counts
        for users, _ in self._blocks(torch.arange(len(counts), device=counts.device)):
            own, inside = self._own(users)
            covariance, noise, residuals = self._own_system(own, inside)
            solved, on = solve(covariance, noise, residuals, counts[users]), inside.to(residuals.dtype)
            inverse = torch.cholesky_inverse(solved.factor) / solved.signal[:, None, None]
            inverse *= on[:, :, None] * on[:, None, :]
            solution = (inverse @ residuals[:, :, None])[:, :, 0]
            yield OwnFit(users, inside, known.items[own], known.vectors[own], inverse, solution)

    def _own(self, users: Tensor) -> tuple[Tensor, Tensor]:
        """The places of these users' kriged ratings among all, and a mask, False at padding; both [users, n]."""
        counts, kriged = self.observations.counts, self._counts[users]
        reach = torch.arange(int(kriged.max()), device=users.device)
        inside = reach < kriged[:, None]
        first = (torch.cumsum(counts, 0) - counts)[users][:, None]
        evenly = reach * counts[users][:, None] // kriged[:, None].clamp_min(1)
        return torch.where(inside, first + evenly, 0), inside

    def _own_system(
        self, own: Tensor, inside: Tensor, times: Tensor | None = None, kind: torch.dtype = torch.float64
    ) -> tuple[Tensor, Tensor, Tensor]:
        """K without noise [users, n, n], the noise [users, n] and the residuals [users, n] of each user.

        Users with fewer than n ratings are padded with ratings that carry no information.

        times: of the own ratings [users, n]; None leaves all times out.
        kind: the type of the numbers.
        """
        known = self.observations
        x, items = known.vectors[own], known.items[own]
        pair = None if times is None else (times, times)
        covariance = self.kernel.between(items, items, pair, kind)
        covariance.baddbmm_((x @ self.spread).to(kind), x.to(kind).transpose(1, 2))
        on = inside.to(kind)
        if not inside.all():
            covariance *= on[:, :, None] * on[:, None, :]
        # Infinite noise marks the padding. No level may scale it: else it would enter the evidence.
        noise = torch.where(inside, known.noise[own], torch.inf).to(kind)
        return covariance, noise, known.residuals[own].to(kind) * on

    def _system(
        self,
        users: Tensor,
        items: Tensor,
        vectors: Tensor,
        when: Tensor | None = None,
        kind: torch.dtype = torch.float64,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As `_own_system`, with K_q [users, m, n] before the residuals.

        when: the moments for which one asks [users, m]; None leaves all times out.
        """
        own, inside = self._own(users)
        given = None if when is None or self.observations.times is None else self.observations.times[own]
        covariance, noise, residuals = self._own_system(own, inside, given, kind)
        left = self.observations.vectors[own] @ self.spread
        pair = None if when is None or given is None else (when, given)
        cross = self.kernel.between(items, self.observations.items[own], pair, kind)
        cross.baddbmm_(vectors.to(kind), left.to(kind).transpose(1, 2))
        return covariance, noise, cross.mul_(inside.to(kind)[:, None, :]), residuals

    @property
    def _counts(self) -> Tensor:
        """The number of kriged ratings of each user, [users]."""
        return self.observations.counts.clamp_max(MOST_KRIGED)

    def _blocks(self, place: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Users with similar numbers of ratings, and the rows to predict for each [users, most rows], -1 at padding."""
        order = torch.argsort(place, stable=True)
        users, queries = torch.unique_consecutive(place[order], return_counts=True)
        first = torch.cumsum(queries, 0) - queries
        own = self._counts[users]
        by_size = torch.argsort(own, stable=True)
        begin = 0
        while begin < len(by_size):
            end, most_own, most_queries = begin, 0, 0
            while end < len(by_size):
                most_own = max(most_own, int(own[by_size[end]]))
                most_queries = max(most_queries, int(queries[by_size[end]]))
                smallest = max(int(own[by_size[begin]]), 1)
                size = (end - begin + 1) * max(most_own, 1) * (most_own + most_queries)
                if end > begin and (size > BLOCK or most_own > PADDING_RATIO * smallest + PADDING_ROWS):
                    break
                end += 1
            chosen = by_size[begin:end]
            reach = torch.arange(int(queries[chosen].max()), device=place.device)
            inside = reach < queries[chosen][:, None]
            rows = order[torch.where(inside, first[chosen][:, None] + reach, 0)]
            yield users[chosen], torch.where(inside, rows, -1)
            begin = end


def _influence(covariance: Tensor, noise: Tensor, cross: Tensor, residuals: Tensor) -> Influence:
    """The influence of one user's ratings, without padding; see Kriging.influence and hierfed.models.influence."""
    count, systems, evidence = len(noise), [], []
    for level in LEVELS:
        factor = torch.linalg.cholesky(covariance + torch.diag(level * noise))
        inverse, log_root = torch.cholesky_inverse(factor), factor.diagonal().log().sum()
        systems.append(LevelSystem(level, inverse, inverse @ residuals, log_root))
        fit = fit_of(level, residuals @ systems[-1].solution)
        evidence.append(log_evidence(level, count / 2, log_root, fit))
    shares, means = torch.stack(evidence).softmax(0), torch.stack([cross @ each.solution for each in systems])
    sets = sets_of(count, near_duplicates(systems[int(shares.argmax())].inverse))
    moved = []
    for some in sets:
        half, weights, without = (count - some.shape[1]) / 2, [], []
        for system, mean in zip(systems, means, strict=True):
            change, squares, log_determinant = system.changes(cross, some)
            fit = fit_of(system.level, residuals @ system.solution - squares)
            weights.append(log_evidence(system.level, half, system.log_root + log_determinant / 2, fit))
            without.append(mean[:, None] - change)
        left = (torch.stack(weights).softmax(0)[:, None] * torch.stack(without)).sum(0)
        moved.append((shares @ means)[:, None] - left)
    return Influence(padded(sets), torch.cat(moved, 1))

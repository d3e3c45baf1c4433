"""Kriging at the user: a Gaussian process on the user's own ratings, on top of a shared linear model (Matheron, 1963).

K = X S X' + k(i, j) + diag(noise),  prediction = prior + K_q K^-1 (y - prior)
    variance = k_q - K_q K^-1 K_q' + noise
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from hierfed.personal.kernel import ItemKernel

# Kernel values of users who share a block: 2 MB in float64, which stays in a core's cache.
BLOCK = 1 << 18
# Users share a block while the largest has at most this many times the ratings of the smallest, and some more.
PADDING_RATIO, PADDING_ROWS = 1.2, 8


@dataclass(frozen=True)
class Observations:
    """Users' own ratings, user after user, with all that a prediction needs of them; private.

    counts [users]: ratings of each. items, ratings [ratings]: the items' numbers, and the ratings in stars.
    vectors [ratings, t]: x_i. residuals [ratings]: the ratings minus their prior means. noise [ratings]: their
    variances, given all that is known of item and user.
    """

    counts: Tensor
    items: Tensor
    ratings: Tensor
    vectors: Tensor
    residuals: Tensor
    noise: Tensor


@dataclass(frozen=True)
class Kriging:
    """Predicts what deviates from the prior mean. spread: S [t, t], the prior covariance of the users' weights.

    noise_levels: factors on the noise and their prior probabilities. Each user's own evidence weighs them in the mean;
    the variance is that of the likeliest.
    """

    kernel: ItemKernel
    spread: Tensor
    observations: Observations
    noise_levels: tuple[tuple[float, float], ...] = ((1.0, 1.0),)
    threads: int = 1

    def predict(self, place: Tensor, items: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and variance [rows] of the deviation from the prior at items [rows] with x [rows, t], without noise.

        place [rows]: the user of each row, as a place among the observations' users. Third: the mean noise level.
        """
        mean, variance, level = (torch.zeros_like(vectors[:, 0]) for _ in range(3))

        def fill(users: Tensor, rows: Tensor) -> None:
            inside = rows >= 0
            item, x = items[rows.clamp_min(0)], vectors[rows.clamp_min(0)]
            covariance, noise, cross, residuals = self._system(users, item, x)
            prior = torch.einsum("umt,ts,ums->um", x, self.spread, x) + self.kernel.of_itself(item)
            weights, solution, factor = self._solve(covariance, noise, residuals)
            gained = torch.linalg.solve_triangular(factor, cross.transpose(1, 2), upper=False).square().sum(1)
            scales = noise.new_tensor([scale for scale, _ in self.noise_levels])
            mean[rows[inside]] = (cross @ solution[:, :, None])[:, :, 0][inside]
            variance[rows[inside]] = (prior - gained)[inside]
            level[rows[inside]] = (weights @ scales)[:, None].expand_as(gained)[inside]

        # Every block writes rows of its own, so the numbers do not depend on the threads. The largest come first, so
        # that no thread is left alone with one at the end.
        with ThreadPoolExecutor(self.threads) as pool:
            deque(
                pool.map(fill, *zip(*reversed(list(self._blocks(place))), strict=True)) if len(place) else (), maxlen=0
            )
        return mean, variance, level

    def _solve(self, covariance: Tensor, noise: Tensor, residuals: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Each noise level's weight [users, levels], the mean over these of K^-1 y [users, n], and the Cholesky factor
        of the likeliest K [users, n, n]."""
        inside = noise.isfinite()
        factors = [
            torch.linalg.cholesky(covariance + torch.diag_embed(torch.where(inside, noise * scale, 1.0)))
            for scale, _ in self.noise_levels
        ]
        solutions = [torch.cholesky_solve(residuals[:, :, None], factor)[:, :, 0] for factor in factors]
        evidence = torch.stack(
            [
                math.log(chance)
                - (residuals * solution).sum(1) / 2
                - torch.diagonal(factor, dim1=1, dim2=2).log().sum(1)
                for (_, chance), solution, factor in zip(self.noise_levels, solutions, factors, strict=True)
            ],
            1,
        )
        weights = torch.softmax(evidence, 1)
        if len(factors) == 1:
            return weights, solutions[0], factors[0]
        likeliest = weights.argmax(1)
        factor = torch.stack(factors)[likeliest, torch.arange(len(likeliest))]
        return weights, torch.einsum("ul,lun->un", weights, torch.stack(solutions)), factor

    def influence(self, place: int, items: Tensor, vectors: Tensor) -> Tensor:
        """How much each own rating of one user moved the mean at each item, [items, own ratings], at noise level 1.

        They add up to the mean where that is the only level.
        """
        here = torch.tensor([place], device=items.device)
        covariance, noise, cross, residuals = self._system(here, items[None], vectors[None])
        factor = torch.linalg.cholesky(covariance[0] + torch.diag(noise[0]))
        return cross[0] * torch.cholesky_solve(residuals[0, :, None], factor)[:, 0]

    def _system(self, users: Tensor, items: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of each user: K without noise [users, n, n], the noise [users, n], K_q [users, m, n], residuals [users, n].

        Users with fewer than n ratings are padded with ones that say nothing.
        """
        known, counts = self.observations, self.observations.counts[users]
        reach = torch.arange(int(counts.max()), device=users.device)
        inside = reach < counts[:, None]
        own = torch.where(inside, self._first(users)[:, None] + reach, 0)
        x, own_items, on = known.vectors[own], known.items[own], inside.to(vectors.dtype)
        left = x @ self.spread
        covariance = left @ x.transpose(1, 2) + self.kernel.between(own_items, own_items)
        covariance *= on[:, :, None] * on[:, None, :]
        # The padding is marked by infinite noise, which no level may scale: else it would enter their evidence.
        noise = torch.where(inside, known.noise[own], torch.inf)
        cross = vectors @ left.transpose(1, 2) + self.kernel.between(items, own_items)
        return covariance, noise, cross * on[:, None, :], known.residuals[own] * on

    def _first(self, users: Tensor) -> Tensor:
        counts = self.observations.counts
        return (torch.cumsum(counts, 0) - counts)[users]

    def _blocks(self, place: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Users with like numbers of ratings, and the rows to predict for each [users, most rows], -1 where padded."""
        order = torch.argsort(place, stable=True)
        users, queries = torch.unique_consecutive(place[order], return_counts=True)
        first = torch.cumsum(queries, 0) - queries
        own = self.observations.counts[users]
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

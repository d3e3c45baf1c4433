"""A prior for each user's own model, learned from three releases under user-level differential privacy.

Each user's ratings give a vector, which the node clips to a norm. Nodes add the vectors of their users and a share of
the noise, so that the sum carries the whole noise. The first release updates the parameters of the prior, the second
its mean, the third the biases of the items with most public votes. Everything else stays with the user.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from hierfed.data.content import Content
from hierfed.data.federation import Node
from hierfed.data.ratings import Ratings
from hierfed.errors import HierfedError
from hierfed.federated.checks import Check, Sent, counts, within
from hierfed.federated.contract import Contribution, SharedModel
from hierfed.federated.method import Method, Restorer, RivalErrors, RivalRows
from hierfed.federated.private import PrivateState
from hierfed.methods.local.personal import (
    PersonalLocal,
    PriorScales,
    PublicPrior,
    fit_local,
    public_prior,
    restore_local,
)
from hierfed.methods.local.rivals import ALONE, each_user_alone
from hierfed.methods.private_prior.prior_updates import (
    FACTOR,
    item_biases,
    mean_weights,
    next_scales,
    popularity_features,
)
from hierfed.models.scale import scale_of
from hierfed.privacy.clipping import clip_rows
from hierfed.privacy.discrete_gaussian import discrete_gaussian, grid_of, on_grid
from hierfed.private_randomness import PrivateStreams

# The prior at epsilon 0, written down before any rating was looked at.
FIRST_GUESS = PriorScales(
    vote_slope=0.45,
    bias=0.2,
    vote=0.02,
    scalar=0.01,
    genre=0.03,
    kernel=0.1,
    title=0.1,
    noise=0.62,
    vote_scale=0.4,
    votes_scale=0.4,
    year_scale=0.6,
    genre_scale=1.5,
)
# Most ratings of a user that enter a release. Clipping would remove what further ratings add.
MOST_RATINGS = 200
# Scale of the products relative to the targets, and of the weights relative to the sums, in a user's vector.
PRODUCTS_SHARE, WEIGHTS_SHARE = 0.35, 0.3
MOST_ITEMS = 3000
# Bounds of what a node can send: users on it, and standard deviations of its noise.
MOST_USERS, MOST_DEVIATIONS = 100_000_000, 10.0

Allow = Callable[[int], float]
"""Maps a round to the noise multiplier of its release. Raises if the budget is spent."""


@dataclass(frozen=True)
class Release:
    """One of the releases.

    clip_norm: the largest L2 norm of a user's vector.
    share: share of the budget's 1 / sigma^2.
    """

    name: str
    clip_norm: float
    share: float


RELEASES = (Release("scales", 3.0, 0.3), Release("mean", 3.0, 0.1), Release("biases", 6.0, 0.6))


@dataclass(frozen=True)
class PrivatePrior(Method):
    """A prior of users' own Gaussian processes, learned in one round per release of RELEASES.

        r_ui = m_i + x_i . (mu + w_u) + b_i + g_u(i) + e,  with the distributions of LocalOnly
        release = sum_u clip(v_u, clip_norm) + N(0, (multiplier clip_norm)^2),  v_u: the vector of user u's ratings

    The releases update the parameters of m_i, S, k and noise (PriorScales); then mu; then b_i.

    Source: the Gaussian mechanism with clipping per user, as in DP-FedAvg (McMahan et al., ICLR 2018,
    arXiv:1710.06963).

    limits: the lowest and the highest possible rating.
    noise_nodes: the least number of nodes that add their share of the noise to any sum.
    allow: called before a round's release; gives the noise multiplier.
    streams: the nodes' own noise streams; None at a server, which contributes nothing.
    """

    content: Content
    limits: tuple[float, float]
    noise_nodes: int
    allow: Allow
    streams: PrivateStreams | None
    threads: int = 1
    rival_name: ClassVar[str] = ALONE

    def start(self) -> SharedModel:
        """The first guess of the prior; see SumMethod."""
        items, weights = len(self.content), public_prior(self.content).vectors.shape[1]
        arrays = {"mean_weights": weights, "item_bias": items, "item_doubt": items}
        nothing = {name: torch.zeros(size, dtype=torch.float64) for name, size in arrays.items()}
        return SharedModel({"scales": _scales_array(FIRST_GUESS), **nothing})

    def contribute(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> Iterator[tuple[Contribution, None]]:
        """The sum of the users' clipped vectors plus a share of the noise, on a grid, and the count 1; see Method."""
        number = shared.round + 1
        release, share = self._release(number), self._share(number)
        grid, priors = grid_of(share), self._priors(shared, release)
        for node in nodes:
            if self.streams is None:
                raise HierfedError("a node under differential privacy needs a secret for its noise, and was given none")
            steps = self._told(priors, node.train.take(np.empty(0, np.int64)), release).sum(0).long()
            for rows in _by_user(_thinned(node.train)):
                steps += self._user_steps(priors, rows, release, grid)
            stream = self.streams.stream(number, node.number, f"noise: {release.name}")
            sent = steps.double() * grid
            sent = sent + discrete_gaussian(stream, share, grid, len(sent))
            yield Contribution({release.name: sent, "nodes": torch.ones(1, dtype=torch.float64)}), None

    def combine(self, shared: SharedModel, total: Contribution) -> SharedModel:
        """The prior with its new parameters, mean or biases; see Method."""
        number = shared.round + 1
        release, arrays = self._release(number), dict(shared.arrays)
        deviation = self._share(number) * math.sqrt(float(total.arrays["nodes"]))
        found = total.arrays[release.name]
        if release.name == "scales":
            arrays["scales"] = _scales_array(next_scales(_scales(shared), found, deviation))
        elif release.name == "mean":
            spread = torch.diagonal(self.prior(shared).spread)
            targets, packed = found[: len(spread)], found[len(spread) :] / PRODUCTS_SHARE
            arrays["mean_weights"] = spread.sqrt() * mean_weights(targets, _unpacked(packed, len(spread)), deviation)
        else:
            items = self.items
            sums, weights = found[: len(items)], found[len(items) :] / WEIGHTS_SHARE
            features = popularity_features(self.content, items)
            bias, doubt = item_biases(sums, weights, features, deviation, deviation / WEIGHTS_SHARE)
            place = torch.from_numpy(items)
            arrays["item_bias"] = torch.zeros_like(arrays["item_bias"]).index_copy(0, place, bias)
            arrays["item_doubt"] = torch.zeros_like(arrays["item_doubt"]).index_copy(0, place, doubt)
        return SharedModel(arrays, number)

    def checks(self, shared: SharedModel) -> Sequence[Check]:
        """The node's count, and bounds of their own for sums with noise, of which no number of users is told."""
        number = shared.round + 1
        release, share = self._release(number), self._share(number)

        def most(sent: Sent) -> Tensor:
            return sent["nodes"] * (MOST_USERS * release.clip_norm + MOST_DEVIATIONS * share)

        return counts("nodes"), within(release.name, most)

    def train_loss(self, total: Contribution) -> list[float]:
        """Empty, since the loss would be a release of its own; see Method."""
        return []

    def predict(self, shared: SharedModel, ratings: Ratings) -> Tensor:
        """Expected ratings under the prior; see Method."""
        mean = self.prior(shared).mean[torch.from_numpy(ratings.item).long()]
        return scale_of(self.limits).in_stars(mean).clamp(*self.limits)

    def restorer(self, shared: SharedModel) -> Restorer:
        """See Method."""
        prior = self.prior(shared)
        return lambda kept: restore_local(prior, kept, self.limits, self.threads)

    def rivals(self, rows: RivalRows) -> RivalErrors:
        """Each user alone; see Method."""
        return each_user_alone(self.content, self.limits, self.threads, rows)

    def personalise(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> list[PersonalLocal]:
        """Each user's Gaussian process under the shared prior; see Method."""
        prior = self.prior(shared)
        return [fit_local(prior, node.train, self.limits, self.threads) for node in nodes]

    def prior(self, shared: SharedModel) -> PublicPrior:
        """The prior of the users' own models."""
        arrays, public = shared.arrays, public_prior(self.content, _scales(shared))
        mean = public.mean + public.vectors @ arrays["mean_weights"] + arrays["item_bias"]
        return replace(public, mean=mean, doubt=arrays["item_doubt"])

    @property
    def items(self) -> np.ndarray:
        """The items whose biases are released: those with most public votes, at most MOST_ITEMS, int64 ascending."""
        return np.sort(np.argsort(-self.content.votes, kind="stable")[:MOST_ITEMS])

    def _release(self, number: int) -> Release:
        if not 0 < number <= len(RELEASES):
            raise HierfedError(f"round {number}: a private prior is learned in {len(RELEASES)} rounds")
        return RELEASES[number - 1]

    def _share(self, number: int) -> float:
        """The deviation of the noise that each node adds to a round's sum."""
        return self.allow(number) * self._release(number).clip_norm / math.sqrt(self.noise_nodes)

    def _priors(self, shared: SharedModel, release: Release) -> list[PublicPrior]:
        """The prior.

        For the release of its parameters: the prior, and then those with each parameter larger, and smaller.
        """
        if release.name != "scales":
            return [self.prior(shared)]
        now = _scales(shared)
        tried = [
            replace(now, **{field.name: getattr(now, field.name) * factor})
            for field in fields(now)
            for factor in (FACTOR, 1 / FACTOR)
        ]
        return [self.prior(SharedModel({**shared.arrays, "scales": _scales_array(each)})) for each in (now, *tried)]

    def _user_steps(self, priors: Sequence[PublicPrior], rows: Ratings, release: Release, grid: float) -> Tensor:
        """One user's clipped vector, in whole steps of the grid: int64 [numbers].

        Users are never computed side by side. Last digits would depend on the other users, and at the edge of a step
        another user's presence would change this user's vector.
        """
        clipped = clip_rows(self._told(priors, rows, release), release.clip_norm)
        return (on_grid(clipped, grid) / grid).long()[0]

    def _told(self, priors: Sequence[PublicPrior], train: Ratings, release: Release) -> Tensor:
        """Each user's vector before clipping: [users, numbers]."""
        if release.name == "scales":
            # The gain in the user's evidence as each parameter of the prior grows, and as it shrinks.
            begin, *tried = (fit_local(each, train, self.limits, 1).kriging.evidence() for each in priors)
            return torch.stack([evidence - begin for evidence in tried], 1)
        fitted = fit_local(priors[0], train, self.limits, 1)
        if release.name == "mean":
            return _products(fitted)
        return _own_biases(fitted, self.items, len(self.content))


def _products(fitted: PersonalLocal) -> Tensor:
    """W x' C^-1 y and, packed, W x' C^-1 x W of each user. W is the root of the weights' prior variances."""
    root = torch.diagonal(fitted.prior.spread).sqrt()
    row, column = torch.triu_indices(len(root), len(root))
    # So the packed norm equals that of the whole matrix, which holds each off-diagonal entry twice.
    scale = torch.where(row == column, 1.0, math.sqrt(2.0))
    told = torch.zeros(len(fitted.users), len(root) + len(row), dtype=torch.float64)
    for fit in fitted.kriging.own_fits():
        whitened = fit.vectors * root
        targets = torch.einsum("unt,un->ut", whitened, fit.solution)
        products = whitened.transpose(1, 2) @ fit.inverse @ whitened
        told[fit.users] = torch.cat([targets, PRODUCTS_SHARE * products[:, row, column] * scale], 1)
    return told


def _unpacked(packed: Tensor, size: int) -> Tensor:
    row, column = torch.triu_indices(size, size)
    values = packed / torch.where(row == column, 1.0, math.sqrt(2.0))
    matrix = packed.new_zeros(size, size)
    matrix[row, column] = matrix[column, row] = values
    return matrix


def _own_biases(fitted: PersonalLocal, items: np.ndarray, count: int) -> Tensor:
    """C^-1 y and the diagonal of C^-1 of each user, at the places of the items."""
    place = torch.full((count,), len(items))
    place[torch.from_numpy(items)] = torch.arange(len(items))
    told = torch.zeros(len(fitted.users), 2, len(items) + 1, dtype=torch.float64)
    for fit in fitted.kriging.own_fits():
        where = torch.where(fit.inside, place[fit.items], len(items))
        user = fit.users[:, None].expand_as(where)
        told[user, 0, where] = fit.solution
        told[user, 1, where] = WEIGHTS_SHARE * torch.diagonal(fit.inverse, dim1=1, dim2=2)
    return told[:, :, :-1].flatten(1)


def _by_user(train: Ratings) -> Iterator[Ratings]:
    """The ratings of one user after the other, from rows in the order of their users."""
    begins = np.unique(train.user, return_index=True)[1]
    for begin, end in itertools.pairwise([*begins.tolist(), len(train)]):
        yield train.take(np.arange(begin, end))


def _thinned(train: Ratings) -> Ratings:
    """At most MOST_RATINGS ratings of each user, spread evenly over the user's rows."""
    order = np.argsort(train.user, kind="stable")
    _, counts = np.unique(train.user, return_counts=True)
    turn = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    size = np.repeat(counts, counts)
    # A user's rows are cut into MOST_RATINGS parts, and the first rating of each part is kept.
    first = (turn * MOST_RATINGS // size) != ((turn - 1) * MOST_RATINGS // size)
    return train.take(order[first | (size <= MOST_RATINGS)])


def _scales_array(scales: PriorScales) -> Tensor:
    return torch.tensor(astuple(scales), dtype=torch.float64)


def _scales(shared: SharedModel) -> PriorScales:
    return PriorScales(*shared.arrays["scales"].tolist())

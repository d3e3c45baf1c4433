"""The truth behind generated ratings, and the best possible prediction from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from scipy.special import ndtr

from hierfed.generated.films import Films
from hierfed.randomness import generator

# Number of factors, and the ratio of each factor's standard deviation to that of the one before.
RANK, FACTOR_DECAY = 8, 0.7
# In latent stars: the mean, and standard deviations of user biases, of film biases beyond the content, and
# of all factors' part in a rating together, of which films' genres explain a share.
MEAN = 3.33
USER_SPREAD, FILM_SPREAD, FACTOR_SPREAD, GENRE_SHARE = 0.48, 0.43, 0.50, 0.5
# The precision of a user's noise is Gamma with this shape; noise is the standard deviation at the mean precision.
NOISE, NOISE_SHAPE = 0.64, 3.5
# A rating is half a star, plus half a star for each cut below its latent value. Users who rate in half
# stars still prefer whole ones; users who began before half stars existed rate in whole stars only.
HALF_STARS = (1.20, 1.65, 1.90, 2.30, 2.60, 3.15, 3.60, 4.35, 4.90)
WHOLE_STARS = (-np.inf, 1.70, 1.70, 2.35, 2.35, 3.30, 3.30, 4.35, 4.35)
# Where users are of several kinds: the shares of users of each, and the standard deviation of their factors' part in a
# rating. A kind's strengths are those of the kind before it, moved on by so many factors; they decay faster than those
# of a world of one kind, but reach all factors, so that kinds overlap. Of the square of a kind's tastes, its mean is a
# share.
KIND_SHARES, KIND_SPREAD, KIND_STEP, KIND_DECAY, KIND_MEAN_SHARE = (0.6, 0.3, 0.1), 0.8, 3, 0.5, 0.5
# Drift counts from the first year of ratings.
SECONDS_A_YEAR, DRIFTS_SINCE = 365.25 * 86400, 1995.0
# What a truth need not have.
OPTIONAL = ("drift", "kind")


@dataclass(frozen=True)
class Drift:
    """The truth's turn with time: each bias and factor is v cos(a) + w sin(a), a = rate x years since 1995.

    So its spread stays as it is, and what was true is forgotten at a known rate.

    rate: radians a year, float64 [1].
    later_user_bias, later_user_factors, later_item_bias, later_item_factors: w, distributed as v and of its shapes.
    own_item_bias [items]: the part of films' biases beyond the content, which alone turns.
    """

    rate: np.ndarray
    later_user_bias: np.ndarray
    later_user_factors: np.ndarray
    own_item_bias: np.ndarray
    later_item_bias: np.ndarray
    later_item_factors: np.ndarray

    def angle(self, time: np.ndarray) -> np.ndarray:
        """The angle at these times, in seconds since 1970: float64 [times]."""
        years = time / SECONDS_A_YEAR + 1970 - DRIFTS_SINCE
        angle: np.ndarray = self.rate * years
        return angle


@dataclass(frozen=True)
class Truth:
    """The latent value mean + b_u + b_i + p_u . q_i + noise_u e, with e standard normal, cut to half or whole stars.

    mean: float64 [1].
    user_bias, user_noise: float64 [users].
    user_factors: p, float64 [users, RANK].
    whole_stars: bool [users], True for users who rate in whole stars.
    item_bias: float64 [items].
    item_factors: q, float64 [items, RANK].
    cuts: of users who rate in half stars, and of those who rate in whole stars, float64 [2, 9].
    drift: how all that turns with time; None where nothing does.
    kind: of each user, int64 [users]; None where all users are of one kind. No prediction from the truth needs it.
    """

    mean: np.ndarray
    user_bias: np.ndarray
    user_noise: np.ndarray
    user_factors: np.ndarray
    whole_stars: np.ndarray
    item_bias: np.ndarray
    item_factors: np.ndarray
    cuts: np.ndarray
    drift: Drift | None = None
    kind: np.ndarray | None = None

    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays by name, those of the drift too."""
        own = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in OPTIONAL}
        kind = {} if self.kind is None else {"kind": self.kind}
        return own | kind | ({} if self.drift is None else vars(self.drift))

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> Truth:
        """The truth among these arrays."""
        own = {field.name: arrays[field.name] for field in fields(cls) if field.name not in OPTIONAL}
        drift = Drift(**{field.name: arrays[field.name] for field in fields(Drift)}) if "rate" in arrays else None
        return cls(**own, drift=drift, kind=arrays.get("kind"))

    def latent_mean(self, user: np.ndarray, item: np.ndarray, time: np.ndarray | None = None) -> np.ndarray:
        """The latent value without noise of each pair, float64 [pairs]; time: in seconds since 1970, for a drift."""
        tastes, films = self.user_factors[user], self.item_factors[item]
        biases = self.user_bias[user] + self.item_bias[item]
        if self.drift is not None:
            if time is None:
                raise ValueError("a truth that drifts is asked at a time")
            drift, angle = self.drift, self.drift.angle(time)
            now, later = np.cos(angle), np.sin(angle)
            tastes = tastes * now[:, None] + drift.later_user_factors[user] * later[:, None]
            films = films * now[:, None] + drift.later_item_factors[item] * later[:, None]
            biases += (now - 1) * (self.user_bias[user] + drift.own_item_bias[item])
            biases += later * (drift.later_user_bias[user] + drift.later_item_bias[item])
        latent: np.ndarray = self.mean + biases + np.einsum("nr,nr->n", tastes, films)
        return latent

    def ratings(
        self, user: np.ndarray, item: np.ndarray, chance: np.ndarray, time: np.ndarray | None = None
    ) -> np.ndarray:
        """Ratings, float32 [pairs].

        chance: standard normal, [pairs]. time: as in latent_mean.
        """
        latent = self.latent_mean(user, item, time) + self.user_noise[user] * chance
        above = np.zeros(len(latent), dtype=np.float32)
        for cut in self._cuts(user):
            above += latent > cut
        return np.float32(0.5) + above / 2

    def prediction(
        self, user: np.ndarray, item: np.ndarray, time: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of each pair's rating given the truth, float64 [pairs]; time: as in latent_mean.

        The mean is the Bayes predictor under squared error, cuts included. The root of the variances' mean is the noise
        floor: the least RMSE that any predictor can be expected to reach.
        """
        latent, noise = self.latent_mean(user, item, time), self.user_noise[user]
        # For r = .5 + k / 2: E r = .5 + sum P(k >= j) / 2, and E (r - .5)^2 = sum P(k >= j) (j^2 - (j - 1)^2) / 4.
        mean, square = np.zeros(len(latent)), np.zeros(len(latent))
        for number, cut in enumerate(self._cuts(user), start=1):
            chance = ndtr((latent - cut) / noise)
            mean += chance / 2
            square += chance * (2 * number - 1) / 4
        return 0.5 + mean, square - mean**2

    def _cuts(self, user: np.ndarray) -> np.ndarray:
        """The cuts of each pair's user: [9, pairs]."""
        pairs: np.ndarray = self.cuts[self.whole_stars[user].astype(np.int64)].T
        return pairs


def draw_truth(seed: int, films: Films, whole_stars: np.ndarray, drift: float = 0.0, kinds: int = 1) -> Truth:
    """Draw a truth for these films and users.

    whole_stars: True for users who rate in whole stars, [users]. drift: radians a year; what is drawn without is the
    same.
    kinds: of users, 1 to 3, the largest first. All but the users' factors is the same for any number.
    """
    users, items = len(whole_stars), len(films.year)
    of_users, of_items = (generator(seed, 0, 0, f"generated {what}") for what in ("users", "films"))
    centred = films.genres - films.genres.mean(0)
    genre_factors = centred @ of_items.standard_normal((centred.shape[1], RANK))
    own_factors = of_items.standard_normal((items, RANK))
    told = genre_factors / np.sqrt(np.mean(genre_factors**2))
    factors = np.sqrt(GENRE_SHARE) * told + np.sqrt(1 - GENRE_SHARE) * own_factors
    strengths = _strengths(FACTOR_DECAY, FACTOR_SPREAD)
    precision = of_users.gamma(NOISE_SHAPE, 1 / NOISE_SHAPE, users)
    own_bias: np.ndarray
    user_bias, user_factors = USER_SPREAD * of_users.standard_normal(users), of_users.standard_normal((users, RANK))
    own_bias = FILM_SPREAD * of_items.standard_normal(items)
    kind = None if kinds == 1 else _draw_kinds(seed, users, kinds)
    tastes = strengths * user_factors if kind is None else _tastes_of_kinds(kind, user_factors)
    return Truth(
        mean=np.array([MEAN]),
        user_bias=user_bias,
        user_noise=NOISE / np.sqrt(precision),
        user_factors=tastes,
        whole_stars=whole_stars,
        item_bias=films.quality() + own_bias,
        item_factors=factors,
        cuts=np.array([HALF_STARS, WHOLE_STARS]),
        drift=_draw_drift(seed, drift, users, own_bias, strengths) if drift else None,
        kind=kind,
    )


def _draw_kinds(seed: int, users: int, kinds: int) -> np.ndarray:
    """The kind of each user, in numbers as near to KIND_SHARES as can be: int64 [users]."""
    ends = np.round(np.cumsum(KIND_SHARES[:kinds]) / sum(KIND_SHARES[:kinds]) * users)
    kind: np.ndarray = np.searchsorted(ends, np.arange(users), side="right").astype(np.int64)
    return generator(seed, 0, 0, "generated kinds").permutation(kind)


def _strengths(decay: float, spread: float) -> np.ndarray:
    """The standard deviation of each factor of users, [RANK], of which each is so many times the one before."""
    strengths = decay ** np.arange(RANK)
    scaled: np.ndarray = strengths * (spread / np.sqrt(np.sum(strengths**2)))
    return scaled


def _tastes_of_kinds(kind: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """The factors of users of these kinds, float64 [users, RANK]; chance: standard normal, [users, RANK].

    A kind's mean lies along its strengths, with signs that take turns.
    """
    strengths = _strengths(KIND_DECAY, KIND_SPREAD)
    of_kinds = np.stack([np.roll(strengths, KIND_STEP * number) for number in range(len(KIND_SHARES))])
    signs = np.where(np.arange(RANK) % 2, -1.0, 1.0)
    tastes: np.ndarray = of_kinds[kind] * (np.sqrt(KIND_MEAN_SHARE) * signs + np.sqrt(1 - KIND_MEAN_SHARE) * chance)
    return tastes


def _draw_drift(seed: int, rate: float, users: int, own_bias: np.ndarray, strengths: np.ndarray) -> Drift:
    of_users, of_items = (generator(seed, 0, 0, f"generated later {what}") for what in ("users", "films"))
    return Drift(
        rate=np.array([rate]),
        later_user_bias=USER_SPREAD * of_users.standard_normal(users),
        later_user_factors=strengths * of_users.standard_normal((users, RANK)),
        own_item_bias=own_bias,
        later_item_bias=FILM_SPREAD * of_items.standard_normal(len(own_bias)),
        later_item_factors=of_items.standard_normal((len(own_bias), RANK)),
    )

"""The presets as estimators: hyperparameters as they were given, `fit`, `predict`, and learned attributes with `_`."""

from __future__ import annotations

import inspect
from typing import Any, Self, cast

import numpy as np
import polars as pl

from hierfed.errors import HierfedError
from hierfed.fitting import fit
from hierfed.serving.answers import Answer
from hierfed.serving.item_index import Id
from hierfed.serving.levels import Level
from hierfed.serving.recommender import Recommender


class Estimator:
    """The preset of the class's name as an estimator. It keeps its parameters as they were given; None: the preset's.

    model_: what `fit` learned, see hierfed.Recommender. n_users_, n_items_: numbers of users and items.
    """

    model_: Recommender
    n_users_: int
    n_items_: int

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The hyperparameters by name, as they were given; deep: without effect, as other estimators have it."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self, **params: Any) -> Self:
        """Change hyperparameters; raises HierfedError for one that there is not."""
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                raise HierfedError(f"no parameter '{name}' of {type(self).__name__}: it has {', '.join(known)}")
            setattr(self, name, value)
        return self

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn from ratings; X: as in hierfed.fit. y: not used, since X holds the ratings."""
        given = {name: value for name, value in self.get_params().items() if value is not None}
        self.model_ = fit(X, type(self).__name__.lower(), **given)
        self.n_users_, self.n_items_ = len(self.model_.users), len(self.model_.items)
        return self

    def partial_fit(self, X: Any, y: Any = None, *, level: Level = "rounds") -> Self:
        """Learn from more ratings: the first time as `fit`, then as hierfed.Recommender.update does at this level."""
        if not hasattr(self, "model_"):
            return self.fit(X)
        self.model_.update(X, level)
        self.n_users_, self.n_items_ = len(self.model_.users), len(self.model_.items)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Expected ratings of rows with a user and an item, float64 [rows]."""
        return cast("np.ndarray", self._fitted().predict(X)["rating"].to_numpy())

    def recommend(self, user: Id, k: int = 10) -> Answer:
        """The best items for a user; see hierfed.Recommender."""
        return self._fitted().recommend(user, k=k)

    def recommend_all(self, k: int = 10) -> pl.DataFrame:
        """The lists of all users; see hierfed.Recommender."""
        return self._fitted().recommend_all(k).collect()

    def _fitted(self) -> Recommender:
        if not hasattr(self, "model_"):
            raise HierfedError(f"{type(self).__name__} has learned nothing yet: call fit(ratings) first")
        return self.model_

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.get_params().items() if value is not None)
        return f"{type(self).__name__}({given})"


class Hierarchical(Estimator):
    """Hierarchical Bayesian factors as an estimator; see the preset `hierarchical`.

    rank: factors of an item. rounds: of the federation. nodes: that hold the users. min_raters: items with fewer are
    never summed. seed: of all randomness. protocol: what is held out to judge the training. select: whether
    hyperparameters are chosen on validation rows. rank_items: whether the ranking models are trained too.

    >>> import hierfed
    >>> estimator = hierfed.Hierarchical(rank=8, rounds=5, select=False).fit(ratings)
    >>> estimator.predict(ratings.head(2)).shape
    (2,)
    """

    def __init__(
        self,
        rank: int | None = None,
        *,
        rounds: int | None = None,
        nodes: int | None = None,
        min_raters: int | None = None,
        seed: int | None = None,
        protocol: str | None = "warm",
        select: bool | None = None,
        rank_items: bool | None = None,
    ):
        self.rank, self.rounds, self.nodes, self.min_raters = rank, rounds, nodes, min_raters
        self.seed, self.protocol, self.select, self.rank_items = seed, protocol, select, rank_items


class Local(Estimator):
    """Each user's own Gaussian process as an estimator, which sends nothing; see the preset `local`.

    seed: of all randomness. protocol: what is held out to judge the models.

    >>> hierfed.Local().fit(ratings).recommend("12", k=3).items[0].rank
    1
    """

    def __init__(self, *, seed: int | None = None, protocol: str | None = "warm"):
        self.seed, self.protocol = seed, protocol

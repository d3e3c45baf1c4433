"""A node's own mixture of experts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from hierfed.data.ratings import Ratings
from hierfed.federated.private import PersonalModel
from hierfed.methods.averaging.network import Predictor, last_hidden, rate
from hierfed.methods.averaging.user_level import UserHeads
from hierfed.models.places import numbers_of
from hierfed.models.scale import RatingScale


@dataclass(frozen=True)
class PersonalMixture(PersonalModel):
    """Experts [experts, parameters], their shares [experts] in the node's ratings, users' heads, and their ratings."""

    predictor: Predictor
    features: Tensor
    experts: Tensor
    shares: Tensor
    scale: RatingScale
    own: Ratings
    heads: UserHeads | None = None

    @property
    def leading(self) -> Tensor:
        """The parameters of the expert that weighs most."""
        return self.experts[int(self.shares.argmax())]

    def predict(self, rows: Ratings) -> Tensor:
        """The experts' mean by their shares, plus the user's head; see PersonalModel."""
        user, item = numbers_of(rows)
        each = torch.stack([rate(self.predictor, expert, self.features, item) for expert in self.experts])
        prediction = self.scale.in_stars((self.shares[:, None] * each).sum(0))
        if self.heads is None:
            return prediction
        return prediction + self.heads.adjust(user, last_hidden(self.predictor, self.leading, self.features, item))

    @property
    def finite(self) -> bool:
        """See PersonalModel."""
        return bool(self.experts.isfinite().all())

    def tensors(self) -> Iterator[tuple[int | None, dict[str, Tensor]]]:
        """The node's experts and shares; then each user's ratings and head. See PersonalModel."""
        yield None, {"experts": self.experts.contiguous(), "shares": self.shares.contiguous()}
        order = np.argsort(self.own.user, kind="stable")
        users, counts = np.unique(self.own.user, return_counts=True)
        for place, (user, rows) in enumerate(zip(users.tolist(), np.split(order, counts.cumsum()[:-1]), strict=True)):
            own = self.own.take(rows)
            kept = {"items": torch.from_numpy(own.item).long(), "ratings": torch.from_numpy(own.value).double()}
            if self.heads is not None:
                kept |= {"user_bias": self.heads.bias[place : place + 1].clone()}
                kept |= {"user_weights": self.heads.weights[place].clone()}
            yield user, kept


def restored_mixture(newcomer: PersonalMixture, kept: Mapping[str, Tensor]) -> PersonalMixture:
    """The model of one user, number 0, from the tensors of PersonalMixture; a newcomer's from none."""
    if not kept:
        return newcomer
    heads = None
    if "user_bias" in kept:
        heads = UserHeads(torch.zeros(1, dtype=torch.int64), kept["user_bias"], kept["user_weights"][None])
    items, stars = kept["items"].numpy(), kept["ratings"].numpy()
    own = Ratings(np.zeros(len(items), np.int32), items, stars)
    return replace(newcomer, experts=kept["experts"], shares=kept["shares"], own=own, heads=heads)

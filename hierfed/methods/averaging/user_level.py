"""Personalisation of a user: a private bias, and a private linear head on the network's last hidden layer.

Both have closed forms on the user's own ratings, so nothing is trained by gradient and nothing leaves the user.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from hierfed.data.ratings import Ratings
from hierfed.errors import HierfedError
from hierfed.federated.private import PersonalModel, PrivateState
from hierfed.methods.averaging.user_kriging import UserKriging
from hierfed.models.places import places_among

UserLevel = Literal["none", "bias", "ridge_head", "kriging"]
CHUNK_VALUES = 2**22


@dataclass(frozen=True)
class UserPersonalisation:
    """The personalisation of each user.

    how: `none`; `bias`, the user's mean residual, shrunk to 0 as if by `bias_shrinkage` further ratings of residual 0;
    `ridge_head`, the bias and then ridge weights on the last hidden layer with penalty `head_penalty`; `kriging`, a
    Gaussian process of the user's residuals; see methods.averaging.user_kriging.
    kriging: what these processes share; None for the others. Raises ValueError where it does not go with `how`.
    """

    how: UserLevel
    bias_shrinkage: float
    head_penalty: float
    kriging: UserKriging | None = None

    def __post_init__(self) -> None:
        if (self.how == "kriging") != (self.kriging is not None):
            raise ValueError(f"user level '{self.how}': the shared part of users' processes is for `kriging` alone")

    @property
    def heads(self) -> bool:
        """True where each user has a head of its own."""
        return self.how in ("bias", "ridge_head")

    def completed(self, network: PersonalModel, own: Ratings) -> PersonalModel:
        """The node's own network, with its users' processes if they have any. own: the users' ratings."""
        return network if self.kriging is None else self.kriging.on_top(network, own)


@dataclass(frozen=True)
class UserHeads(PrivateState):
    """The private parameters of a node's users.

    users: int64 [users], sorted.
    bias: float64 [users].
    weights: float64 [users, units], zero if only a bias is kept.

    A user without ratings here has bias and weights 0.
    """

    users: Tensor
    bias: Tensor
    weights: Tensor

    def adjust(self, user: Tensor, hidden: Tensor) -> Tensor:
        """The additions to the node's predictions, float64 [rows].

        user: [rows].
        hidden: the last hidden layer, [rows, units].
        """
        if len(self.users) == 0:
            return torch.zeros(len(user), dtype=torch.float64)
        place, known = places_among(self.users, user)
        return torch.where(known, self.bias[place] + (self.weights[place] * hidden).sum(1), 0.0)


def fit_user_heads(ratings: Ratings, prediction: Tensor, hidden: Tensor, settings: UserPersonalisation) -> UserHeads:
    """Fit every user's head on the node's train rows.

    With r the residuals of a user's n rows and H their hidden layer: bias = sum(r) / (n + bias_shrinkage), weights =
    (H'H + head_penalty I)^-1 H'(r - bias).

    prediction: the node model's ratings of the rows, float64 [rows].
    hidden: its last hidden layer, float64 [rows, units].
    Raises HierfedError if these equations have no solution because the hidden units are huge.
    """
    users, member = np.unique(ratings.user.astype(np.int64), return_inverse=True)
    row_user = torch.from_numpy(member.astype(np.int64))
    residual = torch.from_numpy(ratings.value).double() - prediction
    counts = torch.bincount(row_user, minlength=len(users)).double()
    sums = torch.zeros(len(users), dtype=torch.float64).index_add_(0, row_user, residual)
    bias = sums / (counts + settings.bias_shrinkage)
    units = hidden.shape[1]
    weights = torch.zeros(len(users), units, dtype=torch.float64)
    if settings.how == "ridge_head":
        moments = torch.eye(units, dtype=torch.float64).mul(settings.head_penalty).repeat(len(users), 1, 1)
        targets = hidden * (residual - bias[row_user])[:, None]
        for rows in torch.split(torch.arange(len(residual)), max(1, CHUNK_VALUES // units**2)):
            outer = hidden[rows, :, None] * hidden[rows, None, :]
            moments.index_add_(0, row_user[rows], outer)
        products = torch.zeros(len(users), units, dtype=torch.float64).index_add_(0, row_user, targets)
        try:
            weights = torch.linalg.solve(moments, products)
        # torch's LinAlgError is a subclass of RuntimeError that torch.linalg does not export.
        except RuntimeError as error:
            raise HierfedError(
                "personalisation diverged: the network's hidden units are too large for users' heads: lower "
                "training.learning_rate"
            ) from error
    return UserHeads(torch.from_numpy(users), bias, weights)

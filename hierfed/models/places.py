"""The numbers of users and items as tensors, and the places of users among those that a node knows."""

from __future__ import annotations

import torch
from torch import Tensor

from hierfed.data.ratings import Ratings


def numbers_of(rows: Ratings) -> tuple[Tensor, Tensor]:
    """The user and the item of each row, int64 [rows]."""
    return torch.from_numpy(rows.user).long(), torch.from_numpy(rows.item).long()


def places_among(users: Tensor, asked: Tensor) -> tuple[Tensor, Tensor]:
    """The place of each asked user among `users`, and True if the user is there; else the place means nothing.

    Both [asked].

    users, asked: int64, numbers of users; `users` ascend.
    """
    if len(users) == 0:
        return torch.zeros_like(asked), torch.zeros_like(asked, dtype=torch.bool)
    place = torch.searchsorted(users, asked).clamp_max(len(users) - 1)
    return place, users[place] == asked

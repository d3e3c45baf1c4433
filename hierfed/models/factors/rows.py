"""A node's ratings, arranged once so that every round is products of whole blocks and no loop over ratings."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# Users share a padded block while the largest has at most this many times the ratings of the smallest, or this many
# more: so padding stays small for the busy and blocks stay few for the rest.
PADDING_RATIO = 1.15
PADDING_ROWS = 8


@dataclass(frozen=True)
class UserBlock:
    """Users with like numbers of ratings. users: their places [users]; items: the places of their items
    [users, most ratings], padded with the number of items; content: (1, f_i)' of these, zero where padded."""

    users: Tensor
    items: Tensor
    content: Tensor


@dataclass(frozen=True)
class UserRows:
    """The ratings of some users as sparse matrices and padded blocks, and the sums that no round changes.

    users [users], items [items]: the numbers of those that occur, ascending; their places are what all else speaks of,
    but for sums that are sent. counts [users]: ratings of each. rated, ratings: CSR [users, items], ones and the
    ratings. raters, ratings_of: CSR [shared items, users], the same of all shared items, ascending, whether or not they
    occur. blocks: the users by number of ratings. scatter: CSR [shared items, padded ratings], which sums padded
    ratings by shared item. content_products [users, 1 + slopes, 1 + slopes]: sums of (1, f_i)(1, f_i)'. rating_content
    [users, 1 + slopes] and rating_squares [users]: sums of y (1, f_i) and of y^2.
    """

    users: Tensor
    items: Tensor
    counts: Tensor
    rated: Tensor
    ratings: Tensor
    raters: Tensor
    ratings_of: Tensor
    blocks: tuple[UserBlock, ...]
    scatter: Tensor
    content_products: Tensor
    rating_content: Tensor
    rating_squares: Tensor

    def cross(self, table: Tensor) -> Tensor:
        """Each user's sum over items of t_i (1, f_i)', [users, columns, 1 + slopes], from a table [items, columns]."""
        padded = torch.cat([table, table.new_zeros(1, table.shape[1])])
        sums = table.new_zeros(len(self.users), table.shape[1], self.content_products.shape[-1])
        for block in self.blocks:
            sums[block.users] = torch.bmm(padded[block.items].transpose(1, 2), block.content)
        return sums

    def back_cross(self, weights: Tensor) -> Tensor:
        """Each shared item's sum over its users of W_u' (1, f_i), [shared items, columns].

        weights: [users, 1 + slopes, columns].
        """
        values = weights.new_empty(self.scatter.shape[1], weights.shape[-1])
        begin = 0
        for block in self.blocks:
            end = begin + block.items.numel()
            torch.bmm(block.content, weights[block.users], out=values[begin:end].view(*block.items.shape, -1))
            begin = end
        return self.scatter @ values


def arrange(user: np.ndarray, item: np.ndarray, value: Tensor, slopes: Tensor, shared: Tensor) -> UserRows:
    """Arrange rows: user, item int [rows]; value float64 [rows].

    slopes [all items, slopes]: f_i. shared [all items]: 1 where an item's sums are sent, else 0; both float64.
    """
    device = slopes.device
    users, user_place = np.unique(user, return_inverse=True)
    items, item_place = np.unique(item, return_inverse=True)
    counts = np.bincount(user_place, minlength=len(users))
    by_user = np.argsort(user_place, kind="stable")
    rows, columns = (torch.from_numpy(place[by_user]).to(device) for place in (user_place, item_place))
    value = value.to(device)[torch.from_numpy(by_user).to(device)]
    numbers = torch.from_numpy(items).long().to(device)
    content = torch.cat([slopes.new_ones(len(items), 1), slopes[numbers]], 1)
    padded_content = torch.cat([content, content.new_zeros(1, content.shape[1])])
    shape = (len(users), len(items))
    ratings = compressed(rows, columns, value, shape)
    blocks = tuple(
        UserBlock(torch.from_numpy(chosen).to(device), places, padded_content[places])
        for chosen, places in _blocks(counts, columns, len(items))
    )
    products = content.new_zeros(len(users), content.shape[1], content.shape[1])
    for block in blocks:
        products[block.users] = torch.bmm(block.content.transpose(1, 2), block.content)
    ones = torch.ones_like(value)
    summed = int(shared.sum())
    # The place of each own item among the shared ones; what is not shared, and padding, is behind the last of these.
    place = torch.where(shared > 0, shared.cumsum(0) - 1, summed).long()[numbers]
    place = torch.cat([place, place.new_tensor([summed])])
    sent = place[columns] < summed
    sent_rows, sent_columns = place[columns[sent]], rows[sent]
    return UserRows(
        users=torch.from_numpy(users).long().to(device),
        items=numbers,
        counts=torch.from_numpy(counts).double().to(device),
        rated=compressed(rows, columns, ones, shape),
        ratings=ratings,
        raters=compressed(sent_rows, sent_columns, ones[sent], (summed, len(users))),
        ratings_of=compressed(sent_rows, sent_columns, value[sent], (summed, len(users))),
        blocks=blocks,
        scatter=_scatter([place[block.items].flatten() for block in blocks], summed, slopes),
        content_products=products,
        rating_content=ratings @ content,
        rating_squares=value.new_zeros(len(users)).index_add_(0, rows, value * value),
    )


def compressed(rows: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """A sparse matrix in CSR from coordinates without repeats."""
    order = torch.argsort(rows * shape[1] + columns)
    ends = torch.cumsum(torch.bincount(rows, minlength=shape[0]), 0)
    pointers = torch.cat([ends.new_zeros(1), ends])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(pointers, columns[order], values[order], shape, check_invariants=False)


def _blocks(counts: np.ndarray, columns: Tensor, padding: int) -> Iterator[tuple[np.ndarray, Tensor]]:
    """The places of the users of each block, and their items; columns: the items of all users, user after user."""
    order = np.argsort(counts, kind="stable")
    sizes = counts[order]
    first = np.cumsum(counts) - counts
    begin = 0
    while begin < len(order):
        most = max(sizes[begin] * PADDING_RATIO, sizes[begin] + PADDING_ROWS)
        end = int(np.searchsorted(sizes, most, side="right"))
        chosen = order[begin:end]
        reach = torch.arange(int(sizes[end - 1]), device=columns.device)
        starts, lengths = (torch.from_numpy(each[chosen]).to(columns.device)[:, None] for each in (first, counts))
        inside = reach < lengths
        yield chosen, torch.where(inside, columns[torch.where(inside, starts + reach, 0)], padding)
        begin = end


def _scatter(items: list[Tensor], count: int, like: Tensor) -> Tensor:
    rows = torch.cat(items) if items else torch.empty(0, dtype=torch.int64, device=like.device)
    kept = torch.nonzero(rows < count)[:, 0]
    return compressed(rows[kept], kept, like.new_ones(len(kept)), (count, len(rows)))

"""Users' ratings, arranged once so that every round multiplies whole blocks and loops over no single rating."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hierfed.models.symmetric import pack

# Users share a padded block if the largest has at most this many times the ratings of the smallest, or this many
# more. So padding stays small for users with many ratings, and blocks stay few for the others.
PADDING_RATIO = 1.15
PADDING_ROWS = 8
# Most ratings of a block, padding included, unless one user has more. A core's cache holds their items' vectors.
BLOCK_ROWS = 4096


@dataclass(frozen=True)
class UserBlock:
    """Users with similar numbers of ratings.

    users: their places, [users].
    items: int32 [users, most ratings], padded with the number of all items.
    """

    users: Tensor
    items: Tensor

    def to(self, device: torch.device) -> UserBlock:
        """The same on a device."""
        return UserBlock(self.users.to(device), self.items.to(device))


@dataclass(frozen=True)
class UserRows:
    """The ratings of some users as sparse matrices and padded blocks, and the sums that no round changes.

    counts [users]: ratings of each user.
    rated, ratings: CSR [users, all items], of ones and of the ratings.
    sent [own items]: the places, among all shared items, of the items that these users have rated.
    raters, ratings_of: CSR [own items, users], of ones and of the ratings.
    blocks: the users by number of ratings.
    scatter: CSR [own items, padded ratings], which sums padded ratings by item.
    content_products [users, packed 1 + slopes]: sums of (1, f_i)(1, f_i)'.
    rating_content [users, 1 + slopes] and rating_squares [users]: sums of y (1, f_i) and of y^2.
    """

    counts: Tensor
    rated: Tensor
    ratings: Tensor
    sent: Tensor
    raters: Tensor
    ratings_of: Tensor
    blocks: tuple[UserBlock, ...]
    scatter: Tensor
    content_products: Tensor
    rating_content: Tensor
    rating_squares: Tensor

    def to(self, device: torch.device) -> UserRows:
        """The same on a device."""
        tensors = {name: tensor.to(device) for name, tensor in vars(self).items() if name != "blocks"}
        return UserRows(**tensors, blocks=tuple(block.to(device) for block in self.blocks))

    def cross(self, vectors: Tensor, columns: int) -> Tensor:
        """Each user's sum over items of v_i[:columns] v_i[columns:]', [users, columns, others].

        vectors: v_i of all items and a last row of zeros, [all items + 1, columns + others].
        """
        sums = vectors.new_empty(len(self.counts), columns, vectors.shape[1] - columns)
        for block in self.blocks:
            gathered = _gather(vectors, block)
            sums[block.users] = torch.bmm(gathered[:, :, :columns].transpose(1, 2), gathered[:, :, columns:])
        return sums

    def back_cross(self, content: Tensor, weights: Tensor) -> Tensor:
        """Each own item's sum over its users of W_u' (1, f_i), [own items, columns].

        content: (1, f_i) of all items and a last row of zeros.
        weights: W_u, [users, 1 + slopes, columns].
        """
        values = weights.new_empty(self.scatter.shape[1], weights.shape[-1])
        begin = 0
        for block in self.blocks:
            end = begin + block.items.numel()
            out = values[begin:end].view(*block.items.shape, -1)
            torch.bmm(_gather(content, block), weights[block.users], out=out)
            begin = end
        return self.scatter @ values


def arrange(user: np.ndarray, item: np.ndarray, value: Tensor, content: Tensor, shared: Tensor) -> UserRows:
    """Arrange rows for the rounds.

    user, item: int [rows], with each user's rows side by side.
    value: float64 [rows].
    content: (1, f_i) of all items and a last row of zeros, float64 [all items + 1, 1 + slopes].
    shared: float64 [all items], 1 if an item's sums are sent, else 0.
    """
    device, items = content.device, len(shared)
    starts = np.concatenate([[0], np.flatnonzero(user[1:] != user[:-1]) + 1])[: len(user)]
    counts = np.diff(starts, append=len(user))
    offsets = torch.from_numpy(np.append(starts, len(user))).int().to(device)
    columns = torch.from_numpy(item).int().to(device)
    ones = value.new_ones(len(value))
    ratings = csr(offsets, columns, value, (len(counts), items))
    blocks = tuple(_blocks(starts, counts, columns, items))
    products = content.new_empty(len(counts), content.shape[1] * (content.shape[1] + 1) // 2)
    for block in blocks:
        gathered = _gather(content, block)
        products[block.users] = pack(torch.bmm(gathered.transpose(1, 2), gathered))
    user_place = torch.repeat_interleave(torch.from_numpy(counts).to(device))
    kept = torch.nonzero(shared[columns.long()])[:, 0]
    own, place = torch.unique(columns[kept], return_inverse=True)
    order = torch.argsort(place, stable=True)
    of_items = _ends(place, len(own))
    sent_users = user_place[kept][order].int()
    return UserRows(
        counts=torch.from_numpy(counts).double().to(device),
        rated=csr(offsets, columns, ones, ratings.shape),
        ratings=ratings,
        sent=(shared.cumsum(0) - 1)[own.long()].long(),
        raters=csr(of_items, sent_users, ones[: len(kept)], (len(own), len(counts))),
        ratings_of=csr(of_items, sent_users, value[kept][order], (len(own), len(counts))),
        blocks=blocks,
        scatter=_scatter(blocks, own, ones, items),
        content_products=products,
        rating_content=ratings @ content[:-1],
        rating_squares=value.new_zeros(len(counts)).index_add_(0, user_place, value * value),
    )


def csr(offsets: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int] | torch.Size) -> Tensor:
    """A sparse matrix in CSR. Row k has the entries offsets[k] to offsets[k + 1], int32."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(offsets, columns, values, tuple(shape), check_invariants=False)


def _gather(vectors: Tensor, block: UserBlock) -> Tensor:
    """The vectors of a block's items, [users, most ratings, columns]."""
    return vectors.index_select(0, block.items.view(-1)).view(*block.items.shape, -1)


def _ends(rows: Tensor, count: int) -> Tensor:
    """The places where the entries of each row begin, and the last end: int32 [count + 1].

    Entries are sorted by row.
    """
    ends = torch.cumsum(torch.bincount(rows, minlength=count), 0)
    return torch.cat([ends.new_zeros(1), ends]).int()


def _blocks(starts: np.ndarray, counts: np.ndarray, columns: Tensor, padding: int) -> Iterator[UserBlock]:
    """The users by number of ratings.

    columns: the items of all users, user after user.
    """
    order = np.argsort(counts, kind="stable")
    sizes = counts[order]
    begin = 0
    while begin < len(order):
        most = max(sizes[begin] * PADDING_RATIO, sizes[begin] + PADDING_ROWS)
        end = int(np.searchsorted(sizes, most, side="right"))
        end = min(end, begin + max(BLOCK_ROWS // int(sizes[end - 1]), 1))
        chosen = order[begin:end]
        reach = np.arange(sizes[end - 1])
        places = torch.from_numpy(np.minimum(starts[chosen, None] + reach, len(columns) - 1)).to(columns.device)
        outside = torch.from_numpy(reach >= counts[chosen, None]).to(columns.device)
        yield UserBlock(torch.from_numpy(chosen).to(columns.device), columns[places].masked_fill_(outside, padding))
        begin = end


def _scatter(blocks: tuple[UserBlock, ...], own: Tensor, ones: Tensor, items: int) -> Tensor:
    """CSR [own items, padded ratings].

    own: the numbers of the shared items that occur, ascending.
    """
    padded = [block.items.view(-1) for block in blocks]
    numbers = torch.cat(padded) if padded else own.new_empty(0)
    place = own.new_full((items + 1,), -1).long()
    place[own.long()] = torch.arange(len(own), device=own.device)
    rows = place[numbers.long()]
    kept = torch.nonzero(rows >= 0)[:, 0]
    order = torch.argsort(rows[kept], stable=True)
    shape = len(own), len(numbers)
    return csr(_ends(rows[kept], len(own)), kept[order].int(), ones[: len(kept)], shape)

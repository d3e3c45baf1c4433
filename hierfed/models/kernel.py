"""The similarity of two items to one user beyond the factors: a kernel on public features and the embedding."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from hierfed.data.content import Content
from hierfed.models.time_kernel import NO_TIME, TimeKernel

# Most kernel values that are computed at once: 2 MB in float64.
TILE = 1 << 18


@dataclass(frozen=True)
class ItemKernel:
    """k(i, j) = sum over parts of a M(|x_i - x_j|) + a <t_i, t_j> over titles, where M is the Matern 3/2 function.

    parts: amplitudes (variances) and coordinates [items, d].
    titles: rows of norm 1 or 0, or None.
    title_amplitude: a of the titles.
    time: the similarity by time, for ratings whose times are known.
    """

    parts: tuple[tuple[float, Tensor], ...]
    titles: csr_matrix | None
    title_amplitude: float
    time: TimeKernel = NO_TIME

    def between(
        self,
        left: Tensor,
        right: Tensor,
        times: tuple[Tensor, Tensor] | None = None,
        kind: torch.dtype = torch.float64,
    ) -> Tensor:
        """The kernel of each user's items, [users, n, m].

        left: item numbers, [users, n].
        right: item numbers, [users, m]; the same tensor where both are the same items, of which half is then computed.
        times: of the ratings, in seconds, shaped as `left` and as `right`; None for a kernel that knows no time.
        kind: the type of the numbers in which it is computed.
        """
        total = self._title_products(left, right, kind)
        same = left is right
        for (amplitude, _), (first_of, second_of) in zip(self.parts, self._extended, strict=True):
            first, second = first_of[left].to(kind), second_of[right].to(kind)
            for rows, columns in _tiles(len(total), total.shape[1], total.shape[2], same):
                distance = torch.bmm(first[:, rows], second[:, columns].transpose(1, 2)).clamp_min_(1e-12).sqrt_()
                decay = distance.neg().exp_()
                total[:, rows, columns].addcmul_(distance.add_(1), decay, value=amplitude)
        for rows, columns in _tiles(len(total), total.shape[1], total.shape[2], same):
            if times is not None:
                self.time.join(total[:, rows, columns], times[0][:, rows], times[1][:, columns])
            if same:
                above = slice(0, rows.start)
                total[:, above, rows] = total[:, rows, above].transpose(1, 2)
        return total

    def of_itself(self, items: Tensor, timed: bool = False) -> Tensor:
        """k(i, i) of each item, in the shape of `items`; timed: True for ratings whose times are known."""
        own = torch.full(items.shape, math.fsum(amplitude for amplitude, _ in self.parts), dtype=torch.float64)
        own = own.to(items.device)
        if self.titles is not None:
            own = own + self.title_amplitude * self._title_norms.to(items.device)[items]
        return self.time.of_itself(own) if timed else own

    @cached_property
    def _extended(self) -> tuple[tuple[Tensor, Tensor], ...]:
        """Two tables [items, d + 2] of each part, whose products of rows are three times the squared distances.

        The squared norms are two more coordinates. They are made once, since every user's kernel needs them.
        """
        found = []
        for _, coordinates in self.parts:
            norms = coordinates.square().sum(1, keepdim=True) * 3
            ones = torch.ones_like(norms)
            found.append((torch.cat([coordinates * -6, norms, ones], 1), torch.cat([coordinates, ones, norms], 1)))
        return tuple(found)

    @cached_property
    def _title_norms(self) -> Tensor:
        """The squared norm of each item's title, [items]."""
        assert self.titles is not None
        return torch.from_numpy(self.titles.multiply(self.titles).sum(1).A1)

    def _title_products(self, left: Tensor, right: Tensor, kind: torch.dtype) -> Tensor:
        """The titles' part of the kernel. What users of a block share is multiplied once."""
        shape = (*left.shape, right.shape[1])
        if self.titles is None or not self.title_amplitude or not math.prod(shape):
            return torch.zeros(shape, dtype=kind, device=left.device)
        if len(left) == 1:
            first = self.titles[left[0].cpu().numpy()]
            second = first if left is right else self.titles[right[0].cpu().numpy()]
            return torch.from_numpy((first @ second.T).toarray()).mul_(self.title_amplitude).to(left.device, kind)[None]
        (rows, of_left), (columns, of_right) = (torch.unique(each.cpu(), return_inverse=True) for each in (left, right))
        products = (self.titles[rows.numpy()] @ self.titles[columns.numpy()].T).toarray()
        places = of_left[:, :, None] * len(columns) + of_right[:, None, :]
        found = torch.from_numpy(products).mul_(self.title_amplitude).to(kind).flatten()[places]
        return found.to(left.device)


_Key = tuple[torch.Size, bytes]


@dataclass(frozen=True)
class KeptKernel(ItemKernel):
    """A multiple of a kernel. It keeps the values of all items that it was asked for, and shares them with others.

    So candidates that differ by a factor, by their noise or by times cost little more than one of them. For few users.

    factor: on the values of items. kept: these values, without the factor, by the type of the numbers and by the items.
    """

    factor: float = 1.0
    kept: dict[tuple[torch.dtype, _Key, _Key], Tensor] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, kernel: ItemKernel) -> KeptKernel:
        """The same kernel, with nothing kept."""
        return cls(kernel.parts, kernel.titles, kernel.title_amplitude, kernel.time)

    def between(
        self,
        left: Tensor,
        right: Tensor,
        times: tuple[Tensor, Tensor] | None = None,
        kind: torch.dtype = torch.float64,
    ) -> Tensor:
        """See ItemKernel."""
        key = kind, _as_key(left), _as_key(right)
        if key not in self.kept:
            self.kept[key] = super().between(left, right, None, kind)
        total = self.kept[key] * self.factor
        if times is not None:
            self.time.join(total, *times)
        return total

    def of_itself(self, items: Tensor, timed: bool = False) -> Tensor:
        """See ItemKernel."""
        own = self.factor * super().of_itself(items)
        return self.time.of_itself(own) if timed else own


def _as_key(items: Tensor) -> _Key:
    return items.shape, items.cpu().numpy().tobytes()


def _tiles(users: int, rows: int, columns: int, same: bool) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of a kernel's tiles, which stay in a core's cache.

    same: True for the lower triangle only, with the whole tiles of its diagonal.
    """
    step = max(TILE // max(users * columns, 1), 1) if users * rows * columns > TILE else max(rows, 1)
    for begin in range(0, rows, step):
        end = min(begin + step, rows)
        yield slice(begin, end), slice(0, end if same else columns)


@dataclass(frozen=True)
class KernelSettings:
    """Amplitudes of the kernel's parts, as variances in squared units of the ratings' scale (see Scale).

    content: of all public features and the embedding together.
    embedding, year, title: of these alone.
    noise_share: share of a user's noise variance that stays noise, since the kernel explains the rest.
    time: the amplitudes of the parts by time.
    """

    content: float = 0.25
    embedding: float = 0.035
    year: float = 0.02
    title: float = 0.14
    noise_share: float = 0.4
    time: TimeKernel = NO_TIME

    def scaled(self, factor: float) -> KernelSettings:
        """The same with all amplitudes of items multiplied."""
        amplitudes = {name: factor * getattr(self, name) for name in ("content", "embedding", "year", "title")}
        return replace(self, **amplitudes)

    @property
    def of_items(self) -> float:
        """The sum of all amplitudes of items."""
        return self.content + self.embedding + self.year + self.title

    def kernel(self, content: Content, embedding: Tensor) -> ItemKernel:
        """The kernel over all items.

        embedding: [items, k], of unit mean square.
        """
        device = embedding.device

        def tensor(values: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(values)).to(device)

        together = embedding / math.sqrt(max(embedding.shape[1], 1))
        year = tensor(content.year)[:, None]
        features = torch.cat(
            [
                0.5 * tensor(content.vote)[:, None],
                0.5 * tensor(content.votes)[:, None],
                0.8 * year,
                0.8 * tensor(content.genres),
                0.5 * tensor(content.unit_genres),
                0.8 * together,
            ],
            1,
        )
        parts = ((self.content, features), (self.embedding, 2 * together), (self.year, 2 * year))
        titles = content.titles if self.title else None
        return ItemKernel(tuple(part for part in parts if part[0] > 0), titles, self.title, self.time)

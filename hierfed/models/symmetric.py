"""Symmetric matrices in bulk: packed to the columns of their lower triangle, and inverted by Cholesky."""

from __future__ import annotations

from collections import deque
from functools import cache

import torch
from torch import Tensor

from hierfed.models.threads import in_order

# Ridge regressions that a thread solves at once; at size 64 their matrices take 34 MB.
SOLVED_AT_ONCE = 1024


def packed_size(size: int) -> int:
    """Number of columns of a packed symmetric matrix of this size."""
    return size * (size + 1) // 2


def pack(matrices: Tensor) -> Tensor:
    """The lower triangles, row by row: [..., size, size] to [..., size (size + 1) / 2]."""
    row, column = _triangle(matrices.shape[-1], matrices.device)
    return _columns(matrices.flatten(-2), row * matrices.shape[-1] + column)


def unpack(packed: Tensor, size: int) -> Tensor:
    """The whole matrices of packed ones: [..., size (size + 1) / 2] to [..., size, size]."""
    return _columns(packed, _places(size, packed.device)).view(*packed.shape[:-1], size, size)


def outer_packed(vectors: Tensor) -> Tensor:
    """v v' of each vector, packed: [..., size] to [..., size (size + 1) / 2]."""
    row, column = _triangle(vectors.shape[-1], vectors.device)
    return _columns(vectors, row) * _columns(vectors, column)


def inverse(matrices: Tensor) -> Tensor:
    """Inverses of positive definite matrices [..., size, size].

    Raises torch.linalg.LinAlgError if one is not positive definite.
    """
    # LAPACK returns columns; the transpose of a symmetric matrix reads them as rows without a copy.
    return torch.cholesky_inverse(torch.linalg.cholesky(matrices)).mT


def ridges(products: Tensor, targets: Tensor, common: Tensor, weights: Tensor, threads: int = 1) -> Tensor:
    """[products + common + weight I]^-1 target of each row, [rows, size].

    products: packed.
    common: [size, size].
    """
    size, solutions = targets.shape[1], torch.empty_like(targets)
    # A row of weight 0 has no data: its target is 0, and so is the solution with any weight.
    weights = torch.where(weights > 0, weights, torch.ones_like(weights))

    def solve(begin: int) -> None:
        some = slice(begin, begin + SOLVED_AT_ONCE)
        left = unpack(products[some], size) + common
        left.diagonal(dim1=1, dim2=2).add_(weights[some, None])
        solutions[some] = torch.cholesky_solve(targets[some, :, None], torch.linalg.cholesky(left))[:, :, 0]

    deque(in_order(solve, range(0, len(targets), SOLVED_AT_ONCE), threads), maxlen=0)
    return solutions


def _columns(values: Tensor, places: Tensor) -> Tensor:
    """The columns at these places: values[..., places]. `gather` takes a quarter of the time of `index_select`."""
    return values.gather(-1, places.expand(*values.shape[:-1], -1))


# Places are the same for every matrix of a size. To make them takes longer than to move the entries of one matrix.
@cache
def _triangle(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The row and the column of each packed entry."""
    row, column = torch.tril_indices(size, size, device=device)
    return row, column


@cache
def _places(size: int, device: torch.device) -> Tensor:
    """The packed entry of each entry of a whole matrix, [size size]."""
    row, column = _triangle(size, device)
    place = torch.empty(size, size, dtype=torch.int64, device=device)
    place[row, column] = place[column, row] = torch.arange(len(row), device=device)
    return place.flatten()

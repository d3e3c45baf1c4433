"""Vectors scaled down to a maximal L2 norm."""

from __future__ import annotations

import torch
from torch import Tensor


def clip_rows(vectors: Tensor, norm: float) -> Tensor:
    """The vectors, [..., length], each scaled down to this L2 norm if it is longer."""
    return vectors * clip_factors(torch.linalg.vector_norm(vectors, dim=-1, keepdim=True), norm)


def clip_factors(norms: Tensor, most: float) -> Tensor:
    """min(1, most / norm), for norms of any shape."""
    # torch computes number / tensor as its reciprocal times the number, which may come out above 1.
    return torch.full_like(norms, most) / norms.clamp_min(most)

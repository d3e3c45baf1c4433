"""Gaussian noise on a grid: floats of a private stream, rounded."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hierfed.private_randomness import PrivateStream


def rounded_gaussian(stream: PrivateStream, deviation: float, grid: float, count: int) -> Tensor:
    """Normal numbers rounded to multiples of `grid`, which should be far below their deviation; see NoiseSource."""
    return torch.from_numpy(np.rint(stream.normal(count) * (deviation / grid)) * grid)

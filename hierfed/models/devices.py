"""The device that a node computes on."""

from __future__ import annotations

import torch

CPU = torch.device("cpu")

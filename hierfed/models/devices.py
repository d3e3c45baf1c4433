"""The device that a node computes on."""

from __future__ import annotations

import torch

from hierfed.errors import SettingsError

CPU = torch.device("cpu")


def device_of(name: str) -> torch.device:
    """The device of this name, `cpu` or `cuda`. Raises SettingsError if torch cannot use it."""
    if name == "cuda" and not torch.cuda.is_available():
        raise SettingsError("training.device 'cuda': torch finds no GPU that it can use here: set it to 'cpu'")
    return torch.device(name)

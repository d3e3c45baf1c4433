"""Tallies of nodes' rows as a contribution, and back."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from hierfed.data.features import Tallies
from hierfed.federated.contract import Contribution

TALLIES = ("counts", "sums")


def sent_tallies(tallies: Tallies) -> Contribution:
    """As they are sent and added."""
    return Contribution({name: torch.from_numpy(getattr(tallies, name)) for name in TALLIES})


def read_tallies(arrays: Mapping[str, Tensor]) -> Tallies:
    """The tallies among these arrays; raises KeyError where there are none."""
    return Tallies(*(arrays[name].numpy() for name in TALLIES))

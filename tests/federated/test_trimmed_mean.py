"""The trimmed mean against a plain loop, and against a liar."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hierfed.errors import HierfedError, SettingsError
from hierfed.federated.contract import Contribution
from hierfed.federated.robust_mean import RobustMean
from hierfed.federated.trimmed_mean import trimmed_mean
from hierfed.settings import load_settings

RULE = RobustMean("trimmed_mean", trimmed_mean, 0.25, {"change": "rows"})


def contributions(changes: np.ndarray, rows: np.ndarray) -> list[tuple[int, Contribution]]:
    """The contributions of nodes with these mean changes [nodes, parameters] and rows [nodes]."""
    return [
        (number, Contribution({"change": torch.from_numpy(count * change), "rows": torch.tensor([count]).double()}))
        for number, (change, count) in enumerate(zip(changes, rows.tolist(), strict=True))
    ]


def test_it_is_the_mean_of_the_middle_value_by_value():
    rng = np.random.default_rng(1)
    changes, rows = rng.normal(size=(9, 4)), rng.integers(1, 50, 9)
    total = RULE(contributions(changes, rows)).total
    expected = [np.mean(sorted(column)[2:-2]) for column in changes.T]
    mean = total.arrays["change"] / total.arrays["rows"]
    assert total.arrays["rows"].item() == rows.sum()
    assert mean.tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("lie", [1e9, -1e9])
def test_one_liar_of_eight_stays_within_the_honest_range(lie):
    changes = np.linspace(-1, 1, 8)[:, None]
    changes[3] = lie
    total = RULE(contributions(changes, np.ones(8, int))).total
    assert -1 <= float(total.arrays["change"] / total.arrays["rows"]) <= 1


def test_arrays_that_are_not_declared_are_added():
    both = [
        (number, Contribution({"rows": torch.ones(1).double(), "loss": torch.ones(2).double()})) for number in range(4)
    ]
    assert RULE(both).total.arrays["loss"].tolist() == [4.0, 4.0]


def test_a_share_that_leaves_nobody_out_is_refused():
    with pytest.raises(HierfedError, match="leaves 0 of 3 nodes out"):
        RULE(contributions(np.ones((3, 1)), np.ones(3, int)))


def test_settings_refuse_it_where_it_cannot_work():
    with pytest.raises(SettingsError, match="must see single contributions"):
        load_settings("network", {"rule": "trimmed_mean", "secure_sums": True})
    with pytest.raises(SettingsError, match="can only be added"):
        load_settings("hierarchical", {"rule": "trimmed_mean"})
    with pytest.raises(SettingsError, match="no rule 'trimed_mean', did you mean 'trimmed_mean'"):
        load_settings("network", {"rule": "trimed_mean"})

"""Group sums: a rule over the sums of groups, open or secure."""

from __future__ import annotations

import pytest
import torch

from hierfed.errors import SettingsError
from hierfed.federated.contract import Contribution
from hierfed.federated.groups import GroupSums, groups_of
from hierfed.federated.median import median
from hierfed.federated.robust_mean import RobustMean
from hierfed.federated.rules import OPEN_SUM
from hierfed.settings import load_settings

MEDIAN = RobustMean("median", median, 0.2, {"change": "rows"})


def contributions(changes: list[float]) -> list[tuple[int, Contribution]]:
    """One row a node."""
    return [
        (number, Contribution({"change": torch.tensor([change]).double(), "rows": torch.ones(1).double()}))
        for number, change in enumerate(changes)
    ]


def test_groups_divide_the_nodes_evenly_and_stay_the_same():
    groups = groups_of(11, 3, seed=4)
    assert sorted(place for group in groups for place in group) == list(range(11))
    assert sorted(map(len, groups)) == [3, 4, 4]
    assert groups == groups_of(11, 3, seed=4)
    assert groups != groups_of(11, 3, seed=5)


@pytest.mark.parametrize("secure", [False, True])
def test_the_rule_sees_the_groups_means(secure):
    from hierfed.privacy.secure_sum.simulation import SecureSum

    changes = [float(number**2) for number in range(12)]
    found = GroupSums(SecureSum() if secure else OPEN_SUM, MEDIAN, 4, seed=1)(contributions(changes))
    means = [sum(changes[place] for place in group) / 3 for group in groups_of(12, 4, seed=1)]
    expected = sum(sorted(means)[1:3]) / 2
    mean = found.total.arrays["change"] / found.total.arrays["rows"]
    assert mean.item() == pytest.approx(expected, abs=1e-6)
    assert found.total.arrays["rows"].item() == pytest.approx(12)
    assert (found.bytes_down > 0) == secure


def test_one_liar_spoils_one_group_alone():
    changes = [1.0] * 11 + [-1e9]
    total = GroupSums(OPEN_SUM, MEDIAN, 4, seed=1)(contributions(changes)).total
    assert (total.arrays["change"] / total.arrays["rows"]).item() == 1.0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"groups": 3}, "a sum of sums is the sum"),
        ({"groups": 5, "rule": "median"}, "a group of one is seen alone"),
        ({"groups": 3, "rule": "median", "participation": 0.5}, "could solve for one"),
        (
            {"groups": 3, "rule": "median", "privacy_unit": "example", "output_bias": "random"},
            "noise is measured out for the sum of all nodes",
        ),
    ],
)
def test_settings_refuse_groups_without_sense(changes, reason):
    with pytest.raises(SettingsError, match=rf"^federation.groups: .*{reason}"):
        load_settings("network", {"nodes": 8, **changes})

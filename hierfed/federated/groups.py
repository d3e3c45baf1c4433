"""Groups of nodes: the rule sees the sum of each group, and no single contribution.

So robust rules live with secure sums: a liar spoils its group, and the rule resists spoilt groups. The server learns
the groups' sums besides. The groups stay the same in all rounds: from the sums of others, it could solve for single
nodes.

Source: Karimireddy et al., Byzantine-Robust Learning on Heterogeneous Datasets via Bucketing, ICLR 2022,
arXiv:2006.09365; group sums under secure sums: So et al., Byzantine-Resilient Secure Federated Learning, 2020.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hierfed.federated.rules import Rule, Summed, rule_of_round

if TYPE_CHECKING:
    from hierfed.federated.contract import Contribution, SharedModel, SumMethod


def groups_of(nodes: int, groups: int, seed: int) -> list[list[int]]:
    """The places of the nodes of each group, ascending; sizes differ by one at the most."""
    import numpy as np  # noqa: PLC0415 - settings are checked without it

    from hierfed.randomness import generator  # noqa: PLC0415 - NumPy

    order = generator(seed, 0, 0, "groups").permutation(nodes)
    return [sorted(part.tolist()) for part in np.array_split(order, groups)]


@dataclass(frozen=True)
class GroupSums:
    """A rule over the sums of groups; see Rule and MethodRule.

    add: sums a group, openly or securely. rule: makes one total of the groups' sums. groups: their number.
    """

    add: Rule
    rule: Rule
    groups: int
    seed: int

    def of(self, method: SumMethod, shared: SharedModel) -> Rule:
        """See MethodRule."""
        return replace(self, rule=rule_of_round(self.rule, method, shared))

    def __call__(self, contributions: Iterable[tuple[int, Contribution]]) -> Summed:
        """See Rule. A group is numbered like its first node."""
        given = list(contributions)
        parts = groups_of(len(given), self.groups, self.seed)
        sums = [self.add([given[place] for place in part]) for part in parts]
        numbered = sorted(((part[0], each.total) for part, each in zip(parts, sums, strict=True)), key=_number)
        total = self.rule(numbered).total
        return Summed(total, sum(each.bytes_up for each in sums), sum(each.bytes_down for each in sums))


def _number(group: tuple[int, Contribution]) -> int:
    return group[0]

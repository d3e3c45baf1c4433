"""Tallies of all nodes' rows, added up before the first round."""

from __future__ import annotations

from collections.abc import Sequence

from hierfed.data.features import Tallies, no_tallies, tally
from hierfed.data.federation import Node, train_rows
from hierfed.engines.in_process import POOLED_FROM
from hierfed.federated.rules import OPEN_SUM, Rule
from hierfed.federated.tallies import read_tallies, sent_tallies
from hierfed.settings import Settings


def tally_nodes(settings: Settings, nodes: Sequence[Node], items: int, rule: Rule) -> Tallies:
    """The tallies that features of networks are fitted on, added up as the rounds' contributions are.

    There are none under differential privacy: they would be a release without noise.
    """
    if settings.privacy.privacy_unit != "none":
        return no_tallies(items)
    if len(nodes) >= POOLED_FROM and rule is OPEN_SUM:
        return tally([train_rows(nodes)[1]], items)
    sent = ((node.number, sent_tallies(tally([node.train], items))) for node in nodes)
    return read_tallies(rule(sent).total.arrays)

"""Sums and facts of all nodes outside the rounds: the plan before them, and the gain after them."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from hierfed.data.catalogue import Catalogue
from hierfed.deployment.former import Former
from hierfed.deployment.local_models import JUDGED, judged_checks
from hierfed.deployment.plan import Plan
from hierfed.deployment.protocol import Introduction
from hierfed.engines.exchange import Request
from hierfed.engines.flower.federation import Federation
from hierfed.engines.flower.patience import Patience
from hierfed.engines.secure_round import DRAWN, SecureGroup, sum_securely
from hierfed.federated.checks import Sent, first_reason
from hierfed.federated.contract import Contribution, ordered_sum
from hierfed.plain_text import printable
from hierfed.privacy.secure_sum.setup import colluders, smallest_threshold
from hierfed.results import Gain
from hierfed.settings import Settings


def agree(
    settings: Settings,
    catalogue: Catalogue,
    nodes: list[Introduction],
    quorum: int,
    former: Former | None = None,
) -> Plan:
    """The plan that follows from all nodes' introductions.

    nodes: the introductions, in the order of the nodes' numbers.
    quorum: the least number of nodes in a sum.
    former: the training that it goes on from; None for one from the start.
    """
    ratings = [node.limits for node in nodes if node.limits is not None]
    # Where no scale is set, a training that goes on has one that holds the former's.
    ratings += [] if former is None else [former.limits]
    limits = settings.data.scale or (min(low for low, _ in ratings), max(high for _, high in ratings))
    update = None if former is None else former.update
    plan = Plan(secrets.token_hex(8), settings, catalogue, limits, nodes=len(nodes), update=update)
    if not settings.privacy.secure_sums:
        return plan
    keys = tuple(node.key for node in nodes)
    threshold = max(quorum, smallest_threshold(len(keys), colluders(len(keys), settings.privacy.colluding)))
    return replace(plan, keys=keys, threshold=threshold)


def _add(
    federation: Federation,
    secure_group: SecureGroup,
    kind: str,
    shapes: Mapping[str, Sequence[int]],
    patience: Patience,
    tell: Callable[[str], None],
) -> Contribution | None:
    """A secure sum outside the rounds; None, and told, after `patience.attempts` failures."""
    for _ in range(patience.attempts):
        found = sum_securely(federation.ask, Request(kind, {DRAWN: secrets.token_bytes(32)}), secure_group, shapes)
        if found.total is not None:
            return found.total
    reasons = "; ".join(dict.fromkeys(f"{each.node}: {each.reason}" for each in found.refused))
    tell(f"the gain is not known: the secure sum '{kind}' failed {patience.attempts} times: {printable(reasons)}")
    return None


def honest_sums(
    sums: Mapping[str, Contribution], limits: tuple[float, float], tell: Callable[[str], None]
) -> list[Contribution]:
    """The sums over held-out rows that ratings can give, of these by their senders; `tell` takes the others' reasons.

    limits: the lowest and the highest possible rating.
    """
    good, checks = [], judged_checks(limits)
    for name, each in sums.items():
        shapes = {array: tuple(values.shape) for array, values in each.arrays.items()}
        alike = shapes == dict.fromkeys(JUDGED, (1,))
        reason = first_reason(checks, Sent(each.arrays)) if alike else "it holds other arrays than were asked for"
        if reason:
            tell(f"the gain leaves out {name}: {reason}")
        else:
            good.append(each)
    return good


def gain(
    federation: Federation, plan: Plan, patience: Patience, tell: Callable[[str], None]
) -> tuple[int, Gain | None]:
    """The number of ratings that the nodes have learned from, and the gain of their personal models.

    Both come from sums over the nodes' held-out rows. Gives 0 and None without any such sum; `tell` takes the reasons.
    """
    if plan.secure_group is not None:
        total_sum = _add(federation, plan.secure_group, "judge", dict.fromkeys(JUDGED, (1,)), patience, tell)
        sums = {"the sum": total_sum} if total_sum is not None else {}
    else:
        answers = sorted(federation.ask(lambda _: Request("judge"), 1), key=lambda answer: answer.number)
        sums = {answer.name: answer.reply.contribution for answer in answers if answer.reply}
    good = honest_sums(sums, plan.limits, tell)
    if not good:
        return 0, None
    found = ordered_sum(good)
    total = {name: float(array) for name, array in found.arrays.items()}
    learned = int(total["learned"])
    if not total["rows"]:
        return learned, None
    return learned, Gain(
        rows=int(total["rows"]),
        rmse_before=math.sqrt(total["squares_before"] / total["rows"]),
        rmse_after=math.sqrt(total["squares_after"] / total["rows"]),
        coverage=total["within"] / total["intervals"] if total["intervals"] else math.nan,
    )

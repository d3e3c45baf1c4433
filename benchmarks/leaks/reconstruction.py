"""Reconstruction: what somebody rated, read from the hierarchical model's sums, with and without its threshold.

Where nothing is summed of a film, the server is left with what the shared model expects of it.
"""

from dataclasses import replace

import numpy as np
from leaks.findings import Finding
from leaks.targets import HIERARCHICAL, Population, Target, Training, train

from hierfed.data.ratings import Ratings
from hierfed.federated.contract import Contribution
from hierfed.methods.hierarchical.hierarchical import HierarchicalFactors
from hierfed.methods.hierarchical.reconstruction import only_user, rated_once, reconstruct, unknown_user

ATTACK = "what was rated"


def attack_sums(everyone: Population) -> list[Finding]:
    """A film of one rater, from all sums, with the threshold off and on; one of a node's raters, by what is seen."""
    unguarded = _trained(0, everyone, HIERARCHICAL)
    threshold = HIERARCHICAL.settings(0).factors.min_raters
    guarded = _trained(threshold, everyone, HIERARCHICAL)
    raters = np.bincount(everyone.ratings.item, minlength=everyone.items)
    once = rated_once(everyone.ratings)
    at_node = [_shared(rated_once(node.train), raters, threshold) for node in guarded.nodes]
    of_node = [_read(guarded, sums, rows) for sums, rows in zip(guarded.last.contributions, at_node, strict=True)]
    rows, on = _joined(at_node), f"threshold {threshold}"
    return [
        _judge("threshold 0", "one rater in all: all sums", _read(unguarded, unguarded.last.sum_of_all(), once), once),
        _judge(on, "one rater in all: no sums", guarded.method.predict(guarded.shared, once).numpy(), once),
        _judge(on, "one rater in a node: its sums", np.concatenate(of_node), rows),
        _judge(
            f"{on}, secure sums", "one rater in a node: all sums", _read(guarded, guarded.last.sum_of_all(), rows), rows
        ),
    ]


def attack_user_nodes(population: Population) -> list[Finding]:
    """Every user a node: all ratings of summed films, from the node's sums of round 1."""
    alone = replace(HIERARCHICAL, changes={**HIERARCHICAL.changes, "rounds": 1}, every_user=True)
    threshold = HIERARCHICAL.settings(0).factors.min_raters
    training = _trained(threshold, population, alone)
    raters = np.bincount(population.ratings.item, minlength=population.items)
    rows = [_shared(node.train, raters, threshold) for node in training.nodes]
    found = [
        _read(training, sums, own, known=True) for sums, own in zip(training.last.contributions, rows, strict=True)
    ]
    return [_judge(f"threshold {threshold}", "every user a node: its sums", np.concatenate(found), _joined(rows))]


def _trained(threshold: int, population: Population, target: Target) -> Training:
    changed = replace(target, changes={**target.changes, "min_raters": threshold})
    return train(changed, population, population.ratings, 0)


def _read(training: Training, sums: Contribution, rows: Ratings, known: bool = False) -> np.ndarray:
    """The ratings of these rows as sums of the last round tell them; known: of a node whose only user is read too."""
    method, shared = training.method, training.last.shared
    assert isinstance(method, HierarchicalFactors)
    user = only_user(sums) if known else unknown_user(shared)
    return reconstruct(method, shared, sums, rows.item, user)


def _shared(rows: Ratings, raters: np.ndarray, threshold: int) -> Ratings:
    return rows.take(np.flatnonzero(raters[rows.item] >= threshold))


def _joined(parts: list[Ratings]) -> Ratings:
    return Ratings(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("user", "item", "value")))


def _judge(protection: str, seen: str, found: np.ndarray, rows: Ratings) -> Finding:
    error = float(np.sqrt(np.mean((found - rows.value) ** 2)))
    exact = float(np.mean(np.round(2 * found) / 2 == rows.value))
    return Finding(f"{ATTACK} ({len(rows):,})", HIERARCHICAL.name, protection, seen, error=error, exact=exact)

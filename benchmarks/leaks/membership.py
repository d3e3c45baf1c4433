"""Membership inference: is a rating, or a user, in the training data? With the shared model, and with what nodes send.

In every training is half of the population: of each user's ratings, or of each node's users. Each training is attacked
with all others as shadow models.
"""

from dataclasses import replace

import numpy as np
from leaks.findings import Finding
from leaks.targets import Population, Target, Training, train
from scipy.sparse import csr_array

from hierfed.evaluation.attacks.membership import (
    draw_members,
    likelihood_ratios,
    loss_scores,
    mean_by_user,
    solve_members,
)
from hierfed.evaluation.attacks.roc import clustered_area, roc_curve
from hierfed.methods.hierarchical.hierarchical import HierarchicalFactors
from hierfed.randomness import generator

SHARED = "shared model"
# The last round's model if a single node's sums had been all sums, and how far that is from where the round began.
OF_NODE, MOVED = "each node's model", "each node's change"
NODE_COUNTS, ALL_COUNTS = "each node's raters", "all nodes' raters"
LOSS, RATIO, EQUATIONS = "loss", "likelihood ratio", "linear equations"

Observed = dict[str, list[np.ndarray]]


def attack_ratings(target: Target, population: Population, trainings: int) -> list[Finding]:
    """Who sees predictions of a rating's film, or the film's raters, guesses whether the rating was learned from."""
    rows = population.ratings
    member = draw_members(trainings, rows.user, generator(0, 0, 0, "members"))
    losses: Observed = {}
    seen: Observed = {}
    for seed, inside in enumerate(member):
        training = train(target, population, rows.take(np.flatnonzero(inside)), seed)
        predicted = _predictions(target, population, training)
        _gather(losses, {name: loss_scores(each, rows.value) for name, each in predicted.items()})
        if OF_NODE in predicted:
            predicted[MOVED] = predicted[OF_NODE] - training.method.predict(training.last.shared, rows).numpy()
        _gather(seen, predicted | _counts(population, training))
    ratios = {name: likelihood_ratios(np.stack(each), member) for name, each in seen.items()}
    first, *others = [
        *_judge(target, f"rating: {LOSS}", losses, member, rows.item),
        *_judge(target, f"rating: {RATIO}", ratios, member, rows.item),
    ]
    unseen = -np.stack(losses[SHARED])[~member]
    return [replace(first, model_error=float(np.sqrt(unseen.mean()))), *others]


def attack_users(target: Target, population: Population, trainings: int) -> list[Finding]:
    """Who knows all ratings of a user, and sees predictions of them or all raters, guesses whether the user was in."""
    rows, users = population.ratings, population.users
    member = draw_members(trainings, population.node_of[:users], generator(0, 1, 0, "members"))
    rated = csr_array((np.ones(len(rows)), (rows.item, rows.user)), shape=(population.items, users))
    losses: Observed = {}
    solved: Observed = {}
    for seed, inside in enumerate(member):
        training = train(target, population, rows.take(np.flatnonzero(inside[rows.user])), seed)
        predicted = _predictions(target, population, training)
        _gather(losses, {name: loss_scores(each, rows.value) for name, each in predicted.items()})
        if isinstance(training.method, HierarchicalFactors):
            counts = training.first.sum_of_all().arrays["raters"].numpy()
            _gather(solved, {ALL_COUNTS: solve_members(counts, rated)})
    means = {name: mean_by_user(np.stack(each), rows.user, users) for name, each in losses.items()}
    ratios = {name: likelihood_ratios(each, member) for name, each in means.items()}
    everyone = np.arange(users)
    return [
        *_judge(target, f"user: {LOSS}", means, member, everyone),
        *_judge(target, f"user: {RATIO}", ratios, member, everyone),
        *_judge(target, f"user: {EQUATIONS}", solved, member, everyone),
    ]


def _predictions(target: Target, population: Population, training: Training) -> dict[str, np.ndarray]:
    """Predictions of all rows: by the shared model, and, where single sums are seen, by that of each row's node."""
    method, rows = training.method, population.ratings
    found = {SHARED: method.predict(training.shared, rows).numpy()}
    if target.secure_sums:
        return found
    node = rows.user if target.every_user else population.node_of[rows.user]
    of_node = method.predict(training.last.shared, rows).numpy().copy()
    for sender, sums in zip(training.nodes, training.last.contributions, strict=True):
        own = np.flatnonzero(node == sender.number)
        of_node[own] = method.predict(method.combine(training.last.shared, sums), rows.take(own)).numpy()
    return found | {OF_NODE: of_node}


def _counts(population: Population, training: Training) -> dict[str, np.ndarray]:
    """The raters of each row's film: at the row's node, and in all; nothing of methods that do not count them."""
    if not isinstance(training.method, HierarchicalFactors):
        return {}
    rows, at_node = population.ratings, np.zeros(len(population.ratings))
    for sender, sums in zip(training.nodes, training.first.contributions, strict=True):
        own = np.flatnonzero(population.node_of[rows.user] == sender.number)
        at_node[own] = sums.arrays["raters"].numpy()[rows.item[own]]
    return {NODE_COUNTS: at_node, ALL_COUNTS: training.first.sum_of_all().arrays["raters"].numpy()[rows.item]}


def _gather(into: Observed, found: dict[str, np.ndarray]) -> None:
    for name, each in found.items():
        into.setdefault(name, []).append(each)


def _judge(
    target: Target,
    attack: str,
    scores: dict[str, np.ndarray] | Observed,
    member: np.ndarray,
    cluster: np.ndarray,
) -> list[Finding]:
    """A finding for everything that is seen; scores, member: [trainings, candidates].

    cluster [candidates]: numbers of what hangs together.
    """
    findings, clusters = [], np.broadcast_to(cluster, member.shape).ravel()
    for seen, each in scores.items():
        flat = np.asarray(each).ravel(), member.ravel()
        area = clustered_area(*flat, clusters)
        findings.append(Finding(attack, target.name, target.protection, seen, area, roc_curve(*flat)))
    return findings

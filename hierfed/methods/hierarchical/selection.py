"""Selection of hyperparameters on validation rows inside the train rows. It uses only sums, and no test row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from hierfed.data.federation import Node, Nodes, RowsByNode, row_counts, train_rows
from hierfed.data.grouping import is_grouped
from hierfed.data.last_rows import last_of_each_user
from hierfed.data.ratings import Ratings
from hierfed.federated.contract import Contribution
from hierfed.federated.method import Train, Trained, TrialTraining, Tuned
from hierfed.federated.rules import Rule
from hierfed.methods.hierarchical.hierarchical import HierarchicalFactors
from hierfed.methods.hierarchical.kernel_selection import best_kernel
from hierfed.methods.hierarchical.rank_selection import best_rank, larger_ranks
from hierfed.methods.hierarchical.together import FactorsTogether
from hierfed.methods.hierarchical.validation import Means, Models, Validators
from hierfed.models.intervals import INTERVAL_LEVEL, OWN_RATINGS, group_of, quantile
from hierfed.models.kernel import ItemKernel, KeptKernel, KernelSettings
from hierfed.randomness import generator
from hierfed.results import Selection, Trial
from hierfed.settings import Settings

# A group with fewer validation rows keeps the factor of all.
LEAST_OF_GROUP = 200
# Number of bins and range, in standard deviations, of the histogram of errors that gives the interval's width.
BINS, WIDEST = 400, 8.0


def select(
    settings: Settings,
    method: HierarchicalFactors,
    nodes: Sequence[Node],
    train: Train,
    rule: Rule,
) -> Tuned:
    """Try ranks, noise shares and kernel amplitudes one after the other, then fit the width of the intervals.

    Each node holds back validation rows of its own train rows and learns from the others. It sends the sum of squared
    errors of each candidate, and a histogram of errors. Larger ranks are tried only if there are enough ratings.
    Implicit covariates are tried only if users have few. They, a noise share and amplitudes are kept if their gain is
    more than a standard error, with the users' own gains as a sample; nodes send the sum and the sum of their squares.

    train: trains a candidate.
    rule: adds up the nodes' sums on their validation rows.
    """
    wanted, trials = settings.selection, list[Trial]()
    newest = settings.split.newest
    reduced = _set_aside(nodes, wanted.validation_share, newest, settings.seed)
    users = _users_with(reduced, wanted.trial_users, wanted.trial_rows)
    dated = _of_some_users(reduced, users, settings.seed)
    # The width of intervals needs more rows than a choice between candidates.
    most = _users_with(reduced, wanted.validation_users, wanted.validation_rows)
    more = {place: rows.untimed for place, rows in _of_some_users(reduced, most, settings.seed).items()}
    all_asked = len(reduced) <= most
    asked = np.arange(len(reduced)) if all_asked else np.array(sorted(set(dated) | set(more)))
    validators = Validators(reduced, asked, rule)
    # All else is chosen without the times of the rows to predict, which are known only when one asks.
    sampled = {place: rows.untimed for place, rows in dated.items()}

    def try_out(candidate: HierarchicalFactors) -> Trained:
        return train(candidate, reduced, wanted.validation_rounds)

    trained = try_out(method)
    if ranks := larger_ranks(wanted, int(row_counts(nodes).sum()), len(method.content)):
        method, trained, of_ranks = best_rank(method, trained, ranks, try_out, wanted, validators, sampled)
        trials += of_ranks
    if wanted.implicit_trial and method.embedding_rank and _ratings_per_user(nodes) <= wanted.implicit_up_to:
        informed = replace(method, embedding_rank=wanted.implicit_trial_rank, implicit_scale=wanted.implicit_trial)
        pairs = (method, trained), (informed, try_out(informed))
        # Kriging is cheap where users have few ratings, and the embedding tells most there: all users are judged.
        rows = dict(enumerate(node.test.untimed for node in reduced)) if all_asked else sampled
        before, after = (validators.means(validators.personalise(each, found), rows) for each, found in pairs)
        pays = validators.gains(before, after, rows)
        for (each, _), means, won in zip(pairs, (before, after), (not pays, pays), strict=True):
            rmse = validators.rmse_of(means, rows)
            trials.append(Trial(setting="implicit_scale", value=each.implicit_scale, rmse=rmse, chosen=won))
        method, trained = pairs[pays]
    models, kernel = validators.personalise(method, trained, sampled, more), method.kernel
    if kernel is not None:
        embedding = models[0].knowledge.design.embedded(trained.shared.arrays["embedding"])

        # Candidates' kernels of items are multiples of the first.
        first, kept = kernel, KeptKernel.of(kernel.kernel(method.content, embedding))

        def kriged(candidate: KernelSettings) -> Models:
            factor = candidate.of_items / first.of_items if first.of_items else 1.0
            return _with_kriging(models, replace(kept, factor=factor, time=candidate.time), candidate.noise_share)

        at_times = any(rows.time is not None for rows in dated.values())

        def means_of(candidate: KernelSettings, timed: bool) -> Means:
            return validators.means(kriged(candidate), dated if timed else sampled)

        kernel, of_kernels = best_kernel(kernel, wanted, means_of, at_times, validators, sampled)
        trials += of_kernels
        models = _with_kriging(models, kernel.kernel(method.content, embedding), kernel.noise_share)
        method = replace(method, kernel=kernel)
    groups = rule(
        (place, _by_group(mean, variance, reduced[place].train, more[place]))
        for place, mean, variance in validators.predicted(models, more)
    )
    histograms = groups.total.arrays["histograms"]
    usual = _quantile(histograms.sum(0))
    scale = usual / quantile()
    chosen = _with_choices(settings, method, kernel, scale, _group_scales(histograms, usual))
    record = Selection(rows=sum(map(len, more.values())), trials=trials, deviation_scale=scale)
    return Tuned(chosen, record, TrialTraining(reduced, trained))


def _with_choices(
    settings: Settings,
    method: HierarchicalFactors,
    kernel: KernelSettings | None,
    deviation_scale: float,
    group_scales: tuple[float, ...],
) -> Settings:
    """The settings with the chosen values.

    kernel: None without kriging.
    """
    kriging = settings.kriging
    if kernel is not None:
        kriging = kriging.model_copy(
            update={
                "content_amplitude": kernel.content,
                "embedding_amplitude": kernel.embedding,
                "year_amplitude": kernel.year,
                "title_amplitude": kernel.title,
                "noise_share": kernel.noise_share,
                "sitting_amplitude": kernel.time.sitting,
                "day_amplitude": kernel.time.day,
                "drift_amplitude": kernel.time.drift,
                "item_sitting_share": kernel.time.items,
            }
        )
    return settings.model_copy(
        update={
            "factors": settings.factors.model_copy(
                update={
                    "rank": method.rank,
                    "embedding_rank": method.embedding_rank,
                    "implicit_scale": method.implicit_scale,
                }
            ),
            "kriging": kriging,
            "selection": settings.selection.model_copy(
                update={"deviation_scale": deviation_scale, "group_scales": group_scales}
            ),
        }
    )


def _set_aside(nodes: Sequence[Node], share: float, newest: bool, seed: int) -> Nodes:
    """The nodes with a share of each user's train rows as test rows instead, drawn at random or the newest."""
    ends, rows = train_rows(nodes)
    key = rows.time if newest and rows.time is not None else None
    if key is None:
        rngs = (generator(seed, 0, node, "validation rows") for node in range(len(nodes)))
        key = np.concatenate([rng.random(count) for rng, count in zip(rngs, np.diff(ends), strict=True)])
    held = last_of_each_user(_users(ends, rows.user), key, share)
    kept, taken = (_of_nodes(rows, ends, chosen) for chosen in (~held, held))
    return Nodes(kept, taken, np.arange(len(nodes)))


def _ratings_per_user(nodes: Sequence[Node]) -> float:
    ends, rows = train_rows(nodes)
    return len(rows) / max(int(_users(ends, rows.user).max(initial=-1)) + 1, 1)


def _users(ends: np.ndarray, user: np.ndarray) -> np.ndarray:
    """The users of each node as numbers without gaps, ascending with the node."""
    node = np.repeat(np.arange(len(ends) - 1), np.diff(ends))
    both = node * (int(user.max()) + 1) + user
    if is_grouped(both):
        return np.cumsum(np.diff(both, prepend=both[:1]) > 0)
    numbers: np.ndarray = np.unique(both, return_inverse=True)[1]
    return numbers


def _of_nodes(rows: Ratings, ends: np.ndarray, chosen: np.ndarray) -> RowsByNode:
    before = np.concatenate([[0], np.cumsum(chosen)])
    return RowsByNode(rows.take(chosen), before[ends])


def _users_with(nodes: Nodes, users: int, rows: int) -> int:
    """So many users, or as many more as have so many validation rows on average."""
    test = nodes.test
    having = int(_users(test.offsets, test.ratings.user).max(initial=-1)) + 1
    return max(users, math.ceil(rows * having / max(len(test.ratings), 1)))


def _of_some_users(nodes: Nodes, most: int, seed: int) -> dict[int, Ratings]:
    """The validation rows, by node, of at most `most` users drawn at random.

    Each node gives the same number of users, at least one. If there are more nodes than `most`, some nodes give one
    each.
    """
    places = np.arange(len(nodes))
    if len(nodes) > most:
        places = np.sort(generator(seed, 0, 0, "validation nodes").choice(len(nodes), max(most, 1), replace=False))
    sampled = {}
    for place in places.tolist():
        test = nodes[place].test
        users = generator(seed, 0, place, "validation users").permutation(np.unique(test.user))
        sampled[place] = test.take(np.isin(test.user, users[: max(most // len(nodes), 1)]))
    return sampled


def _with_kriging(models: Models, kernel: ItemKernel, noise_share: float) -> Models:
    if isinstance(models, FactorsTogether):
        return models.with_kriging(kernel, noise_share)
    return [each.with_kriging(kernel, noise_share) for each in models]


def _quantile(histogram: Tensor) -> float:
    """The INTERVAL_LEVEL quantile of the absolute errors, in standard deviations."""
    reached = histogram.cumsum(0) >= INTERVAL_LEVEL * histogram.sum()
    return (int(torch.nonzero(reached)[0]) + 0.5) * WIDEST / BINS


def _by_group(mean: Tensor, variance: Tensor, own: Ratings, rows: Ratings) -> Contribution:
    """A node's histograms of errors in standard deviations, one for each group of users; see models.intervals.

    mean, variance: predicted for the rows. own: the node's rows that the model has learned from.
    """
    counts = np.bincount(own.user, minlength=int(rows.user.max(initial=0)) + 1)
    group = group_of(torch.from_numpy(counts[rows.user]))
    place = _bin(mean, variance, rows) + group * BINS
    groups = len(OWN_RATINGS) + 1
    return Contribution({"histograms": torch.bincount(place, minlength=groups * BINS).double().view(groups, BINS)})


def _group_scales(histograms: Tensor, usual: float) -> tuple[float, ...]:
    """The factor of each group that makes its intervals hold.

    usual: the quantile of all absolute errors, in standard deviations.
    """
    enough = [float(histogram.sum()) >= LEAST_OF_GROUP for histogram in histograms]
    return tuple(_quantile(each) / usual if some else 1.0 for each, some in zip(histograms, enough, strict=True))


def _bin(mean: Tensor, variance: Tensor, rows: Ratings) -> Tensor:
    """The bin of each row's absolute error in standard deviations."""
    error = (mean - torch.from_numpy(rows.value).double()).abs()
    return (error / variance.sqrt() * (BINS / WIDEST)).clamp_max(BINS - 1).long()

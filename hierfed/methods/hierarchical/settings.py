"""The settings of the hierarchical model."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hierfed.section import Count, NonNegative, OpenShare, Positive, Section


class FactorsSettings(Section):
    """The hierarchical model; see hierfed.methods.hierarchical.hierarchical.

    rank: factors of an item.
    min_raters: items with fewer raters are never summed by themselves.
    embedding_rank: columns of the co-rating embedding, 0 for none.
    embedding_rounds: the rounds of the co-rating embedding, less two.
    implicit_scale: factor on users' means of the embedding as covariates, 0 to leave them out.
    noise_strength: the weight of the prior of users' noise, in users that it counts for.
    covariate_strength: the weight of the prior of covariates' weights, in users.
    content_strength: the weight of the prior of items' content weights, in items.
    moment_strength: the weight of the prior of the spreads of users and items, in users or items.
    between_nodes: true allows nodes means of their own.
    momentum: the momentum of the server, 0 for none; without effect unless all nodes take part in every round.
    rare_at_node: true lets a node's personal models learn of items under min_raters from each other's ratings there, of
    at most 256 nodes; and of all items from ratings that come after the training, in an update of users alone.
    """

    rank: Count = 8
    min_raters: Annotated[int, Field(ge=0, strict=True)] = 5
    embedding_rank: Annotated[int, Field(ge=0, strict=True)] = 32
    embedding_rounds: Count = 6
    implicit_scale: NonNegative = 0.0
    noise_strength: Positive = 6.0
    covariate_strength: Positive = 50.0
    content_strength: Positive = 10.0
    moment_strength: Positive = 10.0
    between_nodes: bool = True
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.8
    rare_at_node: bool = True


class KrigingSettings(Section):
    """Kriging of the factors' residuals at each user, of which nothing is sent; see hierfed.models.kernel.

    krige: true turns kriging on.
    content_amplitude, embedding_amplitude, year_amplitude, title_amplitude: the variance that items share by content,
    by what was rated together, by year and by title, in squared units of the scale of models.
    noise_share: share of a user's noise variance that kriging leaves unexplained.
    sitting_amplitude, day_amplitude, drift_amplitude, item_sitting_share: the variance that ratings share by their
    times, 0 for none; see hierfed.models.time_kernel. They act on predictions for a moment only.
    """

    krige: bool = True
    content_amplitude: NonNegative = 0.25
    embedding_amplitude: NonNegative = 0.035
    year_amplitude: NonNegative = 0.02
    title_amplitude: NonNegative = 0.14
    noise_share: Positive = 0.4
    sitting_amplitude: NonNegative = 0.05
    day_amplitude: NonNegative = 0.03
    drift_amplitude: NonNegative = 0.05
    item_sitting_share: NonNegative = 1.0


class SelectionSettings(Section):
    """Selection for the hierarchical model on validation rows inside its train rows; see methods.hierarchical.

    select: true chooses hyperparameters on validation rows.
    validation_share: share of each user's train rows.
    validation_rounds: rounds of a trial training.
    trial_users, validation_users: users whose rows choose values, and fit the width of intervals; more if these have
    fewer than trial_rows, validation_rows.
    trial_rows, validation_rows: see trial_users.
    least_gain: the gain in RMSE from which another rank, or times, are taken; of ranks in the unit of models, which is
    about a star.
    larger_rank: tried if there are at least larger_rank_from ratings.
    larger_rank_from: see larger_rank.
    ratings_per_item, largest_rank: with so many ratings an item on average, larger_rank is tried in any case, and twice
    the last rank while that gains, up to largest_rank.
    implicit_trial, implicit_trial_rank: factors.implicit_scale and embedding_rank, tried together if users have at most
    implicit_up_to ratings on average.
    implicit_up_to: see implicit_trial.
    noise_shares: values of kriging.noise_share; from the first, the next is taken while it gains more than a standard
    error.
    amplitudes, larger_amplitudes: factors on the kernel's amplitudes, tried likewise, the larger ones if no smaller one
    was taken.
    time_factors: factors on the amplitudes by time, tried where ratings have times, on rows whose time is known.
    deviation_scale: factor on the standard deviations of personal predictions; a selection replaces it.
    group_scales: further factors for users with so many own ratings, see hierfed.models.intervals; empty for none.
    """

    select: bool = True
    validation_share: OpenShare = 0.1
    validation_rounds: Count = 12
    trial_users: Count = 120
    trial_rows: Count = 1500
    validation_users: Count = 600
    validation_rows: Count = 6000
    larger_rank: Count = 16
    larger_rank_from: Count = 300_000
    ratings_per_item: Count = 1000
    largest_rank: Count = 32
    implicit_trial: NonNegative = 30.0
    implicit_trial_rank: Count = 64
    implicit_up_to: NonNegative = 50.0
    noise_shares: Annotated[tuple[Positive, ...], Field(min_length=1)] = (0.4, 0.6, 0.8, 1.0)
    amplitudes: Annotated[tuple[NonNegative, ...], Field(min_length=1)] = (1.0, 0.5, 0.25, 0.0)
    larger_amplitudes: tuple[NonNegative, ...] = (2.0,)
    time_factors: Annotated[tuple[NonNegative, ...], Field(min_length=1)] = (0.0, 1.0)
    least_gain: NonNegative = 0.002
    deviation_scale: Positive = 1.0
    group_scales: tuple[Positive, ...] = ()

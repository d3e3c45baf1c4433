"""Hierarchical Bayesian factors, learned from sums: variational Bayes whose every message adds up over users.

    r_ui = centre + unit (b_i + z_u . x_i + e),  x_i = (1, q_i, f_i),  z_u = (b_u, p_u, w_u) private,  (b_i, q_i) shared
    z_u ~ N(B' h_u + m_node, S_u),  (b_i, q_i) ~ N(G' F_i, S_i),  e ~ N(0, 1 / tau_u),  tau_u ~ Gamma(a0, a0 / tau)

Nodes send nothing but sums over users, so any division into nodes gives the model of the pooled ratings. Opening rounds
gather counts and moments, then co-ratings (see hierfed.methods.hierarchical.embedding).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from hierfed.data.content import Content
from hierfed.data.federation import Node, Nodes
from hierfed.data.ratings import Ratings
from hierfed.federated.checks import Check
from hierfed.federated.contract import Contribution, OnDone, SharedModel, ignore_share
from hierfed.federated.private import PrivateState
from hierfed.federated.steps import Limit
from hierfed.methods.hierarchical import opening
from hierfed.methods.hierarchical.beliefs import Beliefs, Strengths
from hierfed.methods.hierarchical.checks import opening_checks, round_checks
from hierfed.methods.hierarchical.cohort import PIECE_ROWS, Cohort, Team, add_up, cohort_of
from hierfed.methods.hierarchical.design import Design, design_of
from hierfed.methods.hierarchical.duties import HierarchicalDuties
from hierfed.methods.hierarchical.factor_states import (
    FactorsState,
    Memory,
    PooledStates,
    nothing_besides,
    state_of,
)
from hierfed.methods.hierarchical.factor_sums import RoundKnowledge, in_main_memory, round_sums
from hierfed.methods.hierarchical.items import blended, in_classes, update_items, update_users
from hierfed.methods.hierarchical.knowledge import Scale, SharedKnowledge
from hierfed.methods.hierarchical.limits import limits_of, reduced, restored
from hierfed.methods.hierarchical.models_of_nodes import models_of_nodes
from hierfed.methods.hierarchical.momentum import moved_on
from hierfed.methods.hierarchical.personal import PersonalFactors
from hierfed.methods.hierarchical.pieces import PiecewiseFactors
from hierfed.methods.hierarchical.rare_items import OFFSET, brought, moved_by, next_offset
from hierfed.methods.hierarchical.screening import credible_counts, credible_directions, credible_sums
from hierfed.methods.hierarchical.shared_model import RATERS, FactorsModel, after_opening_round
from hierfed.methods.hierarchical.together import FactorsTogether
from hierfed.methods.hierarchical.users import Users, node_means
from hierfed.models.devices import CPU
from hierfed.models.kernel import KernelSettings
from hierfed.models.threads import in_order

# Rounds before users get precisions of their own, and before items' priors are learned, since factors begin as noise.
ROUNDS_OF_COMMON_NOISE, ROUNDS_OF_FIRST_PRIOR = 2, 1
# If only some nodes take part, a round's step falls with this power of the rounds, down to their share of the users.
STEP_DECAY = 0.6


@dataclass(frozen=True)
class HierarchicalFactors(HierarchicalDuties):
    """Hierarchical Bayesian factors, fitted by variational Bayes on sums over users.

        r_ui = centre + unit (b_i + z_u . x_i + e),  x_i = (1, q_i, f_i),  z_u = (b_u, p_u, w_u)

    Users keep z_u; the server learns (b_i, q_i) and all priors, which this module's docstring gives.

    Source: variational Bayes for matrix factorisation (Lim and Teh, KDD Cup and Workshop 2007). If only some nodes take
    part: stochastic variational inference (Hoffman et al., 2013).

    content: public features of the items.
    threshold: items with fewer raters are never summed by themselves; see rare_items.
    embedding_rank, embedding_rounds: columns of the embedding, and rounds of subspace iteration.
    between_nodes: True allows nodes means of their own.
    kernel: of the users' kriging; None for none.
    limits: the lowest and the highest possible rating.
    deviation_scale: factor on the standard deviations of personal predictions.
    implicit_scale: factor on users' means of the embedding as covariates; 0 leaves them out.
    group_scales: further factors by the number of own ratings; see hierfed.models.intervals.
    everyone: True if all nodes take part in every round; else each round moves the model a part of the way.
    momentum: of the server, if everyone takes part; see hierfed.methods.hierarchical.momentum.
    rare_at_node: True lets a node's personal models learn of items under the threshold from its own users.
    device: the device of the nodes' rounds; all else is done on the CPU.
    """

    content: Content
    rank: int
    threshold: int
    embedding_rank: int
    embedding_rounds: int
    strengths: Strengths
    between_nodes: bool
    kernel: KernelSettings | None
    limits: tuple[float, float]
    seed: int
    deviation_scale: float = 1.0
    implicit_scale: float = 0.0
    group_scales: tuple[float, ...] = ()
    threads: int = 1
    chunk_rows: int = PIECE_ROWS
    everyone: bool = True
    momentum: float = 0.0
    rare_at_node: bool = False
    device: torch.device = CPU

    @property
    def opening_rounds(self) -> int:
        """Counts, subspace iterations, and one round of implicit factorisation."""
        return 1 + (self.embedding_rounds + 1 if self.embedding_rank else 0)

    @property
    def steering_rounds(self) -> range:
        """Products with the co-rating matrix, which turn its basis. See SteeredMethod."""
        return range(2 - self.opening_rounds, 0)

    def start(self) -> SharedModel:
        """An empty model; see SumMethod."""
        return SharedModel({}, round=-self.opening_rounds)

    def contribute(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> Iterator[tuple[Contribution, FactorsState]]:
        """Counts; then products with the co-rating matrix; then the sums over users' posteriors. See SumMethod."""
        known = self._round_knowledge(shared) if shared.arrays else None
        # Threads share the nodes, or the users of a node that is alone.
        each = self if len(nodes) == 1 else replace(self, threads=1)

        def work(pair: tuple[Node, PrivateState | None]) -> tuple[Contribution, FactorsState]:
            state = state_of([pair[0]], pair[1])
            if shared.arrays and not state.arranged:
                state = replace(state, arranged=tuple(map(self._ready(shared, state.cohort), state.cohort.pieces)))
            sums, memory = each._sums(shared, known, state.cohort, state.arranged, state.memory)
            return Contribution(sums), replace(state, memory=memory)

        yield from in_order(work, zip(nodes, private, strict=True), min(self.threads, len(nodes)))

    def contribute_pooled(
        self,
        shared: SharedModel,
        nodes: Nodes,
        private: Sequence[PrivateState | None],
        on_done: OnDone = ignore_share,
    ) -> tuple[Contribution, PooledStates]:
        """The same sums over many nodes' users at once, equal up to rounding; see PooledMethod."""
        states = private if isinstance(private, PooledStates) else PooledStates(cohort_of(nodes.everyone()))
        known = self._round_knowledge(shared) if shared.arrays else None
        if len(nodes) < len(states):
            cohort = states.cohort.of_nodes(nodes.numbers)
            sums, memory = self._sums(shared, known, cohort, (), states.remembered(nodes.numbers), on_done)
        else:
            if shared.arrays and not states.arranged:
                ready = self._ready(shared, states.cohort)
                states = replace(states, arranged=tuple(in_order(ready, states.cohort.pieces, self.threads)))
            sums, memory = self._sums(shared, known, states.cohort, states.arranged, states.memory, on_done)
        return Contribution(sums), states if memory is None else states.after(nodes.numbers, memory)

    def combine(self, shared: SharedModel, total: Contribution) -> FactorsModel:
        """The next basis, embedding or posteriors; see SumMethod."""
        if shared.round < 0:
            return after_opening_round(self, shared, total.arrays)
        design = self.design(shared)
        features = shared.prior_features if isinstance(shared, FactorsModel) else None
        if features is None:
            features = design.prior_features(shared.arrays["embedding"])
        beliefs, sums = Beliefs.of(shared.arrays), total.arrays
        own_noise, learn_prior = shared.round >= ROUNDS_OF_COMMON_NOISE, shared.round >= ROUNDS_OF_FIRST_PRIOR
        # Under common noise the sums themselves tell how many raters are in them; all counted ones, unless nodes miss.
        raters = shared.server[RATERS][design.shared_items]
        sums = in_classes(sums, raters if own_noise else sums["item_precision"][:, 0] / beliefs.precision)
        users = update_users(beliefs, design, sums, self.strengths, own_noise)
        if self.everyone:
            items = update_items(beliefs, design, features, sums, self.strengths, learn_prior)
            rare = next_offset(shared.arrays, sums)
        else:
            share = float(sums["users"] / shared.arrays["users"])
            step = max(share, (shared.round + 1) ** -STEP_DECAY)
            users = blended(beliefs, users, step)
            items = update_items(beliefs, design, features, sums, self.strengths, learn_prior, 1 / share, step)
            rare = next_offset(shared.arrays, sums, 1 / share, step)
        found = {**shared.arrays, **Beliefs(*items, *users).arrays(), **rare}
        if OFFSET in found:
            found["item_mean"] = moved_by(found["item_mean"], design, found[OFFSET])
        arrays, server = moved_on(found, shared.server, self.momentum if self.everyone else 0.0)
        server[RATERS] = shared.server[RATERS]
        return FactorsModel(arrays, shared.round + 1, design, features, server=server)

    def brought(self, sums: Contribution, made_with: SharedModel, now: SharedModel) -> Contribution:
        """See DatedSums: all but one are told from zero."""
        return Contribution(brought(sums.arrays, made_with.arrays, now.arrays))

    def total_limits(self, shared: SharedModel) -> Mapping[str, Limit]:
        """See Limited."""
        return limits_of(shared.arrays, self.design(shared), self.rank, shared.round) if shared.arrays else {}

    def reduced(self, contribution: Contribution, shared: SharedModel) -> Contribution:
        """Pulls from the items' means in place of pulls from zero; see Limited."""
        return reduced(contribution, shared, self.design(shared)) if shared.round >= 0 else contribution

    def restored(self, total: Contribution, shared: SharedModel) -> Contribution:
        """See Limited."""
        return restored(total, shared, self.design(shared)) if shared.round >= 0 else total

    def screened(self, shared: SharedModel, given: Sequence[Contribution]) -> list[Contribution]:
        """The contributions of users and ratings that there can be; see hierfed.federated.screen."""
        if not shared.arrays:
            return credible_counts(given, self.limits)
        if shared.round < 0:
            return credible_directions(given)
        design = self.design(shared)
        features = design.prior_features(shared.arrays["embedding"])
        return credible_sums(given, Beliefs.of(shared.arrays), design, features)

    def checks(self, shared: SharedModel) -> Sequence[Check]:
        """Bounds of each user's and each rating's influence; see SumMethod."""
        if not shared.arrays:
            return opening_checks(self.limits)
        design = self.design(shared)
        if shared.round < 0:
            return opening.checks(shared.arrays, design)
        return round_checks(shared.arrays, design, self.limits, self.strengths.noise)

    def train_loss(self, total: Contribution) -> list[float]:
        """Expected squared error on the nodes' rows, in the ratings' unit; see Method."""
        return [float(total.arrays["loss"] / total.arrays["ratings"])]

    def predict(self, shared: SharedModel, ratings: Ratings) -> Tensor:
        """The expected ratings of an unknown user; see Method."""
        knowledge, beliefs = self.knowledge(shared, krige=False), Beliefs.of(shared.arrays)
        item = torch.from_numpy(ratings.item).long()
        prediction = beliefs.item_mean[item, 0] + knowledge.vectors(item) @ beliefs.covariate_weights[0]
        scale = knowledge.scale
        return (scale.centre + scale.unit * prediction).clamp(scale.lowest, scale.highest)

    def personalise(
        self,
        shared: SharedModel,
        nodes: Sequence[Node],
        private: Sequence[PrivateState | None],
        besides: Callable[[Node], Ratings | None] = nothing_besides,
        wanted: Sequence[np.ndarray] | None = None,
    ) -> Sequence[PersonalFactors | PiecewiseFactors] | FactorsTogether:
        """Each node's users, kriged. Users who took part in all rounds take their own sums out again. See Method.

        If there are more ratings than memory should hold vectors of, models are made on demand.

        besides: gives further rows of a node's users, to learn from, that are not in its sums; None for none.
        wanted: the numbers of the users who are asked for, by node; None for all. Of many nodes, all are there.
        """
        return models_of_nodes(self, shared, nodes, private, besides, wanted)

    def knowledge(self, shared: SharedModel, krige: bool = True) -> SharedKnowledge:
        """The shared model and public features, as a node needs them to serve its users."""
        beliefs, design = Beliefs.of(shared.arrays), self.design(shared)
        centre, unit = shared.arrays["scale"].tolist()
        kernel = None
        if krige and self.kernel is not None:
            kernel = self.kernel.kernel(self.content, design.embedded(shared.arrays["embedding"]))
        share = self.kernel.noise_share if kernel is not None and self.kernel is not None else 1.0
        return SharedKnowledge(
            beliefs,
            design,
            Scale(centre, unit, *self.limits),
            kernel,
            share,
            self.deviation_scale,
            self.threads,
            self.implicit(shared.arrays, design),
            self.group_scales,
        )

    def implicit(self, arrays: Mapping[str, Tensor], design: Design) -> Tensor | None:
        """The embedding [items, k] whose means over a user's rated items are covariates; None for none.

        So what a user has rated at all tells of the user, as in SVD++ (Koren, KDD 2008), in sums over users.
        """
        if not self.implicit_scale or not self.embedding_rank:
            return None
        return design.embedded(arrays["embedding"]) * (self.implicit_scale / math.sqrt(self.embedding_rank))

    def design(self, shared: SharedModel) -> Design:
        """The features of all items as this model uses them."""
        if isinstance(shared, FactorsModel) and shared.design is not None:
            return shared.design
        return design_of(self.content, shared.arrays["raters"], self.threshold)

    def arrange(self, shared: SharedModel, cohort: Cohort) -> Callable[[slice], Users]:
        """A function that arranges users of a cohort, by their places in it, for the sums and for their own models."""
        design, scale = self.design(shared), shared.arrays["scale"]
        return lambda users: cohort.arranged(users, scale, design)

    def _ready(self, shared: SharedModel, cohort: Cohort) -> Callable[[slice], Users]:
        """A function that arranges users, on the device of the rounds."""
        arrange = self.arrange(shared, cohort)
        return lambda users: arrange(users).to(self.device)

    def means_of_nodes(self, beliefs: Beliefs, cohort: Cohort, memory: Memory | None) -> Tensor:
        """m_node [nodes, t]; 0 if nodes have no means of their own."""
        if memory is None or not self.between_nodes:
            return torch.zeros(len(cohort.nodes) - 1, len(beliefs.node_variance), dtype=torch.float64)
        return node_means(beliefs, memory.deviation, cohort.users_of_nodes)

    def _sums(
        self,
        shared: SharedModel,
        known: RoundKnowledge | opening.OpeningPart | None,
        cohort: Cohort,
        arranged: tuple[Users, ...],
        memory: Memory | None,
        on_done: OnDone = ignore_share,
    ) -> tuple[dict[str, Tensor], Memory | None]:
        """A cohort's sums for the next round, and its users' memory.

        Users that are not arranged are arranged on demand.

        known: as `_round_knowledge` gives it; None in the round of counts.
        """
        if known is None:
            return opening.counts(cohort, len(self.content)), memory
        team, by_need = Team(self.threads, self.chunk_rows), self._ready(shared, cohort)

        def users(piece: int) -> Users:
            return arranged[piece] if arranged else by_need(cohort.pieces[piece])

        if not isinstance(known, RoundKnowledge):
            parts = cohort.parts(lambda piece: known(users(piece).rows), team, on_done)
            return in_main_memory(add_up(parts, len(self.design(shared).shared_items))), memory
        beliefs = Beliefs.of(shared.arrays)
        precision = beliefs.precision.expand(len(cohort))
        if shared.round > ROUNDS_OF_COMMON_NOISE and memory is not None:
            precision = torch.where(memory.precision.isnan(), precision, memory.precision)
        at_nodes = self.means_of_nodes(beliefs, cohort, memory)
        return round_sums(known, cohort, users, at_nodes, precision, team, on_done)

    def _round_knowledge(self, shared: SharedModel) -> RoundKnowledge | opening.OpeningPart:
        """The inputs of all nodes to the next round, on its device, made once for all of them.

        Of an opening round: the function from users' rows to their part of its sums.
        """
        arrays = {name: array.to(self.device) for name, array in shared.arrays.items()}
        design, own_noise = self.design(shared).to(self.device), shared.round >= ROUNDS_OF_COMMON_NOISE
        if shared.round < 0:
            return opening.co_ratings(arrays, design)
        implicit, unit, pooled = self.implicit(arrays, design), arrays["scale"][1], OFFSET in arrays
        beliefs, strength = Beliefs.of(arrays), self.strengths.noise
        return RoundKnowledge.of(beliefs, design, own_noise, strength, unit, implicit, pooled, self.threshold)

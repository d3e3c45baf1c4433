"""Hierarchical Bayesian factors, learned from sums: variational Bayes whose every message adds up over users.

    r_ui = centre + unit (b_i + z_u . x_i + e),  x_i = (1, q_i, f_i),  z_u = (b_u, p_u, w_u) private,  (b_i, q_i) shared
    z_u ~ N(B' h_u + m_node, S_u),  (b_i, q_i) ~ N(G' F_i, S_i),  e ~ N(0, 1 / tau_u),  tau_u ~ Gamma(a0, a0 / tau)

Nodes send nothing but sums over users, so any division into nodes gives the model of the pooled ratings. Opening rounds
gather counts and moments, then co-ratings (see hierfed.methods.hierarchical.embedding).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from hierfed.data.content import Content
from hierfed.data.federation import Node, Nodes, row_counts
from hierfed.data.ratings import Ratings, concatenated
from hierfed.federated.checks import Check
from hierfed.federated.contract import Contribution, OnDone, SharedModel, ignore_share
from hierfed.federated.private import ModelsOnDemand, PrivateState
from hierfed.federated.steps import Limit
from hierfed.methods.hierarchical import opening
from hierfed.methods.hierarchical.beliefs import Beliefs, Strengths, first_beliefs
from hierfed.methods.hierarchical.checks import opening_checks, round_checks
from hierfed.methods.hierarchical.cohort import PIECE_ROWS, Cohort, Team, add_up, cohort_of
from hierfed.methods.hierarchical.design import Design, design_of
from hierfed.methods.hierarchical.duties import HierarchicalDuties
from hierfed.methods.hierarchical.embedding import OVERSAMPLING
from hierfed.methods.hierarchical.factor_states import (
    FactorsState,
    Memory,
    PooledStates,
    last_sums,
    nothing_besides,
    state_of,
)
from hierfed.methods.hierarchical.factor_sums import RoundKnowledge, in_main_memory, round_sums
from hierfed.methods.hierarchical.items import blended, update_items, update_users
from hierfed.methods.hierarchical.knowledge import Scale, SharedKnowledge
from hierfed.methods.hierarchical.limits import limits_of, reduced, restored
from hierfed.methods.hierarchical.momentum import moved_on
from hierfed.methods.hierarchical.node_items import node_items
from hierfed.methods.hierarchical.personal import PersonalFactors
from hierfed.methods.hierarchical.personalising import personalise_users
from hierfed.methods.hierarchical.pieces import PiecewiseFactors
from hierfed.methods.hierarchical.rare_items import OFFSET, brought, moved_by, next_offset, no_offset
from hierfed.methods.hierarchical.screening import credible_counts, credible_directions, credible_sums
from hierfed.methods.hierarchical.together import FactorsTogether, NodeBlock
from hierfed.methods.hierarchical.users import Users, node_means
from hierfed.models.devices import CPU
from hierfed.models.kernel import KernelSettings
from hierfed.models.threads import in_order
from hierfed.randomness import generator

# Rounds before users get precisions of their own, and before items' priors are learned, since factors begin as noise.
ROUNDS_OF_COMMON_NOISE, ROUNDS_OF_FIRST_PRIOR = 2, 1
# If only some nodes take part, a round's step falls with this power of the rounds, down to their share of the users.
STEP_DECAY = 0.6
# Personal models are kept for at most so many ratings and nodes. With vectors, a rating takes some hundred bytes.
KEPT_RATINGS, KEPT_NODES = 1 << 21, 256


@dataclass(frozen=True)
class FactorsModel(SharedModel):
    """The shared model, with quantities that the server derives from its arrays once, and not again in every round."""

    design: Design | None = field(default=None, compare=False)
    prior_features: Tensor | None = field(default=None, compare=False)


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

    def start(self) -> SharedModel:
        """An empty model; see SumMethod."""
        return SharedModel({}, round=-self.opening_rounds)

    def contribute(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> Iterator[tuple[Contribution, FactorsState]]:
        """Counts; then products with the co-rating matrix; then the sums over users' posteriors. See SumMethod."""
        known = self._round_knowledge(shared) if shared.arrays else None
        for node, kept in zip(nodes, private, strict=True):
            state = state_of([node], kept)
            if shared.arrays and not state.arranged:
                state = replace(state, arranged=tuple(map(self._ready(shared, state.cohort), state.cohort.pieces)))
            sums, memory = self._sums(shared, known, state.cohort, state.arranged, state.memory)
            yield Contribution(sums), replace(state, memory=memory)

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
        if not shared.arrays:
            return self._begin(shared, total.arrays)
        if shared.round < 0:
            return self._embed(shared, total.arrays)
        design = self.design(shared)
        features = shared.prior_features if isinstance(shared, FactorsModel) else None
        if features is None:
            features = design.prior_features(shared.arrays["embedding"])
        beliefs, sums = Beliefs.of(shared.arrays), total.arrays
        own_noise, learn_prior = shared.round >= ROUNDS_OF_COMMON_NOISE, shared.round >= ROUNDS_OF_FIRST_PRIOR
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
    ) -> Sequence[PersonalFactors | PiecewiseFactors] | FactorsTogether:
        """Each node's users, kriged. Users who took part in all rounds take their own sums out again. See Method.

        If there are more ratings than memory should hold vectors of, models are made on demand.

        besides: gives further rows of a node's users, to learn from, that are not in its sums; None for none.
        """
        knowledge = self.knowledge(shared)

        def make(place: int) -> PersonalFactors | PiecewiseFactors:
            return self.personal(shared, knowledge, state_of([nodes[place]], private[place]), besides(nodes[place]))

        rows = row_counts(nodes)
        if len(nodes) <= KEPT_NODES and rows.sum() <= KEPT_RATINGS:
            return [make(place) for place in range(len(nodes))]
        states = private if isinstance(private, PooledStates) else None
        plain = not isinstance(nodes, Nodes) or (states is None and private[0] is not None)
        if len(nodes) <= KEPT_NODES or self.rare_at_node or plain:
            return ModelsOnDemand(len(nodes), make)
        assert isinstance(nodes, Nodes)
        many = nodes
        stride = 1 + max(int(rows_of.ratings.user.max(initial=0)) for rows_of in (nodes.train, nodes.test))

        def block(places: range) -> NodeBlock:
            return self._block(shared, knowledge, many, states, places, stride, besides)

        return FactorsTogether(rows, PIECE_ROWS, stride, block, make)

    def _block(
        self,
        shared: SharedModel,
        knowledge: SharedKnowledge,
        nodes: Nodes,
        states: PooledStates | None,
        places: range,
        stride: int,
        besides: Callable[[Node], Ratings | None],
    ) -> NodeBlock:
        """The users of the nodes at these places, kriged; see `personalise`.

        states: of all nodes; None for nodes that sent nothing. stride: see ModelsTogether.
        """
        some = nodes[places.start : places.stop]
        trained = cohort_of(some).numbered_among_all(places.start, stride)
        memory = None if states is None else states.remembered(np.arange(places.start, places.stop))
        further, cohort = [besides(node) for node in some], trained
        if any(each is not None for each in further):
            rows = (
                node.train if more is None else concatenated([node.train, more])
                for node, more in zip(some, further, strict=True)
            )
            joined = [Node(0, "", each, each.between(0, 0)) for each in rows]
            cohort = cohort_of(joined).numbered_among_all(places.start, stride)
        every = slice(0, len(cohort))
        users, at_nodes = self._arrange(shared, cohort)(every), self._node_means(knowledge.beliefs, trained, memory)
        last = None
        if memory is not None and self.everyone:
            last = last_sums(trained, memory, cohort.users, None if cohort is trained else users.rows)
        numbers, mine = torch.from_numpy(cohort.users), at_nodes[cohort.node_of_users]
        model = personalise_users(knowledge, numbers, users, mine, self.strengths.noise, last, cohort.times_of(every))
        return NodeBlock(model, cohort.nodes, knowledge.beliefs.covariate_weights[0] + at_nodes)

    def personal(
        self, shared: SharedModel, knowledge: SharedKnowledge, state: FactorsState, besides: Ratings | None
    ) -> PersonalFactors | PiecewiseFactors:
        """The users of one node, kriged; besides: further rows of theirs."""
        trained, memory = state.cohort, state.memory
        cohort = trained if besides is None else trained.joined(besides)
        arrange, at_node = self._arrange(shared, cohort), self._node_means(knowledge.beliefs, trained, memory)[0]
        numbers = torch.from_numpy(cohort.users)
        if self.rare_at_node and memory is not None and self.everyone and len(trained) > 1:
            known = memory.posterior, memory.precision
            own_items = node_items(knowledge.beliefs, knowledge.design, shared.arrays["scale"], trained, *known)
            knowledge = knowledge.of_node(own_items)

        def piece(number: int) -> PersonalFactors:
            chosen = cohort.pieces[number]
            users = arrange(chosen)
            last = None
            if memory is not None and self.everyone:
                last = last_sums(trained, memory, cohort.users[chosen], None if besides is None else users.rows)
            times = cohort.times_of(chosen)
            return personalise_users(knowledge, numbers[chosen], users, at_node, self.strengths.noise, last, times)

        return piece(0) if len(cohort.pieces) == 1 else PiecewiseFactors(knowledge, numbers, cohort.pieces, piece)

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

    def _arrange(self, shared: SharedModel, cohort: Cohort) -> Callable[[slice], Users]:
        design, scale = self.design(shared), shared.arrays["scale"]
        return lambda users: cohort.arranged(users, scale, design)

    def _ready(self, shared: SharedModel, cohort: Cohort) -> Callable[[slice], Users]:
        """A function that arranges users, on the device of the rounds."""
        arrange = self._arrange(shared, cohort)
        return lambda users: arrange(users).to(self.device)

    def _node_means(self, beliefs: Beliefs, cohort: Cohort, memory: Memory | None) -> Tensor:
        """m_node [nodes, t]; 0 if nodes have no means of their own."""
        if memory is None or not self.between_nodes:
            return torch.zeros(len(cohort.nodes) - 1, len(beliefs.node_variance), dtype=torch.float64)
        return node_means(beliefs, memory.deviation, cohort.users_of_nodes)

    def _begin(self, shared: SharedModel, sums: Mapping[str, Tensor]) -> FactorsModel:
        arrays = opening.first_arrays(sums, self.threshold)
        design = design_of(self.content, arrays["raters"], self.threshold)
        if not self.embedding_rank:
            embedding = arrays["raters"].new_zeros(len(self.content), 0)
            return self._first_beliefs(arrays | {"embedding": embedding}, design)
        columns = min(self.embedding_rank + OVERSAMPLING, len(self.content))
        basis = torch.linalg.qr(self._normal(columns, "embedding") * design.shared[:, None])[0]
        return FactorsModel(arrays | {"basis": basis}, shared.round + 1, design)

    def _embed(self, shared: SharedModel, sums: Mapping[str, Tensor]) -> FactorsModel:
        design = self.design(shared)
        last_product = shared.round == -2
        arrays = opening.next_arrays(shared.arrays, design, sums, self.embedding_rank, last_product)
        if shared.round == -1:
            return self._first_beliefs(arrays, design)
        return FactorsModel(arrays, shared.round + 1, design)

    def _first_beliefs(self, arrays: dict[str, Tensor], design: Design) -> FactorsModel:
        features = design.prior_features(arrays["embedding"])
        implicit = self.embedding_rank if self.implicit_scale else 0
        beliefs = first_beliefs(design, features.shape[1], self.rank, self._normal(self.rank, "factors"), implicit)
        return FactorsModel(arrays | beliefs.arrays() | no_offset(design), 0, design, features)

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
        at_nodes = self._node_means(beliefs, cohort, memory)
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

    def _normal(self, columns: int, purpose: str) -> Tensor:
        draws = generator(self.seed, 0, 0, purpose).standard_normal((len(self.content), columns))
        return torch.from_numpy(draws)

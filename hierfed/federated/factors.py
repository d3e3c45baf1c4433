"""Hierarchical Bayesian factors, learned from sums: variational Bayes whose every message adds up over users.

    r_ui = centre + unit (b_i + z_u . x_i + e),  x_i = (1, q_i, f_i),  z_u = (b_u, p_u, w_u) private,  (b_i, q_i) shared
    z_u ~ N(B' h_u + m_node, S_u),  (b_i, q_i) ~ N(G' F_i, S_i),  e ~ N(0, 1 / tau_u),  tau_u ~ Gamma(a0, a0 / tau)

Since nothing but sums over users is sent, any division into nodes gives the model of the pooled ratings. Opening rounds
gather counts and moments, then what was rated together (see hierfed.models.factors.embedding).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hierfed.data.content import Content
from hierfed.data.federation import Node
from hierfed.data.ratings import Ratings
from hierfed.federated import opening
from hierfed.federated.contract import Contribution, SharedModel
from hierfed.models.factors.beliefs import Beliefs, Strengths, first_beliefs
from hierfed.models.factors.design import Design, design_of
from hierfed.models.factors.embedding import OVERSAMPLING
from hierfed.models.factors.items import update_items, update_users
from hierfed.models.factors.rows import arrange
from hierfed.models.factors.users import (
    Posterior,
    Users,
    evidence,
    item_sums,
    node_mean,
    posterior,
    precision_of,
    prepare,
)
from hierfed.personal.factors import PersonalFactors, Scale, SharedKnowledge, personalise_users
from hierfed.personal.kernel import KernelSettings
from hierfed.personal.private import PrivateState
from hierfed.randomness import generator

# Rounds before users get precisions of their own, and before items' priors are learned: the factors begin as noise.
ROUNDS_OF_COMMON_NOISE, ROUNDS_OF_FIRST_PRIOR = 2, 1


@dataclass(frozen=True)
class FactorsModel(SharedModel):
    """The shared model, with what the server derives from its arrays and need not derive again in every round."""

    design: Design | None = field(default=None, compare=False)
    prior_features: Tensor | None = field(default=None, compare=False)


@dataclass(frozen=True)
class FactorsState(PrivateState):
    """What a node keeps between rounds: its rows, arranged; and, from its last round, its users' posteriors.

    found, precision [users]: its users' posteriors and precisions, which made its last contribution. deviation [t]:
    the users' mean deviation from their prior means. None before the first round.
    """

    users: Users
    found: Posterior | None = None
    precision: Tensor | None = None
    deviation: Tensor | None = None

    def kept(self) -> dict[str, Tensor]:
        """The posteriors, precisions and deviation, once there are any; see PrivateState."""
        if self.found is None or self.precision is None or self.deviation is None:
            return {}
        return {**vars(self.found), "precision": self.precision, "deviation": self.deviation}


@dataclass(frozen=True)
class HierarchicalFactors:
    """The method; content: public features of the items.

    threshold: items with fewer raters are never summed; they keep what the prior makes of their content.
    embedding_rank, embedding_rounds: columns of the embedding, and rounds of subspace iteration. between_nodes: whether
    nodes may have means of their own. kernel: of the users' kriging, None for none. limits: the lowest and the highest
    rating that there is. deviation_scale: factor on the standard deviations of personal predictions.
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
    threads: int = 1

    @property
    def opening_rounds(self) -> int:
        """Counts, subspace iterations, and one round of implicit factorisation."""
        return 1 + (self.embedding_rounds + 1 if self.embedding_rank else 0)

    def start(self) -> SharedModel:
        """Nothing is known yet; see SumMethod."""
        return SharedModel({}, round=-self.opening_rounds)

    def contribute(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> Iterator[tuple[Contribution, FactorsState | None]]:
        """Counts; then products with the co-rating matrix; then the sums over users' posteriors. See SumMethod."""
        if not shared.arrays:
            for node in nodes:
                yield opening.counts(node.train, len(self.content)), None
            return
        design = self.design(shared)
        for node, kept in zip(nodes, private, strict=True):
            state = self.state_of(shared, design, node.train, kept)
            if shared.round >= 0:
                yield self._sums(shared, design, state)
            else:
                yield opening.co_ratings(shared.arrays, design, state.users.rows), state

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
        own_noise = shared.round >= ROUNDS_OF_COMMON_NOISE
        users = update_users(beliefs, design, sums, self.strengths, own_noise)
        learn_prior = shared.round >= ROUNDS_OF_FIRST_PRIOR
        items = update_items(beliefs, design, features, sums, self.strengths, learn_prior)
        return FactorsModel({**shared.arrays, **Beliefs(*items, *users).arrays()}, shared.round + 1, design, features)

    def train_loss(self, total: Contribution) -> list[float]:
        """Expected squared error on the nodes' rows, in the ratings' unit; see Method."""
        return [float(total.arrays["loss"] / total.arrays["ratings"])]

    def predict(self, shared: SharedModel, ratings: Ratings) -> Tensor:
        """The expected ratings of a user of whom nothing is known; see Method."""
        knowledge, beliefs = self.knowledge(shared, krige=False), Beliefs.of(shared.arrays)
        item = torch.from_numpy(ratings.item).long()
        prediction = beliefs.item_mean[item, 0] + knowledge.vectors(item) @ beliefs.covariate_weights[0]
        scale = knowledge.scale
        return (scale.centre + scale.unit * prediction).clamp(scale.lowest, scale.highest)

    def personalise(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> list[PersonalFactors]:
        """Each node's users, kriged; those who took part in the rounds take their own sums out again. See Method."""
        knowledge, models = self.knowledge(shared), []
        for node, kept in zip(nodes, private, strict=True):
            state = self.state_of(shared, knowledge.design, node.train, kept)
            last = None
            if state.found is not None and state.precision is not None:
                last = state.found, state.precision
            at_node = self.mean_of_node(knowledge.beliefs, state)
            models.append(personalise_users(knowledge, state.users, at_node, self.strengths.noise, last))
        return models

    def knowledge(self, shared: SharedModel, krige: bool = True) -> SharedKnowledge:
        """What a node needs of the shared model and of public features to serve its users."""
        beliefs, design = Beliefs.of(shared.arrays), self.design(shared)
        centre, unit = shared.arrays["scale"].tolist()
        kernel = None
        if krige and self.kernel is not None:
            kernel = self.kernel.kernel(self.content, design.embedded(shared.arrays["embedding"]))
        share = self.kernel.noise_share if kernel is not None and self.kernel is not None else 1.0
        return SharedKnowledge(
            beliefs, design, Scale(centre, unit, *self.limits), kernel, share, self.deviation_scale, self.threads
        )

    def named(self, shared: SharedModel) -> dict[str, Tensor]:
        """All arrays, the embedding's and the counts included; see Method."""
        return dict(shared.arrays)

    def design(self, shared: SharedModel) -> Design:
        """The features of all items as this model uses them."""
        if isinstance(shared, FactorsModel) and shared.design is not None:
            return shared.design
        return design_of(self.content, shared.arrays["raters"], self.threshold)

    def state_of(self, shared: SharedModel, design: Design, train: Ratings, kept: PrivateState | None) -> FactorsState:
        """A node's rows arranged, with what it kept from its last round, if it has taken part in any."""
        if isinstance(kept, FactorsState):
            return kept
        centre, unit = shared.arrays["scale"]
        value = torch.from_numpy(train.value).double()
        rows = arrange(train.user, train.item, (value - centre) / unit, design.slopes, design.shared)
        stored = kept.kept() if kept is not None else {}
        users = prepare(rows, design, self.rank)
        if not stored:
            return FactorsState(users)
        precision, deviation = stored.pop("precision"), stored.pop("deviation")
        return FactorsState(users, Posterior(**stored), precision, deviation)

    def precisions(self, shared: SharedModel, state: FactorsState) -> Tensor:
        """The precisions that users' posteriors use in the next round: their own, once they have them."""
        if shared.round > ROUNDS_OF_COMMON_NOISE and state.precision is not None:
            return state.precision
        return shared.arrays["precision"].expand(len(state.users.rows.users))

    def mean_of_node(self, beliefs: Beliefs, state: FactorsState) -> Tensor:
        """m_node [t]; 0 where nodes have no means of their own."""
        return node_mean(beliefs, state.deviation if self.between_nodes else None, len(state.users.rows.users))

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
        beliefs = first_beliefs(design, features.shape[1], self.rank, self._normal(self.rank, "factors"))
        return FactorsModel(arrays | beliefs.arrays(), 0, design, features)

    def _sums(self, shared: SharedModel, design: Design, state: FactorsState) -> tuple[Contribution, FactorsState]:
        beliefs, users = Beliefs.of(shared.arrays), state.users
        rows, known, at_node = users.rows, evidence(beliefs, design, users), self.mean_of_node(beliefs, state)
        prior = known.covariates @ beliefs.covariate_weights
        before = self.precisions(shared, state)
        found = posterior(known, beliefs.user_spread, prior + at_node, before)
        tau = before
        if shared.round >= ROUNDS_OF_COMMON_NOISE:
            tau = precision_of(self.strengths.noise, beliefs.precision, rows.counts, found.squared_error)
        item_precision, item_pull = item_sums(users, found, tau, self.rank)
        count = tau.new_tensor([len(tau)])
        deviation = (found.mean - prior).mean(0)
        deviations = found.mean - prior - at_node
        unit = shared.arrays["scale"][1]
        sent = {
            "item_precision": item_precision,
            "item_pull": item_pull,
            "covariate_products": known.covariates.T @ known.covariates,
            "covariate_targets": known.covariates.T @ (found.mean - at_node),
            "user_moments": deviations.T @ deviations + found.covariance.sum(0),
            "users": count,
            "precision": tau.sum().reshape(1),
            "squared_error": found.squared_error.sum().reshape(1),
            "ratings": rows.counts.sum().reshape(1),
            "loss": (unit.square() * found.squared_error.sum()).reshape(1),
            "node_moments": torch.stack(
                [
                    deviation,
                    deviation.square(),
                    (1 / count).expand_as(deviation),
                    torch.ones_like(deviation),
                    count * deviation.square(),
                    count * deviation,
                ]
            ),
        }
        return Contribution(sent), FactorsState(users, found, tau, deviation)

    def _normal(self, columns: int, purpose: str) -> Tensor:
        draws = generator(self.seed, 0, 0, purpose).standard_normal((len(self.content), columns))
        return torch.from_numpy(draws)

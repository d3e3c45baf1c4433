"""The hierarchical model with a mixture as the prior of users, trained in one process. Part of `kinds.py`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from mixture import Kinds, collapsed, expected, maximised
from torch import Tensor

from hierfed.data.federation import Node
from hierfed.data.ratings import Ratings
from hierfed.engines.in_process import run_rounds
from hierfed.federated.contract import SharedModel
from hierfed.federated.private import PrivateState
from hierfed.methods.hierarchical.beliefs import Beliefs
from hierfed.methods.hierarchical.cohort import Cohort, cohort_of
from hierfed.methods.hierarchical.factor_states import FactorsState, Memory, last_sums
from hierfed.methods.hierarchical.hierarchical import HierarchicalFactors
from hierfed.methods.hierarchical.items import update_items, update_users
from hierfed.methods.hierarchical.momentum import moved_on
from hierfed.methods.hierarchical.personalising import SWEEPS, personalise_users
from hierfed.methods.hierarchical.rare_items import OFFSET, moved_by, next_offset, rare_sums, told_by
from hierfed.methods.hierarchical.shared_model import FactorsModel
from hierfed.methods.hierarchical.users import (
    Evidence,
    Posterior,
    Users,
    evidence,
    item_moments,
    item_sums,
    precision_of,
)
from hierfed.models.symmetric import pack

# Directions of a split, steps of each on trial, and steps of the best. Rounds in which users keep the trial's shares,
# and further steps with the items held in each of the later rounds.
DIRECTIONS, TRIED, STEPS, HELD, INNER = 3, 4, 15, 4, 3
# A kind in which a user has a smaller share says nothing of that user's ratings.
SMALLEST = 1e-3


@dataclass(frozen=True)
class Fitted:
    """A trained model: what is shared, users' memory of the last round, kinds, and users' shares in them."""

    shared: SharedModel
    memory: Memory
    kinds: Kinds
    shares: Tensor


class Bed:
    """All users as one node, with rows to learn from; personal: rows of the users who are judged, None for the same."""

    def __init__(self, method: HierarchicalFactors, train: Ratings, personal: Ratings | None, test: Ratings):
        self.method, self.node = method, Node(0, "", train, train.between(0, 0))
        self.cohort, self.test = cohort_of([self.node]), test.untimed
        self.new = None if personal is None else cohort_of([Node(0, "", personal, personal.between(0, 0))])

    def one_kind(self, rounds: int) -> Fitted:
        """The package's own training."""
        trained = run_rounds(self.method, [self.node], rounds)
        (state,) = trained.private
        assert isinstance(state, FactorsState)
        assert state.memory is not None
        memory = state.memory
        return Fitted(
            trained.shared,
            memory,
            Kinds.alike(Beliefs.of(trained.shared.arrays)),
            torch.ones(len(self.cohort), 1).double(),
        )

    def seen(self, shared: SharedModel, cohort: Cohort) -> tuple[Evidence, Tensor]:
        """What users' ratings say, and their numbers."""
        moments, found = self.method.knowledge(shared, krige=False).moments, []
        users = [self.method.arrange(shared, cohort)(piece) for piece in cohort.pieces]
        found = [evidence(moments, each) for each in users]
        return _joined(found), torch.cat([each.rows.counts for each in users])

    def grown(self, fitted: Fitted) -> Iterator[Fitted]:
        """With items held: one more kind each time."""
        beliefs, seen = Beliefs.of(fitted.shared.arrays), self.seen(fitted.shared, self.cohort)[0]
        vectors = self.method.knowledge(fitted.shared, krige=False).vectors(torch.from_numpy(self.cohort.item).long())
        products, precision = vectors.T @ vectors / len(vectors), fitted.memory.precision

        def steps(kinds: Kinds, count: int) -> Kinds:
            for _ in range(count):
                found, shares, _ = expected(kinds, seen, precision)
                kinds = maximised(found, shares, seen.covariates, beliefs)
            return kinds

        kinds = fitted.kinds
        while True:
            tried = [
                steps(kinds.split(kind, direction, products), TRIED)
                for kind in range(len(kinds))
                for direction in range(DIRECTIONS)
            ]
            kinds = steps(max(tried, key=lambda each: expected(each, seen, precision)[2]), STEPS)
            yield replace(fitted, kinds=kinds, shares=expected(kinds, seen, precision)[1])

    def trained(self, begin: Tensor, rounds: int, known: bool = False) -> Fitted:
        """Items and kinds trained together, from these shares in kinds, as HierarchicalFactors combines.

        known: True if the shares stay; else they are the users' own findings after the first rounds.
        """
        method, shared = self.method, self.method.start()
        state: PrivateState | None = None
        while shared.round < 0:
            ((opening, state),) = method.contribute(shared, [self.node], [state])
            shared = method.combine(shared, opening)
        design, arrays, server = method.design(shared), dict(shared.arrays), dict[str, Tensor]()
        features = design.prior_features(arrays["embedding"])
        users = [method.arrange(shared, self.cohort)(piece) for piece in self.cohort.pieces]
        told = told_by(self.cohort, design, method.threshold)
        kinds, precision = Kinds.alike(Beliefs.of(arrays), begin.shape[1]), Tensor()
        for number in range(rounds):
            beliefs = Beliefs.of(arrays)
            moments = item_moments(beliefs, design, method.implicit(arrays, design), OFFSET in arrays)
            before = precision if number > 2 else beliefs.precision.expand(len(self.cohort))
            seen = _joined([evidence(moments, each) for each in users])
            found, shares, _ = expected(kinds, seen, before)
            if known or number < HELD:
                shares = begin
            else:
                for _ in range(INNER):
                    kinds = maximised(found, shares, seen.covariates, beliefs)
                    found, shares, _ = expected(kinds, seen, before)
            one, precision = collapsed(found, shares), before
            if number >= 2:
                counts = torch.cat([each.rows.counts for each in users])
                precision = precision_of(method.strengths.noise, beliefs.precision, counts, one.squared_error)
            sums = self._sums(beliefs, arrays, users, seen, one, precision, told)
            priors = update_users(beliefs, design, sums, method.strengths, number >= 2)
            items = update_items(beliefs, design, features, sums, method.strengths, number >= 1)
            arrays |= Beliefs(*items, *priors).arrays() | next_offset(arrays, sums)
            if OFFSET in arrays:
                arrays["item_mean"] = moved_by(arrays["item_mean"], design, arrays[OFFSET])
            kinds = maximised(found, shares, seen.covariates, Beliefs.of(arrays))
            arrays, server = moved_on(arrays, server, method.momentum)
        nobody = one.mean.new_zeros(1, one.mean.shape[1])
        memory = Memory(one.mean, pack(one.covariance), one.squared_error, precision, nobody)
        return Fitted(FactorsModel(arrays, rounds, design, features), memory, kinds, shares)

    def _sums(
        self,
        beliefs: Beliefs,
        arrays: dict[str, Tensor],
        users: Sequence[Users],
        seen: Evidence,
        one: Posterior,
        precision: Tensor,
        told: Tensor,
    ) -> dict[str, Tensor]:
        """The sums of a round, which a user's moments over all kinds give as they do of one."""
        design = self.method.design(SharedModel(arrays, 0))
        pulls = one.mean.new_zeros(len(design.shared_items), 1 + beliefs.rank)
        precisions = one.mean.new_zeros(len(pulls), beliefs.item_covariance.shape[1])
        for piece, each in zip(self.cohort.pieces, users, strict=True):
            part = Posterior(one.mean[piece], one.covariance[piece], one.squared_error[piece])
            of_items, pull = item_sums(design, each, part, precision[piece], beliefs.rank)
            precisions.index_add_(0, each.rows.sent, of_items)
            pulls.index_add_(0, each.rows.sent, pull)
        away = one.mean - seen.covariates @ beliefs.covariate_weights
        sums = {
            "item_precision": precisions,
            "item_pull": pulls,
            "covariate_products": seen.covariates.T @ seen.covariates,
            "covariate_targets": seen.covariates.T @ one.mean,
            "user_moments": away.T @ away + one.covariance.sum(0),
            "precision": precision.sum().reshape(1),
            "squared_error": one.squared_error.sum().reshape(1),
            "users": away.new_tensor([len(away)]),
            "ratings": away.new_tensor([len(self.cohort.item)]),
            "node_moments": away.new_zeros(6, away.shape[1]),
        }
        if seen.rare_vectors is not None:
            sums |= rare_sums(seen, one, precision, beliefs.item_spread[0, 0], told)
        return sums

    def asked(self, fitted: Fitted, cohort: Cohort, precision: Tensor | None) -> Tensor:
        """The shares in kinds that users' ratings give; precision: of each user, None for users who sent nothing."""
        beliefs, (seen, counts) = Beliefs.of(fitted.shared.arrays), self.seen(fitted.shared, cohort)
        if precision is not None:
            return expected(fitted.kinds, seen, precision)[1]
        precision = beliefs.precision.expand(len(cohort))
        for _ in range(SWEEPS):
            found, shares, _ = expected(fitted.kinds, seen, precision)
            error = collapsed(found, shares).squared_error
            precision = precision_of(self.method.strengths.noise, beliefs.precision, counts, error)
        return shares

    def predicted(self, fitted: Fitted, krige: bool, known: Tensor | None = None) -> np.ndarray:
        """What is expected of the test rows; known: users' shares in kinds, None to ask their ratings."""
        cohort, memory = (self.cohort, fitted.memory) if self.new is None else (self.new, None)
        shares = known
        if shares is None:
            shares = self.asked(fitted, cohort, None if memory is None else memory.precision)
        knowledge = replace(self.method, kernel=self.method.kernel if krige else None).knowledge(fitted.shared)
        arrange, users = self.method.arrange(fitted.shared, cohort), torch.from_numpy(cohort.users)
        every = fitted.kinds.shares.repeat(1 + int(max(self.test.user.max(), cohort.users.max())), 1)
        every[users] = shares
        of_rows = every[torch.from_numpy(self.test.user).long()].numpy()
        of_rows = np.where(of_rows > SMALLEST, of_rows, 0.0)
        total = np.zeros(len(self.test))
        for kind in range(len(fitted.kinds)):
            own = {"covariate_weights": fitted.kinds.weights[kind], "user_spread": fitted.kinds.spreads[kind]}
            told = replace(knowledge, beliefs=replace(knowledge.beliefs, **own))
            nowhere = own["user_spread"].new_zeros(len(own["user_spread"]))
            for piece in cohort.pieces:
                rows = np.flatnonzero((of_rows[:, kind] > 0) & np.isin(self.test.user, cohort.users[piece]))
                if not len(rows):
                    continue
                last = None if memory is None else last_sums(self.cohort, memory, cohort.users[piece], None)
                strength, times = self.method.strengths.noise, cohort.times_of(piece)
                models = personalise_users(told, users[piece], arrange(piece), nowhere, strength, last, times)
                total[rows] += of_rows[rows, kind] * models.distribution(self.test.take(rows))[0].numpy()
        scale = knowledge.scale
        within: np.ndarray = np.clip(total / of_rows.sum(1), scale.lowest, scale.highest)
        return within

    def rmse(self, fitted: Fitted, krige: bool, known: Tensor | None = None) -> float:
        """On the test rows."""
        return float(np.sqrt(np.mean((self.predicted(fitted, krige, known) - self.test.value) ** 2)))


def _joined(parts: Sequence[Evidence]) -> Evidence:
    together: dict[str, Any] = {
        name: None if value is None else torch.cat([getattr(each, name) for each in parts])
        for name, value in vars(parts[0]).items()
    }
    return Evidence(**together)

"""The hierarchical model outside its rounds: tuning, lists, rivals, and the cost of its threshold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np
from torch import Tensor

from hierfed.data.federation import Node
from hierfed.data.ratings import Ratings
from hierfed.federated.contract import SharedModel
from hierfed.federated.method import (
    MOST_REOPENING,
    JudgedItems,
    Learner,
    Method,
    Relearner,
    Restorer,
    RivalErrors,
    RivalRows,
    Scorer,
    Train,
    Tuned,
)
from hierfed.federated.private import PersonalModel, PrivateState
from hierfed.federated.rules import Rule
from hierfed.methods.hierarchical.factor_states import state_of
from hierfed.methods.hierarchical.models_of_nodes import model_of_node
from hierfed.methods.hierarchical.shared_model import FORMER_EMBEDDING, FactorsModel
from hierfed.methods.local.rivals import ALONE, each_user_alone
from hierfed.methods.ranking.choice import choose_lists, judged_users
from hierfed.methods.ranking.stages import BLEND, ranking_scorers
from hierfed.methods.ranking.validation import Held, hold_back, judges_random_rows
from hierfed.models.browser import BrowserModel
from hierfed.results import ListChoice, ThresholdRecord
from hierfed.settings import Settings

if TYPE_CHECKING:
    from hierfed.methods.hierarchical.hierarchical import HierarchicalFactors
    from hierfed.methods.hierarchical.personal import PersonalFactors


class HierarchicalDuties(Method):
    """The parts of the hierarchical model that a run calls outside its rounds; see HierarchicalFactors."""

    user_models = True
    resumes = True
    first_ratings_curve = True
    recommends_by = BLEND
    rival_name = ALONE

    @property
    def least_raters(self) -> int:
        """See Method."""
        return self._own.threshold

    def refit(
        self,
        shared: SharedModel,
        nodes: Sequence[Node],
        private: Sequence[PrivateState | None],
        besides: Callable[[Node], Ratings],
        judged: Sequence[PersonalModel],
    ) -> Sequence[PersonalModel]:
        """See Method."""
        return self._own.personalise(shared, nodes, private, besides)

    def restorer(self, shared: SharedModel) -> Restorer:
        """See Method."""
        from hierfed.methods.hierarchical.personal import restored  # noqa: PLC0415 - it serves this class

        return partial(restored, self._own.knowledge(shared))

    def learner(self, shared: SharedModel) -> Learner:
        """See Method. What all users share is made once."""
        own, knowledge = self._own, self._own.knowledge(shared)
        ready = FactorsModel(shared.arrays, shared.round, knowledge.design)

        def learn(rows: Ratings) -> PersonalModel:
            return model_of_node(own, ready, knowledge, state_of([Node(0, "", rows, rows.between(0, 0))], None), None)

        return learn

    def relearner(self, shared: SharedModel) -> Relearner:
        """See Method. What all users share is made once."""
        from hierfed.methods.hierarchical.cohort import cohort_of  # noqa: PLC0415 - it serves this class
        from hierfed.methods.hierarchical.node_items import NodeItems  # noqa: PLC0415
        from hierfed.methods.hierarchical.updates import ordered, relearned  # noqa: PLC0415

        own, knowledge = self._own, self._own.knowledge(shared)

        def relearn(
            rows: Ratings, before: Mapping[int, Mapping[str, Tensor]], node: Mapping[str, Tensor] | None
        ) -> PersonalModel:
            mine = ordered(rows)
            cohort = cohort_of([Node(0, "", mine, mine.between(0, 0))])
            users = cohort.arranged(slice(0, len(cohort)), shared.arrays["scale"], knowledge.design)
            here = knowledge.of_node(NodeItems.among(node or {}))
            together = node is not None and own.rare_at_node
            return relearned(here, cohort, users, own.strengths.noise, before, together)

        return relearn

    def reopened(self, before: SharedModel) -> SharedModel:
        """See Method: counts, and a product that gives new items their place in the embedding, which is kept."""
        first = -min(self._own.opening_rounds, MOST_REOPENING)
        return SharedModel({}, first, server={FORMER_EMBEDDING: before.arrays["embedding"].clone()})

    def resumed(self, opened: SharedModel, before: SharedModel) -> SharedModel:
        """See Method."""
        from hierfed.methods.hierarchical.rare_items import resumed_offset  # noqa: PLC0415 - it serves this class
        from hierfed.methods.hierarchical.resuming import resumed_beliefs  # noqa: PLC0415

        design = self._own.design(opened)
        features = design.prior_features(opened.arrays["embedding"])
        beliefs = resumed_beliefs(opened.arrays, before.arrays, design, features, self._own.strengths)
        arrays = resumed_offset({**opened.arrays, **beliefs.arrays()}, before.arrays, design)
        # A checkpoint holds both models, and cannot hold one array under two names.
        server = {name: array.clone() for name, array in opened.server.items()}
        return FactorsModel(arrays, before.round, design, features, server=server)

    def fits(self, before: SharedModel) -> bool:
        """See Method."""
        from hierfed.methods.hierarchical.design import design_of  # noqa: PLC0415 - it serves this class

        own, weights = self._own, before.arrays["item_weights"]
        design = design_of(own.content, weights.new_ones(len(own.content)), own.threshold)
        return len(weights) == design.content.shape[1] + own.embedding_rank

    def browser_model(self, shared: SharedModel) -> BrowserModel | None:
        """See Method."""
        from hierfed.methods.hierarchical.in_browser import browser_model  # noqa: PLC0415 - it serves this class

        knowledge = self._own.knowledge(shared)
        return None if knowledge.kernel is None else browser_model(knowledge, self._own.strengths.noise)

    def tunes(self, settings: Settings) -> bool:
        """See Method."""
        return settings.selection.select

    def tune(self, settings: Settings, nodes: Sequence[Node], train: Train, rule: Rule) -> Tuned:
        """See Method."""
        if settings.data.implicit:  # There is no rating to try anything on.
            return Tuned(settings)
        from hierfed.methods.hierarchical.selection import select  # noqa: PLC0415 - it makes candidates of this class

        return select(settings, self._own, nodes, train, rule)

    def tune_lists(
        self, tuned: Tuned, nodes: Sequence[Node], train: Train, rule: Rule
    ) -> tuple[Tuned, ListChoice | None]:
        """See Method."""
        settings, trial, tuned = tuned.settings, tuned.trial, replace(tuned, trial=None)
        if not settings.ranking.rank_items:
            return tuned, None
        from hierfed.methods.hierarchical.lists import expected_ratings  # noqa: PLC0415 - it serves this class

        own = self._own
        if trial is not None and judges_random_rows(settings.split):
            held, trained = Held(trial.nodes, trial.nodes), trial.trained
        else:
            held = hold_back(nodes, settings)
            trained = train(own, held.learning, settings.selection.validation_rounds)
        private = trained.private if held.judged is held.learning else [None] * len(held.judged)
        asked = judged_users(held.judged, len(own.content), settings.ranking.choice_users, settings.seed)
        users_of = {place: some.users.numpy() for place, some in asked}
        wanted = [users_of.get(place, np.empty(0, np.int64)) for place in range(len(held.judged))]
        models = own.personalise(trained.shared, held.judged, private, wanted=wanted)

        def expected(place: int, users: Tensor) -> Tensor:
            return expected_ratings([models[place]])(users)

        chosen, record = choose_lists(settings, own.content, trained.shared, held, expected, train, rule)
        return replace(tuned, settings=chosen), record

    def scorers(
        self, settings: Settings, models: Mapping[str, SharedModel], personal: Sequence[PersonalModel], own: Ratings
    ) -> dict[str, Scorer]:
        """See Method."""
        if not settings.ranking.rank_items:
            return {}
        from hierfed.methods.hierarchical.lists import expected_ratings  # noqa: PLC0415 - it serves this class

        expected = expected_ratings(cast("Sequence[PersonalFactors]", personal))
        return ranking_scorers(settings, models, expected, own)

    def rivals(self, rows: RivalRows) -> RivalErrors:
        """See Method."""
        own = self._own
        return each_user_alone(own.content, own.limits, own.threads, rows)

    def threshold_record(self, shared: SharedModel, judged: JudgedItems) -> ThresholdRecord:
        """See Method."""
        raters, least = shared.arrays["raters"].numpy(), self._own.threshold
        under = raters[judged.item] < least

        def root_mean(chosen: np.ndarray) -> float:
            return float(np.sqrt(np.mean(judged.error[chosen] ** 2))) if chosen.any() else float("nan")

        return ThresholdRecord(
            min_raters=least,
            items=int((raters < least).sum()),
            rows=int(under.sum()),
            rmse=root_mean(under),
            rmse_others=root_mean(~under),
            share=float(under.mean()) if len(under) else float("nan"),
        )

    @property
    def _own(self) -> HierarchicalFactors:
        return cast("HierarchicalFactors", self)

"""The base of every method of ratings, with a default for all that a run, a federation and a server ask of it.

So no caller needs to know which method it is. Source: the contract in hierfed.federated.contract.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import nan
from typing import ClassVar

import numpy as np
from torch import Tensor

from hierfed.data.federation import Node, Nodes
from hierfed.data.ratings import Ratings, concatenated
from hierfed.federated.checks import Check
from hierfed.federated.contract import Contribution, SharedModel, SumMethod
from hierfed.federated.private import PersonalModel, PrivateState
from hierfed.federated.rules import Rule
from hierfed.federated.stage import RATING
from hierfed.models.browser import BrowserModel
from hierfed.results import ListChoice, Selection, ThresholdRecord
from hierfed.settings import Settings

Scorer = Callable[[Tensor], Tensor]
"""Scores of all items, float64 [users, items], for user numbers, int64 [users]."""


Restorer = Callable[[Mapping[str, Tensor]], PersonalModel]
"""Makes the model of one user, number 0, from the tensors of PersonalModel.tensors, both the user's and those that the
node's users share; from none of the user's, a newcomer's."""

Learner = Callable[[Ratings], PersonalModel]
"""Makes the model of users who took part in nothing, by the numbers in their rows, from these rows."""

Relearner = Callable[[Ratings, Mapping[int, Mapping[str, Tensor]], Mapping[str, Tensor] | None], PersonalModel]
"""Makes the model of users from their ratings as they are now.

It is given the ratings, by the users' numbers; the tensors of their own files, by the same numbers, none of new users;
and the tensors of their node, whose users learn from each other, or None for users who do not.
"""


MOST_REOPENING = 2
"""The opening rounds, at the most, of a training that goes on and keeps what it can of the former opening."""


@dataclass(frozen=True)
class Trained:
    """A finished training: the shared model, and what each node kept, in the order of the nodes."""

    shared: SharedModel
    private: Sequence[PrivateState | None]


Train = Callable[[SumMethod, Sequence[Node], int], Trained]
"""Trains a method over nodes for so many rounds, by the engine and the sums of the run."""


@dataclass(frozen=True)
class TrialTraining:
    """The training of the chosen hyperparameters on a part of the train rows.

    nodes: with the rows that it learned from, and the validation rows as test rows.
    """

    nodes: Nodes
    trained: Trained


@dataclass(frozen=True)
class Tuned:
    """The settings with chosen hyperparameters.

    record: of the choice; None where the data allow none.
    trial: for the choice of lists, which drops it; None where there is none.
    """

    settings: Settings
    record: Selection | None = None
    trial: TrialTraining | None = None


@dataclass(frozen=True)
class RivalRows:
    """The nodes and rows of rivals that learn without a federation.

    same: whether the personalisation users' rows are the federated users' own.
    rounds: how many the federation trained; rivals train no longer.
    """

    nodes: Sequence[Node]
    personal_nodes: Sequence[Node]
    train: Ratings
    test: Ratings
    personal_train: Ratings
    personal_test: Ratings
    same: bool
    rounds: int


@dataclass(frozen=True)
class RivalErrors:
    """RMSE without a federation, on the test rows and on the personalisation users' held-out rows; NaN: not measured.

    local_only: learned without sending anything. centralised: learned from all rows in one place.
    """

    local_only: float = nan
    personal_local_only: float = nan
    centralised: float = nan
    personal_centralised: float = nan


@dataclass(frozen=True)
class JudgedItems:
    """Held-out rows of the personal models: the item of each, and the personal model's error."""

    item: np.ndarray
    error: np.ndarray


class Method:
    """A federated model of ratings, which nodes and their users make their own; see SumMethod for its rounds.

    user_models: whether each user of a federated node gets a model, so that all can be served.
    resumes: whether a finished model can go on over other rows; see `resumed`.
    first_ratings_curve: whether new users' first ratings are measured under protocol cold.
    recommends_by: which of the scorers makes the lists.
    remedy: what to do where a training diverged.
    rival_name: what `RivalErrors.local_only` is called in the verdict; empty where the verdict does not name it.
    """

    user_models: ClassVar[bool] = False
    resumes: ClassVar[bool] = False
    first_ratings_curve: ClassVar[bool] = False
    recommends_by: ClassVar[str] = RATING
    rival_name: ClassVar[str] = ""
    remedy: ClassVar[str] = "look for ratings of extreme size with `hierfed data`"

    @property
    def local_epochs(self) -> int:
        """The number of times that a round learns from each rating."""
        return 1

    @property
    def least_raters(self) -> int:
        """The number of raters under which an item is never summed."""
        return 0

    def start(self) -> SharedModel:
        """See SumMethod."""
        raise NotImplementedError

    def contribute(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> Iterator[tuple[Contribution, PrivateState | None]]:
        """See SumMethod."""
        raise NotImplementedError

    def combine(self, shared: SharedModel, total: Contribution) -> SharedModel:
        """See SumMethod."""
        raise NotImplementedError

    def checks(self, shared: SharedModel) -> Sequence[Check]:
        """See SumMethod."""
        raise NotImplementedError

    def train_loss(self, total: Contribution) -> list[float]:
        """The nodes' training loss in each local epoch of the round with this total: MSE, mean over rows."""
        return []

    def predict(self, shared: SharedModel, ratings: Ratings) -> Tensor:
        """The shared model's expected ratings of these rows, float64 [rows]; it knows nothing of the users."""
        raise NotImplementedError

    def named(self, shared: SharedModel) -> dict[str, Tensor]:
        """The shared model as named tensors, for export."""
        return dict(shared.arrays)

    def from_named(self, tensors: Mapping[str, Tensor], finished_round: int) -> SharedModel:
        """The shared model again, from the tensors of `named`."""
        return SharedModel(tensors, finished_round)

    def header(self) -> dict[str, str]:
        """Facts for the header of the shared model's file, beside the settings.

        An entry `unserved` tells why nobody can be served from the file.
        """
        return {}

    def personalise(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> Sequence[PersonalModel]:
        """Each node's own model, fitted on the node's train rows; nothing is sent.

        private: what each node kept from the rounds, None where it took no part in them.
        """
        raise NotImplementedError

    def refit(
        self,
        shared: SharedModel,
        nodes: Sequence[Node],
        private: Sequence[PrivateState | None],
        besides: Callable[[Node], Ratings],
        judged: Sequence[PersonalModel],
    ) -> Sequence[PersonalModel]:
        """Each node's own model for use, fitted on its train rows and on those `besides`, which no round has summed.

        judged: the models from the train rows alone. Nothing is sent, and the shared model stays as it is.
        """
        whole = [replace(node, train=concatenated([node.train, besides(node)])) for node in nodes]
        return self.personalise(shared, whole, private)

    def restorer(self, shared: SharedModel) -> Restorer:
        """The function that makes users' models again from their own files and their node's."""
        raise NotImplementedError

    def learner(self, shared: SharedModel) -> Learner:
        """The function that makes models of users who took part in nothing, from their own ratings."""
        return lambda rows: self.personalise(shared, [Node(0, "", rows, rows.between(0, 0))], [None])[0]

    def relearner(self, shared: SharedModel) -> Relearner | None:
        """The function that fits users again to their ratings; None where users alone cannot be fitted again."""
        return None

    def reopened(self, before: SharedModel) -> SharedModel:
        """The start of an opening of `MOST_REOPENING` rounds: it counts anew, and keeps what else it can of `before`.

        Only where no row has left, since what is kept would still hold it. Methods that resume have it.
        """
        raise NotImplementedError

    def resumed(self, opened: SharedModel, before: SharedModel) -> SharedModel | None:
        """The model from which a finished training goes on over other rows; None where this method cannot.

        opened: after the opening rounds of the new rows. before: the finished model. Items keep their numbers, and new
        ones follow. Raises HierfedError where the two do not fit together.
        """
        return None

    def fits(self, before: SharedModel) -> bool:
        """Whether a finished model is of items with the same features, so that `resumed` can take it."""
        return True

    def browser_model(self, shared: SharedModel) -> BrowserModel | None:
        """The numbers from which a page makes users' models; None where the page has no formulas for them."""
        return None

    def tunes(self, settings: Settings) -> bool:
        """True where the settings ask this method to choose hyperparameters."""
        return False

    def tune(self, settings: Settings, nodes: Sequence[Node], train: Train, rule: Rule) -> Tuned:
        """Choose hyperparameters on validation rows inside the train rows.

        train: trains a candidate on nodes. rule: adds up the nodes' errors on their validation rows.
        """
        return Tuned(settings)

    def tune_lists(
        self, tuned: Tuned, nodes: Sequence[Node], train: Train, rule: Rule
    ) -> tuple[Tuned, ListChoice | None]:
        """Choose what makes the lists, on validation rows inside the train rows; as `tune`, after it."""
        return tuned, None

    def scorers(
        self, settings: Settings, models: Mapping[str, SharedModel], personal: Sequence[PersonalModel], own: Ratings
    ) -> dict[str, Scorer]:
        """The scorers that make recommendation lists, by name; empty where lists are not judged.

        models: the finished shared models by stage. personal: the nodes' personal models. own: their users' ratings.
        """
        return {}

    def rivals(self, rows: RivalRows) -> RivalErrors:
        """The errors of learning without a federation on the same rows."""
        return RivalErrors()

    def notes(self, shared: SharedModel) -> Sequence[str]:
        """Lines that a reader of the finished shared model should know."""
        return []

    def threshold_record(self, shared: SharedModel, judged: JudgedItems) -> ThresholdRecord | None:
        """The cost of a threshold on items; None where the method has no threshold."""
        return None

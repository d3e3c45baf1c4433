"""A method of your own in the same experiment: each item's mean rating from sums, and a private bias of each user."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

import hierfed
from hierfed.data.federation import Node
from hierfed.data.ratings import Ratings
from hierfed.federated.checks import Check, counts
from hierfed.federated.contract import Contribution, SharedModel
from hierfed.federated.method import Method
from hierfed.federated.private import PersonalModel, PrivateState
from hierfed.methods.item_biases.item_biases import fit_biases_of_users
from hierfed.methods.kind import Case, MethodKind, Prepared


@dataclass(frozen=True)
class Means(Method):
    """The mean of each item, as if `weight` more users had given it the mean of all ratings."""

    items: int
    weight: float
    limits: tuple[float, float]

    def start(self) -> SharedModel:
        """An empty model, before round 1."""
        return SharedModel({})

    def contribute(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> Iterator[tuple[Contribution, None]]:
        """Each node's raters and sum of stars of each item; nothing is kept."""
        for node in nodes:
            item, stars = torch.from_numpy(node.train.item).long(), torch.from_numpy(node.train.value).double()
            raters = torch.bincount(item, minlength=self.items).double()
            yield Contribution({"raters": raters, "stars": torch.bincount(item, stars, self.items)}), None

    def combine(self, shared: SharedModel, total: Contribution) -> SharedModel:
        """The means, from the sums of all nodes."""
        raters, stars = total.arrays["raters"], total.arrays["stars"]
        mean = (stars + self.weight * stars.sum() / raters.sum()) / (raters + self.weight)
        return SharedModel({"mean": mean}, shared.round + 1)

    def checks(self, shared: SharedModel) -> Sequence[Check]:
        """No honest node has half a rater."""
        return (counts("raters"),)

    def predict(self, shared: SharedModel, ratings: Ratings) -> torch.Tensor:
        """What the shared model expects of anyone."""
        return shared.arrays["mean"][torch.from_numpy(ratings.item).long()]

    def personalise(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> list[PersonalModel]:
        """Each node's users add their own biases, at the node."""
        return [fit_biases_of_users(shared.arrays["mean"], node.train, self.limits) for node in nodes]


@dataclass(frozen=True)
class MeansKind(MethodKind):
    """What a run asks before it reads any data: here, that one round is enough."""

    weight: float = 5.0

    def rounds(self, settings: object) -> int:
        """One: another would give the same means."""
        return 1

    def prepare(self, case: Case) -> Prepared:
        """The method, now that the items are known."""
        return Prepared(Means(len(case.catalogue), self.weight, case.limits), (), ())


for weight in (0.5, 5.0):
    run = hierfed.run("item_biases", method=MeansKind(weight), protocol="warm")
    print(f"weight {weight}: global RMSE {run.result.final_rmse:.4f}, personalised {run.result.users.rmse_after:.4f}")

"""The curve of new users: what each point may learn from, and the baselines beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor

from hierfed.data.federation import Node
from hierfed.data.ratings import Ratings
from hierfed.evaluation.new_users import FIRST_RATINGS, TrainedMethod, new_user_curve
from hierfed.federated.contract import SharedModel
from hierfed.federated.private import PersonalModel
from hierfed.models.baselines import fit_biases

USERS, ITEMS = 12, 30
SHARED = SharedModel({"level": torch.tensor([3.3], dtype=torch.float64)}, 7)


class MeanOfOwn(PersonalModel):
    """Each user's mean rating; 0 for those without."""

    def __init__(self, train: Ratings):
        self.train = train

    def predict(self, rows: Ratings) -> Tensor:
        means = [self.train.value[self.train.user == each] for each in rows.user.tolist()]
        return torch.tensor([float(each.mean()) if len(each) else 0.0 for each in means]).double()


@dataclass
class Spy:
    """A method that remembers what it was shown; its shared model says one number of everything."""

    seen: list[Ratings] = field(default_factory=list)

    def predict(self, shared: SharedModel, ratings: Ratings) -> Tensor:
        return shared.arrays["level"].expand(len(ratings))

    def personalise(self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[None]) -> list[MeanOfOwn]:
        assert shared is SHARED
        assert list(private) == [None]
        self.seen.append(nodes[0].train)
        return [MeanOfOwn(nodes[0].train)]


@pytest.fixture
def parts(make_pairs) -> tuple[Ratings, Ratings, Ratings]:
    """Ratings of users 0 to 7, who are known, and of 8 to 11: their own, 1 to 9 of them, and those held out."""
    drawn = make_pairs(USERS, ITEMS, seed=4)
    known = drawn.take(np.flatnonzero(drawn.user < 8))
    rng = np.random.default_rng(0)
    user, item = [], []
    for number, count in zip(range(8, 12), (4, 12, 8, 5), strict=True):
        user += [number] * count
        item += rng.choice(ITEMS, count, replace=False).tolist()
    value = (rng.integers(1, 11, len(user)) / 2).astype(np.float32)
    rows = Ratings(np.array(user, np.int32), np.array(item, np.int32), value)
    first = np.flatnonzero(np.diff(rows.user, prepend=-1))
    held = np.isin(np.arange(len(rows)), np.concatenate([first, first + 1, first + 2]))
    return known, rows.take(~held), rows.take(held)


def curve(ours: Spy, parts: tuple[Ratings, Ratings, Ratings], seed: int = 0, network: Spy | None = None):
    return new_user_curve(
        TrainedMethod(ours, SHARED),  # type: ignore[arg-type]
        TrainedMethod(network or Spy(), SHARED),  # type: ignore[arg-type]
        *parts,
        users=USERS,
        items=ITEMS,
        rng=np.random.default_rng(seed),
    )


def rmse(predicted: np.ndarray, held_out: Ratings) -> float:
    return float(np.sqrt(np.mean((predicted - held_out.value) ** 2)))


def pairs(rows: Ratings) -> set[tuple[int, int, float]]:
    return set(zip(rows.user.tolist(), rows.item.tolist(), rows.value.tolist(), strict=True))


def test_without_ratings_the_models_are_the_shared_ones(parts):
    known, _, held_out = parts
    ours, network = Spy(), Spy()
    records = curve(ours, parts, network=network)
    assert [record.ratings for record in records] == list(FIRST_RATINGS) == [0, 1, 2, 5, 10, 20, 50]
    assert len(ours.seen) == len(network.seen) == len(FIRST_RATINGS) - 1
    assert records[0].model == records[0].network == pytest.approx(rmse(np.full(len(held_out), 3.3), held_out))
    biases = fit_biases(known, USERS, ITEMS).predict(held_out)
    assert records[0].biases == pytest.approx(rmse(biases, held_out))


def test_each_user_shows_k_ratings_and_with_more_those_and_others(parts):
    _, own, _ = parts
    ours, network = Spy(), Spy()
    curve(ours, parts, network=network)
    before: set[tuple[int, int, float]] = set()
    for count, seen, theirs in zip(FIRST_RATINGS[1:], ours.seen, network.seen, strict=True):
        assert before <= pairs(seen) <= pairs(own)
        assert pairs(theirs) == pairs(seen), "the rival learns from the same rows"
        for user in range(8, 12):
            assert (seen.user == user).sum() == min(count, (own.user == user).sum())
        before = pairs(seen)
    assert before == pairs(own)


def test_points_are_the_errors_on_the_held_out_rows(parts):
    known, _, held_out = parts
    ours = Spy()
    records = curve(ours, parts)
    for record, seen in zip(records[1:], ours.seen, strict=True):
        means = {user: float(seen.value[seen.user == user].mean()) for user in range(8, 12)}
        predicted = np.array([means[user] for user in held_out.user.tolist()])
        assert record.model == pytest.approx(rmse(predicted, held_out), rel=1e-6)
        both = Ratings(
            *(np.concatenate([getattr(known, name), getattr(seen, name)]) for name in ("user", "item", "value"))
        )
        biases = fit_biases(both, USERS, ITEMS).predict(held_out)
        assert record.biases == pytest.approx(rmse(biases, held_out), rel=1e-9)


def test_the_order_of_a_user_s_ratings_is_drawn(parts):
    one, same, other = Spy(), Spy(), Spy()
    for spy, seed in ((one, 0), (same, 0), (other, 1)):
        curve(spy, parts, seed)
    assert pairs(one.seen[0]) == pairs(same.seen[0])
    assert pairs(one.seen[0]) != pairs(other.seen[0])

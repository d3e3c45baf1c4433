"""The screen of the hierarchical model: liars are left out whole, honest nodes never, and a pushed item stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from hierfed.data.division import allocate, load_dataset
from hierfed.data.federation import Node
from hierfed.data.ratings import Ratings
from hierfed.engines.in_process import run_rounds
from hierfed.engines.rounds import PLAIN, Round
from hierfed.federated.contract import Contribution, SharedModel
from hierfed.federated.screen import Screen
from hierfed.generated.files import write_world
from hierfed.methods import Case, prepare
from hierfed.methods.hierarchical.hierarchical import HierarchicalFactors
from hierfed.methods.hierarchical.screening import _credible_rare, _too_many_raters
from hierfed.settings import load_settings

LIAR, ROUNDS, SCREENED = 3, 3, Round(Screen())
Lie = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Federation:
    """Eight nodes and the method of their settings."""

    method: HierarchicalFactors
    nodes: list[Node]


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    place = tmp_path_factory.mktemp("screened") / "world"
    write_world(place, users=160, items=60, ratings=6_000, seed=3)
    small = {"rank": 2, "embedding_rank": 4, "embedding_rounds": 2, "rounds": ROUNDS, "select": False, "threads": 1}
    settings = load_settings(
        "hierarchical", {**small, "data.source": str(place), "protocol": "warm", "nodes": 8, "partition": "users"}
    )
    allocation = allocate(load_dataset(settings), settings)
    method = prepare(Case(settings, allocation.dataset.catalogue, (0.5, 5.0))).method
    assert isinstance(method, HierarchicalFactors)
    return Federation(method, list(allocation.nodes))


@dataclass(frozen=True)
class Lying:
    """The method, with a node that changes every array that it sends."""

    method: HierarchicalFactors
    lie: Lie

    def __getattr__(self, name: str) -> object:
        return getattr(self.method, name)

    def contribute(self, shared: SharedModel, nodes: Sequence[Node], private: Sequence) -> Iterator:
        for node, (sent, kept) in zip(nodes, self.method.contribute(shared, nodes, private), strict=True):
            arrays = {name: self.lie(array) if node.number == LIAR else array for name, array in sent.arrays.items()}
            yield Contribution(arrays), kept


def noisy(array: torch.Tensor) -> torch.Tensor:
    random = np.random.default_rng(array.numel())
    return array + float(array.square().mean().sqrt()) * torch.from_numpy(random.normal(size=tuple(array.shape)))


@pytest.mark.parametrize(
    "lie",
    [lambda array: -array, noisy, lambda array: 0 * array, lambda array: array.abs() + 1e9],
    ids=["sign", "noise", "nothing", "huge"],
)
def test_the_model_is_that_of_the_other_nodes(lie, federation):
    honest = [node for node in federation.nodes if node.number != LIAR]
    expected = run_rounds(federation.method, honest, ROUNDS).shared
    found = run_rounds(Lying(federation.method, lie), federation.nodes, ROUNDS, how=SCREENED).shared
    assert found.digest() == expected.digest()


def test_honest_nodes_are_all_believed(federation):
    plain = run_rounds(federation.method, federation.nodes, ROUNDS, how=PLAIN).shared
    assert run_rounds(federation.method, federation.nodes, ROUNDS, how=SCREENED).shared.digest() == plain.digest()


def test_a_node_ten_times_as_large_counts_as_three_at_the_most(federation):
    given = [sent for sent, _ in federation.method.contribute(federation.method.start(), federation.nodes, [None] * 8)]
    lied = [sent * 10 if place == LIAR else sent for place, sent in enumerate(given)]
    kept = federation.method.screened(federation.method.start(), lied)
    users = torch.stack([each.arrays["users"][0] for each in kept])
    assert len(kept) == 8
    assert users[LIAR].item() == pytest.approx(3 * users.median().item())


def pushed(node: Node, item: int) -> Node:
    """The node whose users all give the item five stars."""
    train, users = node.train, np.unique(node.train.user)
    kept = train.item != item
    return replace(
        node,
        train=Ratings(
            np.concatenate([train.user[kept], users]).astype(train.user.dtype),
            np.concatenate([train.item[kept], np.full(len(users), item)]).astype(train.item.dtype),
            np.concatenate([train.value[kept], np.full(len(users), 5)]).astype(train.value.dtype),
        ),
    )


def least_liked(nodes: Sequence[Node], raters: int) -> int:
    """The item with the lowest mean of those with so many raters at these nodes."""
    item, value = (np.concatenate([getattr(node.train, name) for node in nodes]) for name in ("item", "value"))
    count = np.bincount(item, minlength=60)
    return int(np.where(count >= raters, np.bincount(item, value, 60) / np.maximum(count, 1), np.inf).argmin())


def test_a_pushed_item_stays_where_the_others_see_it(federation):
    film = least_liked(federation.nodes, 40)
    nodes = [pushed(node, film) if node.number == LIAR else node for node in federation.nodes]
    honest = [node for node in federation.nodes if node.number != LIAR]
    bias = [
        float(run_rounds(federation.method, some, ROUNDS, how=how).shared.arrays["item_mean"][film, 0])
        for some, how in ((honest, PLAIN), (nodes, PLAIN), (nodes, SCREENED))
    ]
    assert bias[1] - bias[0] > 0.2
    # The liar's users are counted as raters all the same, which puts the item in another class.
    assert abs(bias[2] - bias[0]) < 0.06


def test_liars_whose_users_are_most_raters_of_an_item_do_not_speak_for_each_other(federation):
    """Two of eight nodes push an item that few users rated: most of its raters lie, and few of its nodes do."""
    liars = (LIAR, 6)
    rated = [node for node in federation.nodes if node.number not in liars]
    film = least_liked(rated, 40)
    # One in three of the honest raters is left.
    honest = [
        replace(node, train=node.train.take(((node.train.item != film) | (node.train.user % 3 == 0)).nonzero()[0]))
        for node in rated
    ]
    lying = [pushed(node, film) for node in federation.nodes if node.number in liars]
    nodes = sorted([*honest, *lying], key=lambda node: node.number)
    false, true = (sum(int((node.train.item == film).sum()) for node in some) for some in (lying, honest))
    assert false > 1.5 * true
    bias = [
        float(run_rounds(federation.method, some, ROUNDS, how=how).shared.arrays["item_mean"][film, 0])
        for some, how in ((honest, PLAIN), (nodes, PLAIN), (nodes, SCREENED))
    ]
    assert bias[1] - bias[0] > 0.5
    assert abs(bias[2] - bias[0]) < 0.1


def sums_of(users: float, raters: Sequence[float]) -> Contribution:
    """Of users of precision 2, and items with so many raters."""
    weights = 2 * torch.tensor([[count, 0.0, 0.0] for count in raters]).double()
    arrays = {"users": torch.tensor([users]), "precision": torch.tensor([2 * users]), "item_precision": weights}
    return Contribution({name: array.double() for name, array in arrays.items()})


def test_too_many_raters_are_those_that_are_no_chance():
    """Of an item that one user in ten rated p is .1 and 1 in 60; ten of ten have 10 log(1 / p) = 21, three have 1.2."""
    given = [sums_of(10, [1, 1, 0]) for _ in range(5)] + [sums_of(10, [10, 3, 1])]
    assert _too_many_raters(given).nonzero().tolist() == [[5, 0]]
    # Where the middle half of the nodes rate it, too, it is nothing unusual.
    assert not _too_many_raters([sums_of(10, [9, 9, 8]) for _ in range(5)] + [sums_of(10, [10, 1, 0])]).any()


def test_a_node_that_draws_all_rare_items_at_once_has_no_part_in_their_sum():
    """A pull of a precision of 100 is one standard deviation at 46: of 100 it is credible, of 400 it is not."""
    honest, pushed = (
        _credible_rare({"rare_precision": torch.tensor([100.0]).double(), "rare_pull": torch.tensor([pull]).double()})
        for pull in (100.0, 400.0)
    )
    assert honest == {"rare_precision": torch.tensor([100.0]), "rare_pull": torch.tensor([100.0])}
    assert pushed == {"rare_precision": torch.tensor([0.0]), "rare_pull": torch.tensor([0.0])}
    assert _credible_rare({}) == {}

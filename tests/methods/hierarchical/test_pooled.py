"""The hierarchical model over many nodes at once, and over some of them a round."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from hierfed.data.federation import Nodes, make_nodes
from hierfed.data.ratings import Ratings, rows_to_predict
from hierfed.engines.in_process import run_rounds
from hierfed.engines.rounds import Round
from hierfed.federated.contract import Contribution, SharedModel, ordered_sum
from hierfed.federated.participation import Participation
from hierfed.federated.private import StoredState
from hierfed.methods.hierarchical.beliefs import Beliefs
from hierfed.methods.hierarchical.factor_states import FactorsState, PooledStates, state_of
from hierfed.methods.hierarchical.hierarchical import HierarchicalFactors
from hierfed.methods.hierarchical.items import in_classes, update_items
from hierfed.methods.hierarchical.opening import co_ratings
from hierfed.methods.hierarchical.rare_items import moved_by
from hierfed.methods.hierarchical.shared_model import RATERS
from hierfed.models.symmetric import unpack
from hierfed.observer import Observer

USERS, ITEMS, NODES, ROUNDS = 30, 15, 10, 6


@pytest.fixture(scope="module")
def ratings(make_pairs) -> Ratings:
    found: Ratings = make_pairs(USERS, ITEMS, seed=2)
    return found


@pytest.fixture(scope="module")
def nodes(ratings) -> Nodes:
    """Users side by side on none of the nodes: rows lie in random order."""
    order = np.random.default_rng(0).permutation(len(ratings))
    rows = ratings.take(order)
    return make_nodes(rows, rows.user % NODES, rows.between(0, 0), rows.user[:0], NODES)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hierfed.methods.hierarchical.cohort.PIECE_ROWS", 12)


@pytest.fixture
def pooled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hierfed.engines.in_process.POOLED_FROM", 2)


@pytest.fixture
def method(make_factors, make_content) -> HierarchicalFactors:
    found: HierarchicalFactors = make_factors(make_content(ITEMS), threshold=8)
    return found


def with_unlike_nodes(shared: SharedModel) -> SharedModel:
    """The same model, but that nodes have means of their own."""
    arrays = dict(shared.arrays)
    if "node_variance" in arrays:
        arrays["node_variance"] = torch.full_like(arrays["node_variance"], 0.05)
    return replace(shared, arrays=arrays)


def close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        torch.testing.assert_close(found[name], array, rtol=1e-12, atol=1e-12, msg=lambda text, name=name: name + text)


def test_the_sum_is_that_of_one_by_one_in_every_round(method, nodes):
    shared: SharedModel = method.start()
    private, states = [None] * NODES, [None] * NODES
    while shared.round < ROUNDS:
        pairs = list(method.contribute(shared, nodes, private))
        told: list[float] = []
        total, states = method.contribute_pooled(shared, nodes, states, told.append)
        one_by_one = ordered_sum(sent for sent, _ in pairs)
        close(dict(total.arrays), dict(one_by_one.arrays))
        assert shared.round == -method.opening_rounds or told == sorted(told)
        private, shared = [kept for _, kept in pairs], with_unlike_nodes(method.combine(shared, one_by_one))
    assert len(states.cohort.pieces) > 10
    for place, kept in enumerate(private):
        close(vars(states[place].memory), vars(kept.memory))


@pytest.mark.usefixtures("pooled")
def test_the_digest_hangs_on_neither_threads_nor_chunks(method, nodes):
    found = {
        run_rounds(replace(method, threads=threads, chunk_rows=rows), nodes, ROUNDS).shared.digest()
        for threads in (1, 2, 3)
        for rows in (1, 30, 1000)
    }
    assert len(found) == 1


@pytest.mark.parametrize("amount", [1.0, 4, 0.5])
def test_the_users_models_are_those_of_a_training_one_by_one(method, nodes, monkeypatch, amount):
    chosen = replace(method, everyone=amount == 1)
    found = []
    for count in (2, NODES + 1):
        monkeypatch.setattr("hierfed.engines.in_process.POOLED_FROM", count)
        trained = run_rounds(chosen, nodes, ROUNDS, how=Round(participation=Participation(amount, 7)))
        models = chosen.personalise(trained.shared, nodes, trained.private)
        users, items = torch.arange(USERS).repeat_interleave(ITEMS), torch.arange(ITEMS).repeat(USERS)
        found.append([model.distribution(rows_to_predict(users, items)) for model in models])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


def test_where_all_take_part_a_step_is_the_whole_way(method, nodes):
    found = {run_rounds(each, nodes, ROUNDS).shared.digest() for each in (method, replace(method, everyone=False))}
    assert len(found) == 1


@pytest.mark.usefixtures("pooled")
@pytest.mark.parametrize("amount", [0.3])
def test_some_nodes_a_round_come_near_everyone(method, nodes, ratings, amount):
    def rmse(shared: SharedModel, private: list[FactorsState]) -> float:
        models = method.personalise(shared, nodes, private)
        user, item = (torch.from_numpy(each).long() for each in (ratings.user, ratings.item))
        errors = [
            (model.predict(rows_to_predict(user[mine], item[mine])) - torch.from_numpy(ratings.value)[mine]).square()
            for place, model in enumerate(models)
            for mine in [user % NODES == place]
        ]
        return float(torch.cat(errors).mean().sqrt())

    nobody = [None] * NODES
    everyone = rmse(run_rounds(method, nodes, 40).shared, nobody)
    some = run_rounds(replace(method, everyone=False), nodes, 40, how=Round(participation=Participation(amount, 1)))
    assert rmse(some.shared, nobody) == pytest.approx(everyone, rel=0.05)
    assert rmse(run_rounds(method, nodes, 1).shared, nobody) > 1.05 * everyone


def test_a_step_moves_the_natural_parameters(method, nodes):
    """Of each item: (1 - step) of the old ones and step of the new ones, the sums counting for all users."""
    shared = run_rounds(method, nodes, 3).shared
    total, _ = method.contribute_pooled(shared, nodes, [None] * NODES)
    beliefs, design = Beliefs.of(shared.arrays), method.design(shared)
    features = design.prior_features(shared.arrays["embedding"])
    size, weight, step = 1 + method.rank, 2.5, 0.3
    mean, packed, *_ = update_items(
        beliefs, design, features, total.arrays, method.strengths, True, weight=weight, step=step
    )
    prior = torch.linalg.inv(beliefs.item_spread)
    for place, item in enumerate(design.shared_items.tolist()):
        old = torch.linalg.inv(unpack(beliefs.item_covariance[item], size))
        new = prior + weight * unpack(total.arrays["item_precision"][place], size)
        precision = (1 - step) * old + step * new
        pull = prior @ (beliefs.item_weights.T @ features[item]) + weight * total.arrays["item_pull"][place]
        pull = (1 - step) * old @ beliefs.item_mean[item] + step * pull
        torch.testing.assert_close(unpack(packed[item], size), torch.linalg.inv(precision), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(mean[item], torch.linalg.solve(precision, pull), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("everyone_before", [0, 1, 2, 5])
def test_a_round_of_some_goes_a_part_of_the_way(method, nodes, everyone_before):
    """All of it in the first; then as far as the rounds say, but at least as far as these are of all users."""
    shared = with_unlike_nodes(run_rounds(method, nodes, everyone_before).shared)
    some = replace(method, everyone=False)
    for present in ([2, 5], [0, 1, 2, 3, 4, 6, 7, 9]):
        total, _ = some.contribute_pooled(shared, nodes.take(np.array(present)), [None] * NODES)
        share = len({user for place in present for user in nodes[place].train.user.tolist()}) / USERS
        step = max(share, (everyone_before + 1) ** -0.6)
        old = Beliefs.of(shared.arrays)
        found = Beliefs.of(some.combine(shared, total).arrays)
        whole_way = Beliefs.of(method.combine(shared, total).arrays)
        for name in ("covariate_weights", "user_spread", "precision", "node_variance"):
            before, after = getattr(old, name), getattr(whole_way, name)
            torch.testing.assert_close(getattr(found, name), (1 - step) * before + step * after, rtol=0, atol=1e-12)
        design = method.design(shared)
        features = design.prior_features(shared.arrays["embedding"])
        learn_prior = everyone_before > 0
        raters = shared.server[RATERS][design.shared_items]
        present_raters = total.arrays["item_precision"][:, 0] / old.precision
        sums = in_classes(total.arrays, raters if everyone_before > 1 else present_raters)
        mean, packed, weights, spread = update_items(
            old, design, features, sums, method.strengths, learn_prior, weight=1 / share, step=step
        )
        if everyone_before:
            mean = moved_by(mean, design, some.combine(shared, total).arrays["rare_offset"])
        expected = {"item_mean": mean, "item_covariance": packed, "item_weights": weights, "item_spread": spread}
        close({name: getattr(found, name) for name in expected}, expected)
        assert (step == 1) == (everyone_before == 0)


def test_where_only_some_take_part_users_take_nothing_out_of_the_items(method, nodes):
    """What they sent may be long gone from the sums: their models are those of users who never sent anything."""
    some = replace(method, everyone=False, between_nodes=False)
    trained = run_rounds(some, nodes, 4, how=Round(participation=Participation(0.5, 1)))
    pairs = torch.arange(USERS).repeat_interleave(ITEMS), torch.arange(ITEMS).repeat(USERS)

    def means(method: HierarchicalFactors, private: list[FactorsState | None]) -> Tensor:
        return torch.stack(
            [
                each.distribution(rows_to_predict(*pairs))[0]
                for each in method.personalise(trained.shared, nodes, private)
            ]
        )

    never_sent = means(some, [None] * NODES)
    assert torch.equal(means(some, trained.private), never_sent)
    assert (means(replace(some, everyone=True), trained.private) - never_sent).abs().max() > 1e-3


def test_pooled_states_are_those_of_the_nodes_through_rounds_of_some(method, nodes):
    """Each as the nodes that took part left it, against a plain list; what was kept before is as it was."""
    shared = with_unlike_nodes(run_rounds(method, nodes, 3).shared)
    plain: list[FactorsState | None] = [None] * NODES
    states = [None] * NODES
    for present in ([0, 3, 4], [3, 9], [1, 2, 3, 5, 6, 7, 8]):
        pairs = list(method.contribute(shared, nodes.take(np.array(present)), [plain[each] for each in present]))
        earlier = states
        total, states = method.contribute_pooled(shared, nodes.take(np.array(present)), earlier)
        again, _ = method.contribute_pooled(shared, nodes.take(np.array(present)), earlier)
        assert all(torch.equal(array, again.arrays[name]) for name, array in total.arrays.items())
        close(dict(total.arrays), dict(ordered_sum(sent for sent, _ in pairs).arrays))
        for place, (_, kept) in zip(present, pairs, strict=True):
            plain[place] = kept
        for place, kept in enumerate(plain):
            if kept is None:
                assert states[place].memory is None
            else:
                close(vars(states[place].memory), vars(kept.memory))
    assert [each.memory is None for each in states[1:4]] == [False] * 3
    assert len(states) == NODES
    with pytest.raises(IndexError):
        states[NODES]


def test_pooled_states_cannot_be_sent(method, nodes):
    _, states = method.contribute_pooled(method.start(), nodes, [None] * NODES)
    assert isinstance(states, PooledStates)
    with pytest.raises(TypeError, match="PooledStates is private to its node"):
        pickle.dumps(states)


def test_a_node_goes_on_from_its_disk_with_the_same_bits(method, nodes):
    *_, node = nodes
    trained = run_rounds(method, [node], 4)
    (state,) = trained.private
    stored = StoredState({name: tensor.clone() for name, tensor in state.kept().items()})
    (one, _), (other, _) = (
        next(iter(method.contribute(trained.shared, [node], [each]))) for each in (state, state_of([node], stored))
    )
    assert all(torch.equal(array, other.arrays[name]) for name, array in one.arrays.items())


def test_opening_rounds_see_shared_items_alone(method, nodes):
    shared = method.combine(method.start(), method.contribute_pooled(method.start(), nodes, [None] * NODES)[0])
    design = method.design(shared)
    assert 0 < design.shared.sum() < ITEMS
    cohort = state_of(nodes, None).cohort
    rows = cohort.arranged(slice(0, len(cohort)), shared.arrays["scale"], design).rows
    for name in ("basis", "embedding"):
        table = torch.randn(ITEMS, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        other = torch.where(design.shared[:, None] > 0, table, table + 7)
        arrays = {each: array for each, array in shared.arrays.items() if each != "basis"}
        found, same = (co_ratings(arrays | {name: each}, design)(rows) for each in (table, other))
        for sums, equal in ((found.of_items, same.of_items), (found.in_all, same.in_all)):
            assert all(torch.equal(array, equal[each]) for each, array in sums.items())


@pytest.mark.usefixtures("pooled")
def test_an_observer_is_told_of_pooled_sums_too(method, nodes):
    told: list[int] = []

    class Noting(Observer):
        def summed(self, stage: str, total: Contribution, shared: SharedModel, numbers: np.ndarray) -> None:
            assert numbers.tolist() == list(range(len(nodes)))
            told.append(shared.round)

    plain = run_rounds(method, nodes, 2).shared.digest()
    assert run_rounds(method, nodes, 2, observer=Noting()).shared.digest() == plain
    assert told == list(range(1 - method.opening_rounds, 3))

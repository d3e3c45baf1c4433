"""The hierarchical model in rounds: any division gives one model, the threshold holds, and sums are what they say."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from hierfed.data.federation import Node
from hierfed.data.rater_classes import rounded_up
from hierfed.data.ratings import Ratings, rows_to_predict
from hierfed.engines.in_process import Trained, run_rounds
from hierfed.federated.contract import Contribution, SharedModel, ordered_sum
from hierfed.federated.private import PrivateState
from hierfed.methods.hierarchical.beliefs import Beliefs
from hierfed.methods.hierarchical.design import EMBEDDING_RIDGE
from hierfed.methods.hierarchical.factor_states import FactorsState
from hierfed.methods.hierarchical.hierarchical import HierarchicalFactors
from hierfed.methods.hierarchical.users import COVARIATE_SHRINKAGE, evidence, item_moments, posterior
from hierfed.models.symmetric import unpack

USERS, ITEMS, ROUNDS, SEED = 20, 15, 6, 1
ROWS_OF_ITEMS = ("item_precision", "item_pull", "co_ratings", "products", "sums")


@pytest.fixture(scope="module")
def content(make_content):
    return make_content(ITEMS)


@pytest.fixture(scope="module")
def ratings(make_pairs) -> Ratings:
    """Users with 1 to 12 ratings, items with one rater and with many."""
    found: Ratings = make_pairs(USERS, ITEMS, seed=SEED)
    raters = np.bincount(found.item, minlength=ITEMS)
    assert np.bincount(found.user).min() == raters.min() == 1
    assert raters.max() > 10
    return found


def rounds_of(
    method: HierarchicalFactors, nodes: list[Node], rounds: int
) -> Iterator[tuple[SharedModel, list[Contribution], list[PrivateState | None]]]:
    """Each round, the opening ones too: the model before it, what each node sends, and what each keeps."""
    shared: SharedModel = method.start()
    private: list[PrivateState | None] = [None] * len(nodes)
    while shared.round < rounds:
        pairs = list(method.contribute(shared, nodes, private))
        sent = [contribution for contribution, _ in pairs]
        private = [kept for _, kept in pairs]
        yield shared, sent, private
        shared = method.combine(shared, ordered_sum(sent))


def personal_predictions(method: HierarchicalFactors, trained: Trained, nodes: list[Node]) -> tuple[Tensor, Tensor]:
    """Mean and variance of every user for every item, [users, items]."""
    mean, variance = torch.full((2, USERS, ITEMS), torch.nan, dtype=torch.float64)
    models = method.personalise(trained.shared, nodes, trained.private)
    for node, model in zip(nodes, models, strict=True):
        for user in np.unique(node.train.user).tolist():
            every = torch.arange(ITEMS)
            mean[user], variance[user] = model.distribution(rows_to_predict(torch.full((ITEMS,), user), every))
    return mean, variance


@pytest.fixture(scope="module")
def divisions(divide_users, ratings) -> dict[str, list[Node]]:
    rng = np.random.default_rng(0)
    of_three = rng.permutation(np.arange(USERS) % 3).tolist()
    three = divide_users(ratings, of_three)
    backwards = ratings.take(np.arange(len(ratings))[::-1])
    return {
        "one": divide_users(ratings, [0] * USERS),
        "three": three,
        "three in another order": three[::-1],
        "three with their rows in another order": divide_users(backwards, of_three),
        "every user a node": divide_users(ratings, list(range(USERS))),
    }


@pytest.mark.parametrize("threshold", [0, 2])
@pytest.mark.parametrize("embedding_rank", [0, 3])
@pytest.mark.parametrize("between_nodes", [False, True])
def test_any_division_into_nodes_gives_the_model_of_the_pooled_ratings(
    make_factors, content, divisions, threshold, embedding_rank, between_nodes
):
    """With means of nodes too, where these do not differ beyond chance."""
    changes = {"threshold": threshold, "embedding_rank": embedding_rank, "between_nodes": between_nodes}
    method = make_factors(content, **changes)
    expected = None
    for name, nodes in divisions.items():
        trained = run_rounds(method, nodes, ROUNDS)
        assert trained.shared.round == ROUNDS
        found = personal_predictions(method, trained, nodes)
        assert torch.isfinite(torch.stack(found)).all(), name
        if expected is None:
            expected = found
            assert found[0].std() > 0.1
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}")


def test_what_was_rated_at_all_tells_of_users_in_sums_that_any_division_leaves_alike(make_factors, content, divisions):
    method, plain = (make_factors(content, implicit_scale=scale) for scale in (5.0, 0.0))
    found = {}
    for name in ("one", "three", "every user a node"):
        trained = run_rounds(method, divisions[name], ROUNDS)
        found[name] = personal_predictions(method, trained, divisions[name])[0]
        torch.testing.assert_close(found[name], found["one"], rtol=0, atol=1e-9)
    (node,), shared = divisions["one"], trained.shared
    implicit = method.implicit(shared.arrays, method.design(shared))
    assert implicit is not None
    assert shared.arrays["covariate_weights"].shape[0] == implicit.shape[1] + len(
        run_rounds(plain, [node], 0).shared.arrays["covariate_weights"]
    )
    (model,) = method.personalise(shared, divisions["every user a node"][:1], trained.private[:1])
    user = int(divisions["every user a node"][0].train.user[0])
    rated = torch.from_numpy(node.train.item[node.train.user == user]).long()
    means = implicit[rated].sum(0) / (len(rated) + COVARIATE_SHRINKAGE)
    known = method.design(shared).covariates.shape[1]
    weights = shared.arrays["covariate_weights"][1 + known : 1 + known + implicit.shape[1]]
    without = shared.arrays["covariate_weights"].clone()
    without[1 + known : 1 + known + implicit.shape[1]] = 0
    rest = method.personalise(
        replace(shared, arrays={**shared.arrays, "covariate_weights": without}),
        divisions["every user a node"][:1],
        trained.private[:1],
    )[0]
    torch.testing.assert_close(model.prior_mean[0] - rest.prior_mean[0], means @ weights)
    assert plain.implicit(shared.arrays, plain.design(shared)) is None


def test_the_contribution_of_several_users_is_the_sum_of_theirs(make_factors, content, divisions):
    """In every round, given the same model; but for what tells how nodes differ."""
    method = make_factors(content)
    together = list(rounds_of(method, divisions["one"], 5))
    shared_models = [shared for shared, _, _ in together]
    alone = divisions["every user a node"]
    private: list[PrivateState | None] = [None] * USERS
    for shared, (_, (whole,), _) in zip(shared_models, together, strict=True):
        pairs = list(method.contribute(shared, alone, private))
        private = [kept for _, kept in pairs]
        total = ordered_sum(contribution for contribution, _ in pairs)
        assert total.arrays.keys() == whole.arrays.keys()
        for name, array in total.arrays.items():
            if name != "node_moments":
                torch.testing.assert_close(array, whole.arrays[name], rtol=1e-9, atol=1e-9)


def test_what_is_sent_has_the_same_shape_whoever_sends_it(make_factors, content, divisions):
    """Nothing grows with the number of users or ratings on a node."""
    for _, sent, _ in rounds_of(make_factors(content), divisions["every user a node"], 2):
        shapes = [{name: array.shape for name, array in each.arrays.items()} for each in sent]
        assert all(each == shapes[0] for each in shapes)


def test_the_opening_rounds_gather_counts_then_what_was_rated_together(make_factors, content, divisions):
    sent = [sorted(each[0].arrays) for _, each, _ in rounds_of(make_factors(content), divisions["three"], 1)]
    assert sent[0] == ["moments", "raters", "users"]
    assert sent[1:4] == [["co_ratings"]] * 3
    assert sent[4] == ["products", "sums", "user_products"]
    assert len(sent) == 6
    without = rounds_of(make_factors(content, embedding_rank=0), divisions["three"], 1)
    assert [len(each[0].arrays) for _, each, _ in without] == [3, len(sent[5])]


@pytest.mark.parametrize("changes", [{"embedding_rounds": 4}, {"embedding_rounds": 1}, {"embedding_rank": 0}], ids=str)
def test_rounds_that_steer_leave_the_basis_and_no_other_number(make_factors, content, divisions, changes):
    """They are those that begin with a basis, and end with another one or with what it spans."""
    method, found = make_factors(content, **changes), list[int]()
    shared = method.start()
    while shared.round < 1:
        given = [sums for sums, _ in method.contribute(shared, divisions["three"], [None] * 3)]
        after = method.combine(shared, ordered_sum(given))
        if "basis" in shared.arrays:
            found.append(after.round)
            same = shared.arrays.keys() - {"basis"}
            assert all(torch.equal(after.arrays[name], shared.arrays[name]) for name in same)
        shared = after
    assert found == list(method.steering_rounds)


def test_no_value_of_a_rating_enters_the_opening_rounds_but_their_moments(make_factors, content, divisions, ratings):
    other = replace(ratings, value=(5.5 - ratings.value).astype(np.float32))
    nodes = [Node(0, "1", other, other.take(np.empty(0, np.int64)))]
    method = make_factors(content)
    one, two = (list(rounds_of(method, each, 1))[:5] for each in (divisions["one"], nodes))
    for number, ((_, (first,), _), (_, (second,), _)) in enumerate(zip(one, two, strict=True)):
        for name, array in first.arrays.items():
            assert torch.equal(array, second.arrays[name]) == (name != "moments"), (number, name)


def test_counts_and_moments_by_hand(make_factors, content, divisions, ratings):
    (_, sent, _), (shared, _, _) = list(rounds_of(make_factors(content), divisions["three"], -3))[:2]
    total = ordered_sum(sent).arrays
    assert total["raters"].tolist() == np.bincount(ratings.item, minlength=ITEMS).tolist()
    assert total["users"].tolist() == [USERS]
    values = ratings.value.astype(float)
    np.testing.assert_allclose(total["moments"], [len(values), values.sum(), (values**2).sum()])
    # A rating's unit is what the priors' strengths are meant for: ratings of standard deviation 1.05.
    np.testing.assert_allclose(shared.arrays["scale"], [values.mean(), values.std() / 1.05], rtol=1e-9)


def dense_item_sums(
    method: HierarchicalFactors, shared: SharedModel, node: Node, state: FactorsState
) -> tuple[Tensor, Tensor]:
    """Of all items, rating by rating: sums of tau E (1, p)(1, p)', and of tau E (1, p)(y - b - w . f)."""
    slopes, rank = method.design(shared).slopes, method.rank
    centre, unit = shared.arrays["scale"].tolist()
    precision, pull = torch.zeros(ITEMS, 1 + rank, 1 + rank).double(), torch.zeros(ITEMS, 1 + rank).double()
    places = {number: place for place, number in enumerate(np.unique(node.train.user).tolist())}
    found = state.memory.posterior
    for user, item, stars in zip(node.train.user.tolist(), node.train.item.tolist(), node.train.value, strict=True):
        at = places[user]
        mean, covariance, tau = found.mean[at], found.covariance[at], state.memory.precision[at]
        # (1, p), and what a rating has beside them, as linear maps of z = (b, p, w).
        factors = torch.cat([torch.zeros(1, len(mean)), torch.eye(len(mean))[1 : 1 + rank]]).double()
        beside = torch.cat([torch.ones(1), torch.zeros(rank), slopes[item]])
        with_one = factors @ mean
        with_one[0] = 1
        left = (float(stars) - centre) / unit - beside @ mean
        precision[item] += tau * (torch.outer(with_one, with_one) + factors @ covariance @ factors.T)
        pull[item] += tau * (left * with_one - factors @ covariance @ beside)
    return precision, pull


def test_a_round_s_sums_by_hand(make_factors, content, divisions, ratings):
    """Round 5 of a method with a node mean of its own, from the posteriors that the nodes keep."""
    method = make_factors(content, threshold=5)
    enough = np.bincount(ratings.item, minlength=ITEMS) >= 5
    assert 4 <= enough.sum() <= ITEMS - 2
    nodes = divisions["three"]
    *_, (_, _, before), (shared, _, _) = rounds_of(method, nodes, 5)
    arrays = dict(shared.arrays)
    arrays["node_variance"] = torch.full_like(arrays["node_variance"], 0.05)
    shared = replace(shared, arrays=arrays)
    pairs = list(method.contribute(shared, nodes, before))
    beliefs, design = Beliefs.of(shared.arrays), method.design(shared)
    unit = float(shared.arrays["scale"][1])
    for (contribution, state), earlier, node in zip(pairs, before, nodes, strict=True):
        assert isinstance(state, FactorsState)
        assert isinstance(earlier, FactorsState)
        found, tau, sent = state.memory.posterior, state.memory.precision, contribution.arrays
        count, (users,) = len(tau), state.arranged
        covariates = evidence(item_moments(beliefs, design), users).covariates
        prior = covariates @ beliefs.covariate_weights
        shrunk = 0.05 / (0.05 + torch.diagonal(beliefs.user_spread) / count)
        of_node = shrunk * earlier.memory.deviation[0]
        assert of_node.abs().max() > 1e-3
        deviations = found.mean - prior - of_node
        mean = (found.mean - prior).mean(0)
        torch.testing.assert_close(state.memory.deviation[0], mean)
        moments = sum(
            torch.outer(each, each) + covariance for each, covariance in zip(deviations, found.covariance, strict=True)
        )
        expected = {
            "covariate_products": covariates.T @ covariates,
            "covariate_targets": covariates.T @ (found.mean - of_node),
            "user_moments": moments,
            "users": torch.tensor([count]).double(),
            "precision": tau.sum()[None],
            "squared_error": found.squared_error.sum()[None],
            "ratings": torch.tensor([len(users.rows.ratings.values())]).double(),
            "loss": unit**2 * found.squared_error.sum()[None],
        }
        for name, array in expected.items():
            torch.testing.assert_close(sent[name], array, rtol=1e-10, atol=1e-10, msg=name)
        ones = torch.ones_like(mean)
        by_hand = [mean, mean**2, ones / count, ones, count * mean**2, count * mean]
        torch.testing.assert_close(sent["node_moments"], torch.stack(by_hand))
        precision, pull = dense_item_sums(method, shared, node, state)
        torch.testing.assert_close(unpack(sent["item_precision"], 3), precision[enough], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(sent["item_pull"], pull[enough], rtol=1e-10, atol=1e-10)
        pooled = {"rare_precision", "rare_pull"}
        assert set(sent) == {*expected, *pooled, "node_moments", "item_precision", "item_pull"}


def test_the_training_loss_is_the_expected_squared_error_in_stars(make_factors, content, divisions, ratings):
    method = make_factors(content)
    losses = []
    for shared, sent, kept in rounds_of(method, divisions["three"], 8):
        if shared.round < 0:
            continue
        (loss,) = method.train_loss(ordered_sum(sent))
        errors = sum(float(state.memory.squared_error.sum()) for state in kept)
        assert loss == pytest.approx(errors * float(shared.arrays["scale"][1]) ** 2 / len(ratings), rel=1e-10)
        losses.append(loss)
    assert losses[-1] < losses[0]


def test_precisions_and_priors_are_learned_in_their_turn(make_factors, content, divisions):
    """The first rounds have one precision for all and the first prior of items, as factors begin as noise."""
    method = make_factors(content, between_nodes=False)
    earlier: list[PrivateState | None] = [None] * 3
    for shared, sent, kept in rounds_of(method, divisions["three"], 6):
        if shared.round < 0:
            continue
        beliefs, design, total = Beliefs.of(shared.arrays), method.design(shared), ordered_sum(sent).arrays
        for state, before in zip(kept, earlier, strict=True):
            count, (users,) = len(state.cohort), state.arranged
            precision = beliefs.precision.expand(count) if shared.round <= 2 else before.memory.precision
            known = evidence(item_moments(beliefs, design), users)
            prior = known.covariates @ beliefs.covariate_weights
            found = posterior(known, beliefs.user_spread, prior, precision)
            torch.testing.assert_close(state.memory.mean, found.mean)
            if shared.round >= 2:
                counts, errors = users.rows.counts, found.squared_error
                precision = (6 + counts / 2) / (6 / beliefs.precision + errors / 2)
                assert count == 1 or len(precision.unique()) > 1
            torch.testing.assert_close(state.memory.precision, precision)
        after = Beliefs.of(method.combine(shared, ordered_sum(sent)).arrays)
        mean = total["precision"] / USERS if shared.round >= 2 else total["ratings"] / total["squared_error"]
        torch.testing.assert_close(after.precision, mean)
        assert torch.equal(after.item_weights, beliefs.item_weights) == (shared.round == 0)
        assert torch.equal(after.item_spread, beliefs.item_spread) == (shared.round == 0)
        assert not torch.equal(after.user_spread, beliefs.user_spread)
        earlier = kept


@pytest.mark.parametrize("embedding_rank", [0, 3])
@pytest.mark.parametrize("threshold", [0, 1, 2, 5, 100])
def test_sums_of_items_are_of_those_with_enough_raters_and_of_no_others(
    make_factors, make_content, divisions, ratings, embedding_rank, threshold
):
    """Whoever sends them; and the model goes on without the others, be these all or one that nobody has rated."""
    method = make_factors(make_content(ITEMS + 1), threshold=threshold, embedding_rank=embedding_rank)
    enough = int((np.bincount(ratings.item) >= max(threshold, 1)).sum())
    assert (enough == ITEMS) == (threshold <= 1)
    assert (enough == 0) == (threshold == 100)
    for division in ("three", "every user a node"):
        seen = set()
        for shared, sent, _ in rounds_of(method, divisions[division], 3):
            for contribution in sent:
                arrays = contribution.arrays
                rows = {name: len(arrays[name]) for name in ROWS_OF_ITEMS if name in arrays}
                assert rows == dict.fromkeys(rows, enough)
                assert shared.arrays == {} or not any(ITEMS + 1 in array.shape for array in arrays.values())
                seen |= set(rows)
        assert seen == set(ROWS_OF_ITEMS if embedding_rank else ROWS_OF_ITEMS[:2])
        assert all(torch.isfinite(array).all() for array in shared.arrays.values())
        assert len(shared.arrays["item_mean"]) == len(shared.arrays["item_covariance"]) == ITEMS + 1


def test_the_embedding_is_that_of_dense_matrices_of_the_shared_items(make_factors, content, divisions, ratings):
    """The leading eigenvectors, which many products find, then a round of weighted least squares."""
    enough = np.bincount(ratings.item, minlength=ITEMS) >= 5
    rated = np.zeros((USERS, ITEMS))
    rated[ratings.user, ratings.item] = 1
    rated = rated[:, enough]
    method = make_factors(content, threshold=5, embedding_rounds=60)
    *_, (before, _, _), (after, _, _) = rounds_of(method, divisions["three"], 1)
    first, last = (shared.arrays["embedding"].numpy()[enough] for shared in (before, after))
    assert (after.arrays["embedding"][~enough] == 0).all()

    raters = rounded_up(rated.sum(0), 5)
    root = rated / np.sqrt(np.maximum(rated.sum(1, keepdims=True), 1)) * raters**-0.25
    values, vectors = np.linalg.eigh(root.T @ root)
    best = vectors[:, -3:] * np.sqrt(values[-3:])
    best *= 0.3 / np.sqrt(np.sum(best**2) / ITEMS)
    np.testing.assert_allclose(first @ first.T, best @ best.T, atol=1e-9)

    def solve(row: np.ndarray, vectors: np.ndarray, products: np.ndarray, number: float, others: int) -> np.ndarray:
        left = (row * vectors.T) @ vectors + 0.1 * products + 0.003 * (number + 0.1 * others) * np.eye(3)
        return np.linalg.solve(left, row @ vectors)

    private = np.array([solve(row, first, first.T @ first, row.sum(), ITEMS) for row in rated])
    of_users = private, private.T @ private
    expected = [solve(row, *of_users, number, USERS) for row, number in zip(rated.T, raters, strict=True)]
    np.testing.assert_allclose(last, expected, atol=1e-9)


@pytest.mark.parametrize("embedding_rank", [0, 3])
def test_items_under_the_threshold_are_what_their_content_says(
    make_factors, content, divisions, ratings, embedding_rank
):
    method = make_factors(content, threshold=5, embedding_rank=embedding_rank)
    under = np.bincount(ratings.item, minlength=ITEMS) < 5
    assert 2 <= under.sum() <= ITEMS - 4
    for shared, _, _ in rounds_of(method, divisions["three"], 0):
        if "basis" in shared.arrays:
            assert shared.arrays["basis"][under].abs().max() < 1e-12
    shared = run_rounds(method, divisions["three"], 5).shared
    embedding = shared.arrays["embedding"]
    assert (embedding[under] == 0).all()
    # F of each such item, from its content and the embedding that its content tells.
    design = method.design(shared)
    known = design.traits[~under]
    products = known.T @ known
    ridge = EMBEDDING_RIDGE * products.diagonal().mean() * torch.eye(len(products), dtype=torch.float64)
    told = torch.linalg.inv(products + ridge) @ known.T @ design.embedded(embedding)[~under]
    prior = torch.cat([design.content[under], design.traits[under] @ told], 1) @ shared.arrays["item_weights"]
    torch.testing.assert_close(shared.arrays["item_mean"][under], prior, rtol=0, atol=1e-12)
    covariance = unpack(shared.arrays["item_covariance"][under], 3)
    torch.testing.assert_close(covariance, shared.arrays["item_spread"].expand_as(covariance), rtol=0, atol=1e-12)


def test_what_an_item_under_the_threshold_was_rated_is_seen_by_its_raters_alone(make_factors, content, divide_users):
    """Its only rater's sums may change with the rating; those of a node without that user do not."""
    rng = np.random.default_rng(4)
    user, item = np.nonzero(rng.random((8, ITEMS)) < 0.6)
    lonely = (item == 0) & (user > 0)
    user, item = user[~lonely].astype(np.int32), item[~lonely].astype(np.int32)
    value = (rng.integers(1, 11, len(user)) / 2).astype(np.float32)
    if not (item == 0).any():
        user, item = np.append(user, 0).astype(np.int32), np.append(item, 0).astype(np.int32)
        value = np.append(value, 3.0).astype(np.float32)
    other = value.copy()
    other[item == 0] = 5.5 - value[item == 0]
    assert (other != value).sum() == 1
    raters = np.bincount(item, minlength=ITEMS)
    enough = int((raters >= 2).sum())
    assert raters[0] == 1
    method = make_factors(content)
    one, two = (divide_users(Ratings(user, item, each), [0] * 4 + [1] * 4) for each in (value, other))
    first, second = list(rounds_of(method, one, 2)), list(rounds_of(method, two, 2))
    # The same model for both, as the moments of round 0 would differ.
    for (shared, sent, kept), _ in zip(first, second, strict=True):
        again = [each for each, _ in method.contribute(shared, two, [None, None])]
        before = [each for each, _ in method.contribute(shared, one, [None, None])]
        assert len(sent) == len(kept) == 2
        for name, array in before[1].arrays.items():
            assert torch.equal(array, again[1].arrays[name]), name
        for name in set(ROWS_OF_ITEMS) & before[0].arrays.keys():
            assert len(before[0].arrays[name]) == len(again[0].arrays[name]) == enough


def test_the_shared_prediction_is_that_of_a_user_of_whom_nothing_is_known(make_factors, content, divisions, ratings):
    method = make_factors(content)
    shared = run_rounds(method, divisions["three"], 4).shared
    arrays = shared.arrays
    centre, unit = arrays["scale"].tolist()
    expected = []
    slopes = method.design(shared).slopes
    for item in ratings.item.tolist():
        x = torch.cat([torch.ones(1).double(), arrays["item_mean"][item, 1:], slopes[item]])
        expected.append(centre + unit * float(arrays["item_mean"][item, 0] + x @ arrays["covariate_weights"][0]))
    np.testing.assert_allclose(method.predict(shared, ratings), np.clip(expected, 0.5, 5), rtol=1e-12)
    assert torch.equal(method.named(shared)["item_mean"], arrays["item_mean"])


def test_predictions_stay_within_the_limits(make_factors, content, divisions, ratings):
    trained = run_rounds(make_factors(content), divisions["one"], 3)
    free = make_factors(content).predict(trained.shared, ratings)
    limits = float(free.quantile(0.3)), float(free.quantile(0.7))
    method = make_factors(content, limits=limits)
    assert torch.equal(method.predict(trained.shared, ratings), free.clamp(*limits))
    (model,) = method.personalise(trained.shared, divisions["one"], trained.private)
    user, item = (torch.from_numpy(each).long() for each in (ratings.user, ratings.item))
    mean, _ = model.distribution(rows_to_predict(user, item))
    assert mean.min() < limits[0]
    assert mean.max() > limits[1]
    assert torch.equal(model.predict(rows_to_predict(user, item)), mean.clamp(*limits))


def test_the_seed_makes_the_first_factors_and_nothing_else(make_factors, content, divisions):
    one, same, other = (
        run_rounds(make_factors(content, seed=seed), divisions["three"], 1).shared for seed in (3, 3, 4)
    )
    assert one.digest() == same.digest()
    assert one.digest() != other.digest()
    assert torch.equal(one.arrays["raters"], other.arrays["raters"])


def test_threads_do_not_change_a_bit(make_factors, content, divisions):
    found = []
    for threads in (1, 3):
        method = make_factors(content, threads=threads)
        trained = run_rounds(method, divisions["three"], 3)
        found.append((trained.shared.digest(), personal_predictions(method, trained, divisions["three"])))
    assert found[0][0] == found[1][0]
    assert all(torch.equal(one, other) for one, other in zip(found[0][1], found[1][1], strict=True))


def test_a_model_read_from_its_arrays_goes_on_as_the_one_in_memory(make_factors, content, divisions):
    """The server's shortcuts are no state: a model that was sent gives the same next one, bit for bit."""
    method = make_factors(content)
    *_, (shared, sent, _) = rounds_of(method, divisions["three"], 4)
    plain = SharedModel(dict(shared.arrays), shared.round, server=dict(shared.server))
    assert method.combine(plain, ordered_sum(sent)).digest() == method.combine(shared, ordered_sum(sent)).digest()


def test_what_a_node_keeps_cannot_be_sent(make_factors, content, divisions):
    trained = run_rounds(make_factors(content), divisions["three"], 1)
    for state in trained.private:
        assert isinstance(state, FactorsState)
        with pytest.raises(TypeError, match="FactorsState is private to its node"):
            pickle.dumps(state)


def simulated_nodes(nodes: int, users: int, seed: int) -> tuple[Ratings, np.ndarray, np.ndarray]:
    """Ratings of nodes whose users differ by a mean of their node; each user's node, and the nodes' means."""
    rng = np.random.default_rng(seed)
    of_node, node_of = rng.normal(0, 0.7, nodes), np.repeat(np.arange(nodes), users)
    bias = of_node[node_of] + rng.normal(0, 0.3, len(node_of))
    quality = rng.normal(0, 0.4, ITEMS)
    user, item = np.nonzero(rng.random((len(node_of), ITEMS)) < 0.6)
    value = 3 + bias[user] + quality[item] + rng.normal(0, 0.6, len(user))
    return Ratings(user.astype(np.int32), item.astype(np.int32), value.astype(np.float32)), node_of, of_node


def test_nodes_that_differ_get_means_of_their_own_and_new_users_there_profit(make_factors, content, divide_users):
    ratings, node_of, of_node = simulated_nodes(8, 25, 0)
    nodes = divide_users(ratings, node_of.tolist())
    method = make_factors(content, kernel=None, limits=(-9.0, 9.0))
    trained = run_rounds(method, nodes, 10)
    arrays = trained.shared.arrays
    unit = float(arrays["scale"][1])
    assert unit**2 * float(arrays["node_variance"][0]) == pytest.approx(of_node.var(ddof=1), rel=0.3)
    models = method.personalise(trained.shared, nodes, trained.private)
    stranger = torch.full((ITEMS,), 10**6)
    found = [float(model.predict(rows_to_predict(stranger, torch.arange(ITEMS))).mean()) for model in models]
    differences = np.array(found) - np.mean(found)
    assert np.corrcoef(differences, of_node)[0, 1] > 0.95
    assert np.polyfit(of_node, differences, 1)[0] == pytest.approx(1, abs=0.25)
    alike = replace(method, between_nodes=False)
    again = run_rounds(alike, nodes, 10)
    without = alike.personalise(again.shared, nodes, again.private)
    means = [float(model.predict(rows_to_predict(stranger, torch.arange(ITEMS))).mean()) for model in without]
    assert np.ptp(means) < 1e-9

"""A private prior: no user adds more than the clip norm, the noise is what was paid for, and the rest is Bayes."""

from __future__ import annotations

import itertools
import math
from dataclasses import astuple, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from hierfed.data.content import Content
from hierfed.data.federation import Node
from hierfed.data.ratings import Ratings
from hierfed.engines.in_process import run_rounds
from hierfed.engines.rounds import Round
from hierfed.errors import HierfedError
from hierfed.federated.contract import Contribution, SharedModel, ordered_sum
from hierfed.federated.rules import OPEN_SUM
from hierfed.methods.local.personal import fit_local
from hierfed.methods.private_prior.private_prior import (
    FIRST_GUESS,
    MOST_RATINGS,
    PRODUCTS_SHARE,
    RELEASES,
    WEIGHTS_SHARE,
    PrivatePrior,
    _thinned,
)
from hierfed.privacy.discrete_gaussian import discrete_gaussian, grid_of
from hierfed.privacy.secure_sum.simulation import SecureSum
from hierfed.private_randomness import PrivateStreams

LIMITS = (0.5, 5.0)
ROUNDS = {release.name: number for number, release in enumerate(RELEASES, 1)}


def ratings_of(rng: np.random.Generator, users: range, items: int, most: int = 30) -> Ratings:
    rows = [(user, item) for user in users for item in rng.permutation(items)[: rng.integers(1, most)]]
    user, item = np.array(rows, np.int32).T
    value = np.clip(np.round(2 * rng.normal(3.5, 1.2, len(rows))) / 2, *LIMITS).astype(np.float32)
    return Ratings(user, item, value)


@pytest.fixture(scope="module")
def content(make_content) -> Content:
    return replace(make_content(60), names=("vote_average", "votes", "year"))


@pytest.fixture
def make_method(content):
    def make(noise: float = 1.0, key: bytes = bytes(32), **changes) -> PrivatePrior:
        streams = PrivateStreams(key)
        given = {"noise_nodes": 2, "allow": lambda number: noise, "streams": streams} | changes
        return PrivatePrior(content, LIMITS, **given)

    return make


def shared_at(method: PrivatePrior, number: int) -> SharedModel:
    return replace(method.start(), round=number - 1)


def sent(method: PrivatePrior, number: int, rows: Ratings) -> torch.Tensor:
    nobody = rows.take(np.empty(0, np.int64))
    ((contribution, _),) = method.contribute(shared_at(method, number), [Node(0, "1", rows, nobody)], [None])
    assert contribution.arrays["nodes"].tolist() == [1.0]
    return contribution.arrays[RELEASES[number - 1].name]


@given(seed=st.integers(0, 2**32), number=st.sampled_from(sorted(ROUNDS.values())), noise=st.sampled_from([0.0, 3.0]))
@settings(max_examples=9, deadline=None)
def test_a_user_more_or_less_changes_the_release_by_no_more_than_the_clip_norm(seed, number, noise, content):
    """The noise, which is the same in both, takes itself off; what is left is that user's vector."""
    rng = np.random.default_rng(seed)
    method = PrivatePrior(content, LIMITS, 2, lambda number: noise, PrivateStreams(bytes(32)))
    rows = ratings_of(rng, range(4), len(content), 200)
    # One user far out: all at one end of the scale.
    value = np.where(rows.user == 3, LIMITS[seed % 2], rows.value).astype(np.float32)
    rows = replace(rows, value=value)
    difference = sent(method, number, rows) - sent(method, number, rows.take(rows.user != 3))
    assert 0 < float(difference.norm()) <= RELEASES[number - 1].clip_norm


@pytest.mark.parametrize("number", ROUNDS.values())
def test_the_noise_of_all_nodes_together_is_what_was_paid_for(number, content, make_method):
    rows = ratings_of(np.random.default_rng(1), range(3), len(content))
    clip, quiet = RELEASES[number - 1].clip_norm, sent(make_method(0.0), number, rows)
    drawn = [sent(make_method(7.0, bytes([key]) * 32), number, rows) - quiet for key in range(12)]
    noise = torch.cat(drawn).numpy()
    variance = (7.0 * clip) ** 2 / 2
    low, high = chi2.ppf([1e-4, 1 - 1e-4], len(noise))
    assert low <= (noise**2).sum() / variance <= high


def test_the_first_release_is_what_evidence_gains_and_loses(content, make_method):
    """Of one user, against the logarithm of a multivariate t by its matrix."""
    rows = ratings_of(np.random.default_rng(2), range(1), len(content), 9)
    method = make_method(0.0)
    told = sent(method, 1, rows)
    begin = fit_local(method.prior(method.start()), rows, LIMITS, 1).kriging.evidence()
    names = list(vars(FIRST_GUESS))
    for place, name in enumerate(names):
        for turn, factor in enumerate((2.0, 0.5)):
            scales = replace(FIRST_GUESS, **{name: getattr(FIRST_GUESS, name) * factor})
            arrays = {**method.start().arrays, "scales": torch.tensor(astuple(scales), dtype=torch.float64)}
            gained = fit_local(method.prior(SharedModel(arrays)), rows, LIMITS, 1).kriging.evidence() - begin
            assert float(told[2 * place + turn]) == pytest.approx(float(gained), abs=1e-5)


def test_the_mean_s_release_is_whitened_and_within_the_norm(content, make_method):
    rows = ratings_of(np.random.default_rng(3), range(1), len(content), 9)
    method = make_method(0.0)
    told = sent(method, ROUNDS["mean"], rows)
    fitted = fit_local(method.prior(method.start()), rows, LIMITS, 1)
    (fit,) = fitted.kriging.own_fits()
    whitened = fit.vectors[0] * torch.diagonal(fitted.prior.spread).sqrt()
    products = PRODUCTS_SHARE * whitened.T @ fit.inverse[0] @ whitened
    targets = whitened.T @ fit.inverse[0] @ fitted.own.residuals
    norm = math.sqrt(float(targets.square().sum() + products.square().sum()))
    kept = min(1.0, RELEASES[1].clip_norm / norm)
    torch.testing.assert_close(told[: len(targets)], kept * targets, rtol=0, atol=1e-5)
    assert float(told.norm()) == pytest.approx(kept * norm, abs=1e-3)


def test_the_biases_release_is_of_public_items_alone(content, make_method, monkeypatch):
    monkeypatch.setattr("hierfed.methods.private_prior.private_prior.MOST_ITEMS", 10)
    rows = ratings_of(np.random.default_rng(4), range(1), len(content), 40)
    method = make_method(0.0)
    assert len(method.items) == 10
    assert content.votes[method.items].min() >= np.delete(content.votes, method.items).max()
    told = sent(method, ROUNDS["biases"], rows)
    assert len(told) == 20
    (fit,) = fit_local(method.prior(method.start()), rows, LIMITS, 1).kriging.own_fits()
    whole = torch.zeros(2, 60, dtype=torch.float64)
    whole[:, fit.items[0]] = torch.stack([fit.solution[0], WEIGHTS_SHARE * fit.inverse[0].diagonal()])
    whole = whole[:, torch.from_numpy(method.items)].flatten()
    kept = min(1.0, RELEASES[2].clip_norm / float(whole.norm()))
    torch.testing.assert_close(told, kept * whole, rtol=0, atol=1e-5)


@pytest.fixture
def nodes(content):
    rng = np.random.default_rng(8)
    found = [ratings_of(rng, range(6 * node, 6 * node + 6), len(content)) for node in range(3)]
    return [Node(number, str(number + 1), rows, rows.take(np.arange(3))) for number, rows in enumerate(found)]


def test_secure_sums_give_the_same_prior(nodes, make_method):
    openly, securely = (
        run_rounds(make_method(2.0), nodes, len(RELEASES), how=Round(rule)).shared for rule in (OPEN_SUM, SecureSum())
    )
    for name, array in openly.arrays.items():
        torch.testing.assert_close(securely.arrays[name], array, rtol=0, atol=1e-9)


def test_without_noise_and_with_many_users_the_prior_finds_what_they_have_in_common(content, make_method):
    """All users rate an item of those with many votes by a bias of its own, half a star up or down."""
    rng, method = np.random.default_rng(9), make_method(0.0)
    bias = rng.choice([-0.6, 0.6], len(content))
    rows = ratings_of(rng, range(60), len(content), 25)
    mean = method.prior(method.start()).mean.numpy()
    value = np.clip(mean[rows.item] + bias[rows.item] + rng.normal(0, 0.2, len(rows)), *LIMITS)
    rows = replace(rows, value=value.astype(np.float32))
    trained = run_rounds(method, [Node(0, "1", rows, rows)], len(RELEASES)).shared
    moved = method.prior(trained).mean.numpy() - mean
    assert np.corrcoef(moved, bias)[0, 1] > 0.7
    assert trained.arrays["item_doubt"].max() <= 0.025


def test_rounds_beyond_the_releases_and_nodes_without_a_secret_are_refused(nodes, make_method):
    with pytest.raises(HierfedError, match="is learned in 3 rounds"):
        next(iter(make_method().contribute(replace(make_method().start(), round=3), nodes, [None] * 3)))
    with pytest.raises(HierfedError, match="needs a secret"):
        next(iter(make_method(streams=None).contribute(make_method().start(), nodes, [None] * 3)))


def test_a_server_combines_sums_without_any_stream(nodes, make_method):
    method = make_method()
    total = ordered_sum(contribution for contribution, _ in method.contribute(method.start(), nodes, [None] * 3))
    server = make_method(streams=None)
    assert server.combine(server.start(), total).digest() == method.combine(method.start(), total).digest()
    assert isinstance(total, Contribution)


@given(counts=st.lists(st.integers(1, 3 * MOST_RATINGS), min_size=1, max_size=4), seed=st.integers(0, 9))
@settings(max_examples=30)
def test_of_each_user_at_most_so_many_ratings_are_used_spread_over_all(counts, seed):
    user = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    order = np.random.default_rng(seed).permutation(len(user))
    item = np.concatenate([np.arange(count) for count in counts]).astype(np.int32)
    found = _thinned(Ratings(user[order], item[order], np.ones(len(user), np.float32)))
    kept = np.bincount(found.user, minlength=len(counts))
    assert kept.tolist() == [min(count, MOST_RATINGS) for count in counts]
    pairs = set(zip(found.user.tolist(), found.item.tolist(), strict=True))
    assert len(pairs) == len(found)


@pytest.mark.parametrize("number", ROUNDS.values())
def test_what_a_user_adds_is_the_same_integers_alone_and_beside_others(number, content, make_method):
    """Not but for rounding: at the edge of a step the last digit of a float would decide."""
    method, rows = make_method(1.0), ratings_of(np.random.default_rng(8), range(5), len(content), 50)
    release, grid = RELEASES[number - 1], grid_of(method._share(number))
    size = len(sent(method, number, rows))
    noise = discrete_gaussian(
        method.streams.stream(number, 0, f"noise: {release.name}"), method._share(number), grid, size
    )

    def steps(some: Ratings) -> np.ndarray:
        found = ((sent(method, number, some) - noise) / grid).numpy()
        assert (found == found.round()).all()
        return found.astype(np.int64)

    alone = [steps(rows.take(rows.user == user)) for user in range(5)]
    assert all(each.any() for each in alone)
    for some in itertools.chain(itertools.combinations(range(5), 2), [range(5), range(4, 0, -1)]):
        together = rows.take(np.flatnonzero(np.isin(rows.user, list(some))))
        assert (steps(together) == sum(alone[user] for user in some)).all()


def test_a_user_s_numbers_are_never_computed_beside_another_user_s(content, make_method, monkeypatch):
    """Wherever the edge of a step lies: no float of a user's is made of a batch with others in it."""
    seen = []

    def fit_one(prior: object, train: Ratings, *more: object) -> object:
        seen.append(len(np.unique(train.user)))
        return fit_local(prior, train, *more)

    monkeypatch.setattr("hierfed.methods.private_prior.private_prior.fit_local", fit_one)
    rows = ratings_of(np.random.default_rng(9), range(5), len(content), 20)
    for number in ROUNDS.values():
        sent(make_method(1.0), number, rows)
    assert max(seen) == 1
    assert seen.count(1) == 5 * (1 + 2 * len(vars(FIRST_GUESS))) + 5 + 5


@pytest.mark.parametrize("number", ROUNDS.values())
def test_a_node_without_ratings_adds_noise_alone(number, content, make_method):
    rows = ratings_of(np.random.default_rng(8), range(2), len(content))
    nothing = rows.take(np.empty(0, np.int64))
    assert not sent(make_method(0.0), number, nothing).any()
    assert sent(make_method(1.0), number, nothing).shape == sent(make_method(1.0), number, rows).shape

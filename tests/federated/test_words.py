"""Words: what comes out of a sum is right to a few steps, without bias, and never wraps unseen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hierfed.engines.in_process import run_rounds
from hierfed.engines.rounds import Round, round_of
from hierfed.errors import HierfedError, SettingsError
from hierfed.federated.contract import Contribution, SharedModel, ordered_sum
from hierfed.federated.deflate import Deflate
from hierfed.federated.steps import Known, Limit
from hierfed.federated.words import Words, most_nodes
from hierfed.privacy.secure_sum.simulation import SecureSum
from hierfed.settings import load_settings

NODES, KNOWN = 8, Known(SharedModel({}), None, {"a": Limit(torch.tensor([[40.0], [4.0]]).double())})


def contributions(seed: int = 0, size: float = 5.0) -> list[Contribution]:
    """Two rows whose totals stay within 40 and 4; b has no limit."""
    rng = np.random.default_rng(seed)
    rows = rng.uniform(-size, size, (NODES, 2, 300)) * np.array([[1.0], [0.1]])
    return [Contribution({"a": torch.from_numpy(each), "b": torch.ones(3).double() / 3}) for each in rows]


def summed(words: Words, given: list[Contribution], known: Known = KNOWN) -> Contribution:
    return words.at_server(ordered_sum(words.at_node(each, known, node) for node, each in enumerate(given)), known)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_total_is_right_to_a_few_steps_of_its_row(bits):
    exact, found = ordered_sum(contributions()), summed(Words(bits), contributions())
    step = torch.tensor([[40.0], [4.0]]) / 2 ** (bits - 1)
    off = (found.arrays["a"] - exact.arrays["a"]) / step
    assert off.abs().max() < NODES
    # The variance of each rounding is f (1 - f), 1/6 on average.
    assert off.square().mean() == pytest.approx(NODES / 6, rel=0.15)
    assert torch.equal(found.arrays["b"], exact.arrays["b"])
    assert found.arrays.keys() == {"a", "b"}


def test_rounding_has_no_bias():
    exact = ordered_sum(contributions()).arrays["a"]
    draws = [summed(Words(8, seed), contributions()).arrays["a"] - exact for seed in range(200)]
    mean = torch.stack(draws).mean(0) / (torch.tensor([[40.0], [4.0]]) / 128)
    assert mean.abs().max() < 5 * (NODES / 6 / 200) ** 0.5


def test_bytes_are_those_of_words():
    sent = Words(8).at_node(contributions()[0], KNOWN, 0)
    assert sent.nbytes == 2 * 300 + 3 * 8 + 4
    assert sent.words == {"a": 8, "check": 32}
    wider = replace(KNOWN, limits={"a": replace(KNOWN.limits["a"], bits=16)})
    assert Words(8).at_node(contributions()[0], wider, 0).words["a"] == 16


def test_secure_sums_of_words_are_the_open_ones():
    sent = {node: Words(8).at_node(each, KNOWN, node) for node, each in enumerate(contributions())}
    secure = SecureSum()(sent.items()).total
    for name, array in ordered_sum(sent.values()).arrays.items():
        assert torch.equal(secure.arrays[name], array) or name == "b"


def test_single_nodes_may_wrap_and_a_total_may_not():
    given = contributions()
    given[0] = Contribution({**given[0].arrays, "a": given[0].arrays["a"] + 1000})
    given[1] = Contribution({**given[1].arrays, "a": given[1].arrays["a"] - 1000})
    assert torch.allclose(summed(Words(16), given).arrays["a"], ordered_sum(given).arrays["a"], atol=0.1)
    given[1] = contributions()[1]
    with pytest.raises(HierfedError, match="round 1: the total of 'a' does not fit into words of 8 bits"):
        summed(Words(8), given)


def test_deflate_gives_back_what_was_sent_and_refuses_what_cannot_be():
    sent = Words(8).at_node(contributions()[0], KNOWN, 0)
    packed = Deflate().at_node(sent, KNOWN, 0)
    found = Deflate().on_arrival(packed, sent, 1, 0)
    assert all(torch.equal(found.arrays[name], array) for name, array in sent.arrays.items())
    zeros = Contribution({"a": torch.zeros(10_000, dtype=torch.int8)})
    assert Deflate().at_node(zeros, KNOWN, 0).nbytes < 60
    for wrong in (sent, Deflate().at_node(zeros, KNOWN, 0), Contribution({"packed": packed.arrays["packed"][:-30]})):
        with pytest.raises(ValueError, match=r"agreed|unpack"):
            Deflate().on_arrival(wrong, sent, 1, 0)


@pytest.fixture(scope="module")
def world(make_pairs, make_content, make_factors, divide_users):
    nodes = divide_users(make_pairs(60, 15, seed=1), [user % 4 for user in range(60)])
    return make_factors(make_content(15), momentum=0.5), nodes


@pytest.mark.parametrize("steps", [(Words(16),), (Words(8),), (Words(8), Deflate())])
def test_the_hierarchical_model_learns_from_words(world, steps):
    method, nodes = world
    plain_bytes, own_bytes = list[int](), list[int]()
    plain = run_rounds(method, nodes, 8, lambda done: plain_bytes.append(done.bytes_up)).shared
    how = Round(steps=steps)
    found = run_rounds(method, nodes, 8, lambda done: own_bytes.append(done.bytes_up), how).shared
    off = (found.arrays["item_mean"] - plain.arrays["item_mean"]).square().mean().sqrt()
    assert off < (0.01 if steps[0].bits == 16 else 0.15) * plain.arrays["item_mean"].square().mean().sqrt()
    assert 0 < sum(own_bytes) < 0.6 * sum(plain_bytes)


def test_what_is_reduced_is_smaller_and_comes_back_whole(world):
    method, nodes = world
    shared = run_rounds(method, nodes, 2).shared
    sums, _ = next(iter(method.contribute(shared, nodes[:1], [None])))
    sent = method.reduced(sums, shared)
    size = len(sums.arrays["user_moments"])
    for name in ("user_moments", "covariate_products"):
        assert sent.arrays[name].shape == (size * (size + 1) // 2,)
    for name, array in method.restored(sent, shared).arrays.items():
        assert torch.allclose(array, sums.arrays[name], rtol=1e-9, atol=1e-12), name


def test_words_under_secure_sums_give_the_model_of_open_words(world):
    method, nodes = world
    opened, secure = (
        run_rounds(method, nodes, 3, how=Round(rule, (Words(8),))).shared for rule in (Round().rule, SecureSum())
    )
    for name, array in opened.arrays.items():
        assert torch.allclose(secure.arrays[name], array, atol=1e-6), name


def test_what_cannot_be_is_refused_with_the_reason():
    for preset, changes, reason in [
        ("hierarchical", {"steps": ["deflate"], "secure_sums": True}, "which secure sums hide"),
        ("hierarchical", {"steps": ["deflate", "words8"]}, "name it last"),
        ("hierarchical", {"steps": ["words8", "words16"]}, "rounded to words once"),
        ("network", {"steps": ["words8"], "rule": "trimmed_mean"}, "single words mean nothing"),
        ("hierarchical", {"steps": ["words8"], "nodes": most_nodes(8) + 1}, "65 nodes is too much for words of 8 bits"),
        ("private", {"steps": ["words16"]}, "noise is measured out"),
    ]:
        with pytest.raises(SettingsError, match=reason):
            load_settings(preset, changes)
    assert round_of(load_settings("hierarchical", {"steps": ["words8", "deflate"]})).steps == (Words(8, 0), Deflate())

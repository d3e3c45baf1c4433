"""EDEN: rotations and levels against their definitions; what is read is right on average, to the published error."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import hadamard
from scipy.stats import norm

from hierfed.engines.rounds import round_of
from hierfed.errors import SettingsError
from hierfed.federated.contract import Contribution, SharedModel
from hierfed.federated.eden import LEVELS, Eden, _transformed
from hierfed.federated.steps import Known
from hierfed.settings import load_settings

KNOWN, AVERAGED = Known(SharedModel({})), {"change"}


def read(step: Eden, array: np.ndarray, node: int = 0) -> np.ndarray:
    """What the server reads of an array that this node sends to round 1."""
    given = Contribution({"change": torch.from_numpy(array), "rows": torch.ones(1).double()})
    sent = step.at_node(given, KNOWN, node)
    assert torch.equal(sent.arrays["rows"], given.arrays["rows"])
    return step.on_arrival(sent, given, 1, node).arrays["change"].numpy()


@pytest.mark.parametrize("bits", LEVELS)
def test_levels_are_the_means_of_their_parts_of_the_normal_distribution(bits):
    levels = np.array(LEVELS[bits])
    ends = np.concatenate([[0], (levels[1:] + levels[:-1]) / 2, [np.inf]])
    # The mean of a normal number between a and b is (density(a) - density(b)) / (cumulative(b) - cumulative(a)).
    means = -np.diff(norm.pdf(ends)) / np.diff(norm.cdf(ends))
    assert levels == pytest.approx(means, abs=1e-4)


def test_the_transform_is_hadamards():
    rows = np.random.default_rng(0).normal(size=(3, 64))
    assert _transformed(rows) == pytest.approx(rows @ hadamard(64) / 8)


@pytest.mark.parametrize(("bits", "error"), [(1, np.pi / 2 - 1), (2, 0.1331)])
def test_the_squared_error_is_the_published_one(bits, error):
    array = np.random.default_rng(1).normal(size=8192) * np.linspace(0, 3, 8192)
    found = read(Eden(bits, AVERAGED), array)
    assert np.square(found - array).sum() / np.square(array).sum() == pytest.approx(error, rel=0.05)
    assert found @ array == pytest.approx(array @ array)


@pytest.mark.parametrize("bits", LEVELS)
@pytest.mark.parametrize("entries", [64, 100])
def test_the_mean_over_rotations_is_the_array_even_if_it_is_sparse(bits, entries):
    for array in (np.random.default_rng(2).normal(size=entries), np.eye(entries)[3] + np.eye(entries)[7]):
        draws = np.array([read(Eden(bits, AVERAGED, seed), array) for seed in range(400)])
        off = (draws.mean(0) - array) / (draws.std(0) / 20 + 1e-9)
        assert np.abs(off).max() < 5


def test_nodes_have_rotations_of_their_own_so_that_errors_average_out():
    array = np.random.default_rng(3).normal(size=1000)
    mean = np.mean([read(Eden(1, AVERAGED), array, node) for node in range(16)], 0)
    error = np.square(mean - array).sum() / np.square(array).sum()
    assert error == pytest.approx((np.pi / 2 - 1) / 16, rel=0.2)


def test_bytes_are_those_of_bits_and_scales_and_zeros_stay_zeros():
    zeros = Contribution({"change": torch.zeros(40, 64).double(), "loss": torch.ones(2).double()})
    sent = Eden(2, AVERAGED).at_node(zeros, KNOWN, 0)
    # 2,560 numbers are 3 blocks of 1,024.
    assert sent.nbytes == 3 * (4 + 256) + 16
    arrived = Eden(2, AVERAGED).on_arrival(sent, zeros, 1, 0)
    assert torch.equal(arrived.arrays["change"], zeros.arrays["change"])
    short = Contribution({"change": torch.arange(63).double()})
    assert Eden(2, AVERAGED).at_node(short, KNOWN, 0).arrays["change"] is short.arrays["change"]
    for wrong in (zeros, Contribution({"change": sent.arrays["change"][:-1]}), Contribution({})):
        with pytest.raises(ValueError, match="'change' is not rotated and rounded to 2 bits"):
            Eden(2, AVERAGED).on_arrival(wrong, zeros, 1, 0)


def test_what_is_not_finite_shows():
    assert not np.isfinite(read(Eden(2, AVERAGED), np.full(64, np.nan))).any()


def test_settings_refuse_it_where_it_cannot_be():
    for preset, changes, reason in [
        ("network", {"secure_sums": True}, "which secure sums hide"),
        ("hierarchical", {}, "'hierarchical' can only be added: take words8"),
    ]:
        for step in ("eden1", "top_k"):
            with pytest.raises(SettingsError, match=reason):
                load_settings(preset, {"steps": [step], **changes})
    steps = round_of(load_settings("network", {"steps": ["eden2"], "seed": 5})).steps
    assert steps == (Eden(2, frozenset({"change", "steps", "control"}), 5),)

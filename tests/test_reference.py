"""The fast path against the reference, over whole experiments on real data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hierfed.data.division import assign, divide, load_dataset
from hierfed.engines.in_process import FinishedRound, run_rounds
from hierfed.methods.averaging.build import make_averaging
from hierfed.methods.averaging.feature_fitting import features_of
from hierfed.methods.averaging.stacked import train_stacked
from hierfed.methods.averaging.training import Trainer
from hierfed.models.scale import RatingScale
from hierfed.settings import load_settings
from tests.reference.loop import train_loop


def train(trainer: Trainer, rounds: int) -> tuple[list[float], torch.Tensor]:
    """RMSE of each round and the last parameters of the paper's preset on embedded data, all in float64."""
    settings = load_settings("paper", {"rounds": rounds})
    dataset = load_dataset(settings)
    split = divide(dataset, settings)
    features = features_of(
        dataset.catalogue, dataset.ratings.take(split.train), settings.factors.min_raters, dataset.ratings.limits
    )
    method = make_averaging(settings, features, RatingScale())
    method = replace(method, features=method.features.double(), trainer=trainer)
    nodes, _ = assign(dataset, split, settings)
    test = dataset.ratings.take(split.test)
    errors: list[float] = []

    def judge(finished: FinishedRound) -> None:
        difference = method.predict(finished.shared, test).numpy() - test.value
        errors.append(float(np.sqrt(np.mean(difference**2))))

    return errors, run_rounds(method, nodes, rounds, judge).shared.arrays["parameters"]


@pytest.mark.slow
def test_stacked_and_loop_agree_on_the_papers_experiment() -> None:
    # In float64, because at the kinks of ReLU a rounding error can grow without end, in any implementation: float32's
    # begin at 1e-7 and are seen in the first round, float64's at 1e-16 and stay small for several.
    fast, fast_parameters = train(train_stacked, rounds=2)
    plain, plain_parameters = train(train_loop, rounds=2)
    assert fast == pytest.approx(plain, abs=1e-5)
    torch.testing.assert_close(fast_parameters, plain_parameters, rtol=0, atol=1e-5)

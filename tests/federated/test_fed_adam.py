"""FedAdam against two steps computed by hand, and its moments in the model that the server keeps."""

from __future__ import annotations

import pytest
import torch

from hierfed.errors import SettingsError
from hierfed.federated.contract import Contribution, SharedModel
from hierfed.federated.fed_adam import FedAdam
from hierfed.federated.tables import SERVER_OPTIMIZERS
from hierfed.models.scale import RatingScale
from hierfed.settings import load_settings


def vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_two_steps_are_those_of_the_equations():
    adam = FedAdam(learning_rate=0.1, first_decay=0.5, second_decay=0.75, adaptivity=0.5)
    moved, server = adam.step(vector(1.0, 2.0), vector(2.0, -1.0), {})
    # m = .5 d; v = .75 * .25 + .25 d^2 = (1.1875, .4375)
    expected = [1 + 0.1 * 1.0 / (1.1875**0.5 + 0.5), 2 - 0.1 * 0.5 / (0.4375**0.5 + 0.5)]
    assert moved.tolist() == pytest.approx(expected, rel=1e-14)
    again, _ = adam.step(moved, vector(0.0, 1.0), server)
    # m = (.5, .25); v = .75 * (1.1875, .4375) + .25 * (0, 1) = (.890625, .578125)
    expected = [
        expected[0] + 0.1 * 0.5 / (0.890625**0.5 + 0.5),
        expected[1] + 0.1 * 0.25 / (0.578125**0.5 + 0.5),
    ]
    assert again.tolist() == pytest.approx(expected, rel=1e-14)


def test_the_moments_stay_at_the_server():
    from hierfed.methods.averaging.build import make_averaging

    settings = load_settings("network", {"server_optimizer": "adam", "server_learning_rate": 0.01})
    method = make_averaging(settings, features_of_two_items(), RatingScale())
    total = Contribution({"change": torch.ones(method.predictor.parameter_count).double(), "rows": vector(2.0)})
    model = method.combine(SharedModel(method.start().arrays, 0), total)
    assert set(model.server) == {"first_moment", "second_moment"}
    assert set(model.arrays) == {"parameters"}
    assert model.digest() == SharedModel(model.arrays).digest()


def features_of_two_items():
    import numpy as np

    from hierfed.data.features import Features

    return Features(np.eye(2, dtype=np.float32), ("a", "b"), ())


@pytest.mark.parametrize("preset", ["hierarchical", "local"])
def test_methods_without_parameters_refuse_it(preset):
    with pytest.raises(SettingsError, match="no parameters that an optimizer moves"):
        load_settings(preset, {"server_optimizer": "adam"})


def test_the_table_gives_it_the_settings_rate():
    federation = load_settings("network", {"server_learning_rate": 0.25}).federation
    assert SERVER_OPTIMIZERS["adam"](federation) == FedAdam(0.25)

"""What stays at home cannot be packed into a message."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from hierfed.data.ratings import rows_to_predict
from hierfed.federated.contract import Contribution
from hierfed.federated.private import PersonalModel, PrivateState
from hierfed.methods.averaging.averaging import PersonalNetwork
from hierfed.methods.averaging.network import Network
from hierfed.methods.averaging.user_level import UserHeads
from hierfed.models.scale import RatingScale


class Diary(PrivateState):
    """A method's own kind of private state."""


def user_heads() -> UserHeads:
    return UserHeads(torch.tensor([1]), torch.zeros(1).double(), torch.zeros(1, 2).double())


def personal_network() -> PersonalNetwork:
    network = Network(3, (2,))
    return PersonalNetwork(
        network,
        torch.zeros(4, 3),
        network.initial(0),
        user_heads(),
        RatingScale(),
        rows_to_predict([], []),
    )


EVERY_KIND = pytest.mark.parametrize("make", [PrivateState, Diary, PersonalModel, user_heads, personal_network])


@EVERY_KIND
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_private_state_refuses_to_be_pickled(make: Callable[[], PrivateState], protocol):
    private = make()
    with pytest.raises(TypeError, match=f"{type(private).__name__} is private to its node and cannot be sent"):
        pickle.dumps(private, protocol)


@EVERY_KIND
def test_private_state_refuses_to_travel_inside_something_else(make: Callable[[], PrivateState]):
    with pytest.raises(TypeError, match="is private to its node"):
        pickle.dumps({"change": [1.0, (make(),)]})


@EVERY_KIND
def test_private_state_is_no_contribution(make: Callable[[], PrivateState]):
    with pytest.raises((TypeError, AttributeError)):
        Contribution({"change": make()})


@pytest.mark.parametrize(
    "array",
    [
        torch.zeros(2),
        torch.zeros(2, dtype=torch.float16),
        torch.zeros(2, dtype=torch.int64),
        torch.zeros(2, dtype=torch.bool),
        np.zeros(2),
        np.zeros(2, np.float32),
        [0.0, 1.0],
        1.0,
        "secret",
        None,
    ],
    ids=repr,
)
def test_only_float64_tensors_are_contributions(array: Tensor):
    with pytest.raises((TypeError, AttributeError)):
        Contribution({"rows": torch.ones(1, dtype=torch.float64), "change": array})


def test_float64_tensors_are_contributions():
    arrays = {"rows": torch.ones(1, dtype=torch.float64), "change": torch.zeros(3, dtype=torch.float64)}
    assert Contribution(arrays).arrays == arrays

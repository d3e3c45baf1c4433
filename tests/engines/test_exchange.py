"""What a node's answer may hold: contributions, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from hierfed.engines.exchange import Reply
from hierfed.federated.contract import Contribution
from hierfed.federated.private import PrivateState, StoredState

NUMBER = torch.ones(1, dtype=torch.float64)


@dataclass(frozen=True)
class Secret(PrivateState):
    """A state whose attribute looks like a contribution's."""

    arrays: dict[str, torch.Tensor]


@pytest.mark.parametrize(
    "sent",
    [
        {"sum": NUMBER},
        NUMBER,
        [Contribution({})],
        None,
        Contribution,
        Secret({"sum": NUMBER}),
        StoredState({"a": NUMBER}),
    ],
    ids=["dict", "tensor", "list", "nothing", "class", "private state", "stored state"],
)
def test_a_reply_takes_a_contribution_alone(sent):
    with pytest.raises(TypeError, match="a node sends contributions, not"):
        Reply({}, sent)


def test_what_was_offered_instead_is_named():
    with pytest.raises(TypeError, match="Secret"):
        Reply({}, Secret({"sum": NUMBER}))


@pytest.mark.parametrize("hidden", [Secret({"sum": NUMBER}), StoredState({"a": NUMBER})], ids=["own", "stored"])
def test_private_state_does_not_get_in_as_one_of_the_arrays(hidden):
    with pytest.raises(TypeError, match="only float64 tensors"):
        Reply({}, Contribution({"sum": NUMBER, "state": hidden}))


def test_a_reply_gives_what_it_was_given():
    contribution = Contribution({"sum": NUMBER})
    assert Reply({"round": 3}, contribution).contribution is contribution
    assert Reply().facts == {}
    assert Reply().contribution.arrays == {}

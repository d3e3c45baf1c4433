"""Top-k: what is sent by hand, and that what is left out comes later."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hierfed.engines.in_process import run_rounds
from hierfed.engines.rounds import Round
from hierfed.federated.contract import Contribution, SharedModel
from hierfed.federated.private import PrivateState, StoredState
from hierfed.federated.remembered import beside, of_method, of_steps
from hierfed.federated.steps import Known
from hierfed.federated.top_k import TopK

KNOWN, STEP = Known(SharedModel({})), TopK({"change"})


def contribution(array: np.ndarray) -> Contribution:
    return Contribution({"change": torch.from_numpy(array), "rows": torch.ones(1).double()})


def test_two_rounds_by_hand():
    array = np.zeros(64)
    array[[2, 5, 30, 40, 50, 63]] = [1.0, -8.0, 4.0, 2.0, -3.0, 0.5]
    given = contribution(array)
    sent, left = STEP.with_memory(given, KNOWN, 0, {})
    # 4 of 64 entries: a bit for each of the 64, and 4 bytes for each of the 4.
    assert sent.nbytes == 8 + 16 + 8
    first = STEP.on_arrival(sent, given, 1, 0).arrays["change"].numpy()
    assert {place: first[place] for place in first.nonzero()[0]} == {5: -8.0, 30: 4.0, 40: 2.0, 50: -3.0}
    sent, left = STEP.with_memory(given, KNOWN, 0, left)
    # The entries 2 and 63, left out once, count twice: 2 and 1; so 40 and 2 are equal, and the first of them goes.
    second = STEP.on_arrival(sent, given, 2, 0).arrays["change"].numpy()
    assert {place: second[place] for place in second.nonzero()[0]} == {2: 2.0, 5: -8.0, 30: 4.0, 50: -3.0}
    kept = left["change"].numpy()
    assert {place: kept[place] for place in kept.nonzero()[0]} == {40: 2.0, 63: 1.0}


def test_nothing_is_lost():
    rng, left, read, whole = np.random.default_rng(0), {}, 0.0, 0.0
    for number in range(40):
        array = rng.normal(size=(10, 20))
        sent, left = STEP.with_memory(contribution(array), KNOWN, 0, left)
        read = read + STEP.on_arrival(sent, contribution(array), number, 0).arrays["change"].numpy()
        whole = whole + array
    assert read + left["change"].numpy().reshape(10, 20) == pytest.approx(whole)
    # What waits stays bounded; without a memory all but a sixteenth would be gone.
    assert np.square(read - whole).sum() < 0.5 * np.square(whole).sum()


def test_what_is_not_as_agreed_is_refused():
    given = contribution(np.arange(100.0))
    good = STEP.at_node(given, KNOWN, 0).arrays["change"]
    more = good.clone()
    more[0] |= 128
    for wrong in ({"change": good[:-4]}, {"change": given.arrays["change"]}, {}, {"change": more}):
        with pytest.raises(ValueError, match=r"'change' (does not hold 7|says of other than 7) entries"):
            STEP.on_arrival(Contribution(wrong), given, 1, 0)


class OwnState(PrivateState):
    """Of a method."""

    def kept(self) -> dict[str, torch.Tensor]:
        return {"vector": torch.ones(2)}


def test_what_is_left_lies_beside_the_methods_state_on_disk_too():
    left = {"change": torch.arange(3.0)}
    assert beside(None, {}) is None
    for state in (beside(OwnState(), left), StoredState(beside(OwnState(), left).kept())):
        assert of_method(state).kept().keys() == {"vector"}
        assert torch.equal(of_steps(state)["change"], left["change"])
    assert of_method(StoredState(beside(None, left).kept())) is None
    assert of_method(StoredState(OwnState().kept())).kept().keys() == {"vector"}
    assert of_steps(None) == {} == of_steps(OwnState())


def test_nodes_keep_what_is_left_and_a_method_never_sees_it(make_node):
    seen = []

    class Same:
        """Every node sends 1, 2, ..., 64 in each round."""

        def start(self):
            return SharedModel({})

        def contribute(self, shared, nodes, private):
            seen.extend(private)
            for _ in nodes:
                yield contribution(np.arange(1.0, 65.0)), None

        def combine(self, shared, total):
            known = shared.arrays.get("sum", torch.zeros(64).double())
            return SharedModel({"sum": known + total.arrays["change"]}, shared.round + 1)

    nodes = [make_node(number, 5) for number in range(2)]
    trained = run_rounds(Same(), nodes, 2, how=Round(steps=(STEP,)))
    # Round 1 sends 61 to 64, round 2 twice 57 to 60, of both nodes.
    expected = np.zeros(64)
    expected[60:], expected[56:60] = 2 * np.arange(61, 65), 4 * np.arange(57, 61)
    assert trained.shared.arrays["sum"].numpy() == pytest.approx(expected)
    assert set(seen) == {None}
    assert trained.private == [None, None]

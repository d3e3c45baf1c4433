"""A node's private states: of this training, stage, round and rows alone, and no more of them than a round may need."""

from __future__ import annotations

import pytest
import torch

from hierfed.deployment.round_states import RoundStates
from hierfed.federated.private import PrivateState
from tests.deployment.test_state import belief


@pytest.fixture
def states(tmp_path) -> RoundStates:
    made = RoundStates(tmp_path)
    made.begin()
    return made


def same(found: PrivateState | None, expected: PrivateState) -> bool:
    assert found is not None
    mine, theirs = found.kept(), expected.kept()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_what_was_kept_is_recalled_for_this_training_stage_round_and_rows_alone(states):
    states.keep("one", "rating", 3, "rows", belief(1))
    assert same(states.recall("one", "rating", 3, "rows"), belief(1))
    for asked in [("two", "rating", 3, "rows"), ("one", "ease", 3, "rows"), ("one", "rating", 2, "rows")]:
        assert states.recall(*asked) is None
    assert states.recall("one", "rating", 3, "other rows") is None


def test_the_last_two_rounds_are_kept_and_no_others(states, tmp_path):
    for number in range(-2, 13):
        states.keep("one", "rating", number, "rows", belief(number + 5))
        there = {path.name for path in (tmp_path / "rounds").iterdir()}
        assert there == {f"rating.{each}.safetensors" for each in {max(number - 1, -2), number}}
        assert same(states.recall("one", "rating", number, "rows"), belief(number + 5))
        if number > -2:
            assert same(states.recall("one", "rating", number - 1, "rows"), belief(number + 4))
    # A server that begins anew.
    states.keep("two", "rating", 1, "rows", belief(99))
    assert {path.name for path in (tmp_path / "rounds").iterdir()} == {"rating.1.safetensors"}


def test_a_round_that_is_asked_for_again_takes_the_place_of_the_first(states):
    for seed in (1, 2):
        states.keep("one", "rating", 3, "rows", belief(seed))
    assert same(states.recall("one", "rating", 3, "rows"), belief(2))


def test_other_stages_rounds_are_left_alone(states):
    states.keep("one", "rating", 9, "rows", belief(1))
    states.keep("one", "ease", 1, "rows", belief(2))
    assert same(states.recall("one", "rating", 9, "rows"), belief(1))


def test_a_state_of_which_nothing_is_kept_leaves_no_file(states, tmp_path):
    states.keep("one", "rating", 1, "rows", PrivateState())
    assert not list((tmp_path / "rounds").iterdir())

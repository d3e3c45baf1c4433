"""A federation whose server is killed after every round, at random: kills, lost disks, silence, late answers, lies.

It ends with an honest outcome, or with a clear stop. Where every node was in every round, the digest is that of a
federation that nothing happened to.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from flwr.supercore.task_identity import TaskIdentity
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from hierfed.errors import HierfedError
from tests.attacks.test_lies import NAMES, everywhere, lies, one_cell

QUORUM = 2
LIES = {"rubbish": everywhere(-1e6), "no number": one_cell(math.nan)}
TROUBLES = ["lost", "late", *LIES]
# Each reason is one that a person can act on.
CLEAR = ("was abandoned", "takes no part")


class Ended(Exception):
    """The server's process is killed."""


class Machine(RuleBasedStateMachine):
    """lost: nodes whose disk is gone. whole: every node was in every round. stop: the server's last word."""

    make: Any
    wanted: str

    @initialize()
    def begin(self) -> None:
        self.place = Path(tempfile.mkdtemp())
        self.village = type(self).make(self.place)
        self.lost: set[str] = set()
        self.whole, self.digest, self.stop = True, "", ""

    def running(self) -> bool:
        return not self.digest and not self.stop

    @precondition(running)
    @rule(name=st.sampled_from(NAMES))
    def restart(self, name: str) -> None:
        if name not in self.lost:
            self.village.start(name)

    @precondition(lambda self: self.running() and self.village.planned and len(self.lost) == 0)
    @rule(name=st.sampled_from(NAMES))
    def lose_a_disk(self, name: str) -> None:
        self.village.sides.pop(name).state.close()
        shutil.rmtree(self.village.place / name)
        self.lost.add(name)

    @precondition(running)
    @rule(troubles=st.dictionaries(st.sampled_from(NAMES), st.sampled_from(TROUBLES), min_size=1, max_size=2))
    def run(self, troubles: dict[str, str]) -> None:
        """Let the server live for a round, in which some nodes are in trouble."""
        self.live(1, {name: what for name, what in troubles.items() if name not in self.lost})

    def live(self, rounds: float, troubles: dict[str, str]) -> None:
        seen: list[Any] = []
        expected = [name for name in NAMES if name not in self.lost and name not in troubles]

        def meddle(name: str, kind: str, facts: Any) -> str:
            trouble = troubles.get(name, "")
            return trouble if kind == "round" and not seen and trouble in ("lost", "late") else ""

        def on_round(record: Any) -> None:
            seen.append(record)
            if len(seen) == 1:
                assert set(record.contributors) <= set(NAMES) - self.lost
                assert not record.abandoned or len(expected) < QUORUM
                if not record.abandoned:
                    liars = {name for name, what in troubles.items() if what in LIES}
                    assert not liars & set(record.contributors)
                    assert set(expected) <= set(record.contributors)
            self.whole &= record.abandoned or len(record.contributors) == len(NAMES)
            if len(seen) == rounds:
                raise Ended

        honest = {name: side.answer for name, side in self.village.sides.items()}
        for name, trouble in troubles.items():
            if trouble in LIES:
                lies(self.village.sides[name], LIES[trouble], when=lambda request: not seen)
        try:
            result = self.village.serve(meddle, on_round, quorum=QUORUM, nodes=len(NAMES) - len(self.lost))
            self.digest = result.digest
        except Ended:
            pass
        except HierfedError as error:
            self.stop = str(error)
        finally:
            for name, answer in honest.items():
                self.village.sides[name].answer = answer
        if self.stop:
            assert self.stop.isprintable()
            assert any(each in self.stop for each in CLEAR), self.stop

    @precondition(lambda self: not self.running())
    @rule()
    def nothing(self) -> None:
        """It is over."""

    def teardown(self) -> None:
        if not hasattr(self, "village"):
            return
        try:
            if self.running():
                self.live(math.inf, {})
                assert self.digest
            if self.digest and self.whole:
                assert self.digest == type(self).wanted
            models = self.village.models()
            assert all(array.isfinite().all() for model in models.values() for array in model.arrays.values())
            assert not {name for name, side in self.village.sides.items() if "failure" in side.__dict__}
        finally:
            self.village.close()
            shutil.rmtree(self.place)


def test_whatever_happens_the_outcome_is_honest_or_a_clear_stop(
    data, make_settings, village, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
    wanted = make_settings("item_biases")
    undisturbed = village(wanted)

    def make(place: Path) -> Any:
        found = type(undisturbed)(place, data, wanted)
        found.start(*NAMES)
        return found

    Driven = type("Driven", (Machine,), {"make": staticmethod(make), "wanted": undisturbed.serve().digest})
    run_state_machine_as_test(
        Driven,
        settings=settings(
            max_examples=6, stateful_step_count=6, deadline=None, derandomize=True, database=None,
            phases=[Phase.generate], suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip

"""Steps, in one process and over messages: what the server undoes leaves the model as it was."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from hierfed.engines.in_process import run_rounds
from hierfed.engines.replies import template
from hierfed.engines.rounds import Round, steps_of
from hierfed.errors import SettingsError
from hierfed.federated import tables
from hierfed.federated.contract import Contribution, SharedModel
from hierfed.federated.rules import OpenSum
from hierfed.federated.steps import Known, Step, StepKind, receive, send
from hierfed.methods.ranking.ease import Ease
from hierfed.settings import load_settings


@dataclass
class Times(Step):
    """Multiplies what is sent, and divides the total."""

    factor: float

    def at_node(self, contribution: Contribution, known: Known, node: int) -> Contribution:
        return contribution * self.factor

    def at_server(self, total: Contribution, known: Known) -> Contribution:
        return total * (1 / self.factor)


@dataclass
class Plus(Step):
    """Adds to what each node sends, and takes it from the total of so many nodes."""

    amount: float
    nodes: int

    def at_node(self, contribution: Contribution, known: Known, node: int) -> Contribution:
        return Contribution({name: array + self.amount for name, array in contribution.arrays.items()})

    def at_server(self, total: Contribution, known: Known) -> Contribution:
        return Contribution({name: array - self.nodes * self.amount for name, array in total.arrays.items()})


def test_the_server_undoes_steps_in_reverse_order():
    known, one = Known(SharedModel({})), Contribution({"a": torch.tensor([3.0]).double()})
    steps = (Times(2.0), Plus(5.0, 1))
    sent, kept = send(steps, one, known, 0)
    assert kept == {}
    assert sent.arrays["a"].item() == 11.0
    assert receive(steps, sent, known).arrays["a"].item() == 3.0


def test_steps_change_what_the_rule_sees_and_not_the_model(make_node):
    nodes, seen = [make_node(number, 20) for number in range(3)], []

    class Watched(OpenSum):
        def __call__(self, contributions):
            def watched():
                for number, contribution in contributions:
                    seen.append(contribution)
                    yield number, contribution

            return super().__call__(watched())

    plain = run_rounds(Ease(23, 10.0), nodes, 1).shared
    stepped = run_rounds(Ease(23, 10.0), nodes, 1, how=Round(Watched(), (Times(4.0), Plus(8.0, 3)))).shared
    assert stepped.digest() == plain.digest()
    assert all(bool((each.arrays["raters"] >= 8).all()) for each in seen[:3])


def test_the_template_of_an_answer_went_through_the_steps():
    method = Ease(23, 10.0)
    plain, stepped = template(method, method.start()), template(method, method.start(), (Times(2.0),))
    assert torch.equal(stepped.arrays["raters"], 2 * plain.arrays["raters"])


def test_settings_name_steps(monkeypatch):
    with pytest.raises(SettingsError, match="no step 'times'"):
        load_settings("network", {"steps": ["times"]})
    monkeypatch.setattr(tables, "STEPS", {"times": StepKind(lambda federation, seed, averaged: Times(2.0))})
    monkeypatch.setattr("hierfed.federated.settings.STEPS", tables.STEPS)
    monkeypatch.setattr("hierfed.engines.rounds.STEPS", tables.STEPS)
    monkeypatch.setattr("hierfed.settings_refusals.STEPS", tables.STEPS)
    assert steps_of(load_settings("network", {"steps": ["times", "times"]})) == (Times(2.0), Times(2.0))

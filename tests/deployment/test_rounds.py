"""A federation's rounds are those of one process, whatever method, rule, steps and optimizer the settings name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from hierfed.deployment.node import NodeSide
from hierfed.engines.exchange import Reply, Request
from hierfed.engines.in_process import run_rounds
from hierfed.engines.rounds import round_of
from hierfed.engines.stages import after_earlier_stages
from hierfed.federated.contract import Contribution
from hierfed.federated.steps import Known, Step, StepKind
from hierfed.federated.tables import STEPS
from hierfed.methods import Case, kind_of, prepare
from hierfed.results import DeployedRound


@dataclass
class Doubled(Step):
    """Nodes send twice what they have; the server halves the total. Both are exact."""

    def at_node(self, contribution: Contribution, known: Known, node: int) -> Contribution:
        return contribution * 2.0

    def at_server(self, total: Contribution, known: Known) -> Contribution:
        return total * 0.5


@pytest.fixture(autouse=True)
def a_step(monkeypatch):
    steps = {**STEPS, "doubled": StepKind(lambda federation, seed, averaged: Doubled())}
    for place in ("federated.settings", "engines.rounds", "settings_refusals"):
        monkeypatch.setattr(f"hierfed.{place}.STEPS", steps)


@pytest.fixture(scope="module")
def plain() -> dict[str, str]:
    """Digests without any change but steps; kept, for they are asked for again and again."""
    return {}


@pytest.mark.parametrize(
    ("preset", "changes"),
    [
        ("item_biases", {}),
        ("network", {"rule": "trimmed_mean", "rule_share": 0.34}),
        ("network", {"rule": "median"}),
        ("network", {"rule": "krum"}),
        ("network", {"rule": "geometric_median"}),
        ("network", {"rule": "centred_clipping"}),
        ("hierarchical", {"rule": "screen", "rank_items": False}),
        ("network", {"server_optimizer": "adam", "server_learning_rate": 0.01}),
        ("network", {"optimizer": "sgd", "correction": "scaffold", "server_optimizer": "avgm"}),
        ("network", {"correction": "dyn", "proximal": 0.1}),
        ("network", {"kept": "head", "turns": ["head", "body"]}),
        ("network", {"own_model": "pfedme"}),
        ("network", {"correction": "nova", "server_optimizer": "yogi", "server_learning_rate": 0.01}),
        ("network", {"steps": ["doubled"]}),
        ("hierarchical", {"steps": ["words8", "deflate"], "rank_items": False, "select": False}),
        ("network", {"steps": ["eden2"]}),
        ("network", {"steps": ["top_k"], "optimizer": "sgd", "correction": "scaffold"}),
        ("network", {"steps": ["doubled"], "rule": "trimmed_mean", "rule_share": 0.34, "server_optimizer": "adam"}),
    ],
)
def test_the_digest_is_that_of_one_process(preset, changes, village, make_settings, data, plain):
    found = village(settings := make_settings(preset, **changes))
    result, nodes, how = found.serve(), data.nodes(), round_of(settings)
    values = data.table["rating"]
    case = Case(settings, data.catalogue, (float(values.min()), float(values.max())))
    method = prepare(after_earlier_stages(case, nodes, how)).method
    sent: list[int] = []
    rounds = kind_of(settings).rounds(settings)
    expected = run_rounds(method, nodes, rounds, lambda done: sent.append(done.bytes_up), how).shared
    assert result.digest == expected.digest()
    assert [each.bytes_up for each in result.rounds] == sent
    assert len(result.rounds) == rounds
    if changes:
        alone: dict[str, Any] = {"steps": changes.get("steps", [])}
        if (key := f"{preset} {alone}") not in plain:
            plain[key] = village(make_settings(preset, **alone)).serve().digest
        # Ranking and the selection leave the rating model's digest as it is, and honest nodes pass a screen.
        same = set(changes) - {"rank_items", "select"} == {"steps"} or changes.get("rule") == "screen"
        assert (plain[key] == result.digest) == same


@pytest.mark.parametrize(
    ("preset", "changes", "own"),
    [
        ("network", {"server_optimizer": "adam", "server_learning_rate": 0.01}, {"first_moment", "second_moment"}),
        ("network", {"correction": "dyn", "proximal": 0.1, "server_optimizer": "avgm"}, {"drift", "momentum"}),
        ("network", {"correction": "scaffold", "optimizer": "sgd"}, set()),
        ("network", {"kept": "head"}, set()),
        ("network", {"own_model": "fedala"}, set()),
        ("network", {"steps": ["top_k"]}, set()),
        ("hierarchical", {"momentum": 0.7, "rank_items": False, "select": False}, set()),
    ],
)
def test_the_servers_own_arrays_survive_a_restart_and_reach_no_node(
    preset, changes, own, village, make_settings, monkeypatch
):
    settings = make_settings(preset, **changes)
    undisturbed = village(settings).serve()
    found, received, answer = village(settings), set(), NodeSide.answer

    def answering(side: NodeSide, request: Request) -> Reply:
        received.update(request.arrays)
        return answer(side, request)

    def dies(record: DeployedRound) -> None:
        if (record.stage, record.round) == ("rating", 2):
            raise KeyboardInterrupt

    monkeypatch.setattr(NodeSide, "answer", answering)
    with pytest.raises(KeyboardInterrupt):
        found.serve(on_round=dies)
    assert found.serve().digest == undisturbed.digest
    assert {"parameters", "item_mean"} & received
    assert not own & received

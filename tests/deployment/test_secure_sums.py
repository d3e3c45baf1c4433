"""A federation whose server sees sums alone: the same model as in one process, whoever is lost on the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from hierfed.deployment.admission import ServerObserver
from hierfed.deployment.hosting import Hosting, host
from hierfed.deployment.signing import public_text
from hierfed.engines.flower.patience import Patience
from hierfed.engines.in_process import run_rounds
from hierfed.engines.rounds import PLAIN, Round
from hierfed.engines.secure_round import MESSAGE, STEPS
from hierfed.engines.stages import after_earlier_stages
from hierfed.errors import HierfedError, SettingsError
from hierfed.methods import Case, prepare
from hierfed.privacy.secure_sum.simulation import SecureSum

NAMES = ("node 1", "node 2", "node 10")
SCALE = (0.5, 5.0)
PRESETS = ("network", "hierarchical")


class Died(Exception):
    """The server's process ended."""


@pytest.fixture
def secure(make_settings):
    """The small settings of a preset under secure sums, all of whose rounds three nodes can make."""

    def make(preset: str, **changes: Any):
        return make_settings(preset, secure_sums=True, scale=list(SCALE), rank_items=False, **changes)

    return make


@pytest.fixture(scope="module")
def expected(data):
    """The shared model that the same nodes reach in one process, by secure sums too, or openly."""

    def find(settings, secure_sums: bool = True):
        nodes = data.nodes()
        how = Round(SecureSum()) if secure_sums else PLAIN
        method = prepare(after_earlier_stages(Case(settings, data.catalogue, SCALE), nodes, how)).method
        return run_rounds(method, nodes, settings.training.rounds, how=how).shared

    return find


def losing(node: str, phase: str, stage: str = "rating", number: int = 2):
    """A node whose process ends in a phase of a round, and does not come back."""
    now: dict[str, Any] = {}
    gone: set[str] = set()

    def meddle(name: str, kind: str, facts: Mapping[str, Any]) -> str:
        if kind == "round":
            now.update(stage=facts["stage"], round=facts["round"])
        if name == node and kind == phase and (now.get("stage"), now.get("round")) == (stage, number):
            gone.add(name)
        return "lost" if name in gone else ""

    return meddle


@pytest.mark.parametrize("preset", PRESETS)
def test_the_model_is_that_of_secure_sums_in_one_process(preset, secure, village, expected):
    settings = secure(preset)
    result = village(settings).serve()
    assert result.digest == expected(settings).digest()
    assert all(each.contributors == list(NAMES) and not each.refused for each in result.federation.rounds)


def test_the_model_is_close_to_that_of_open_sums(secure, village, expected):
    settings = secure("hierarchical")
    found = village(settings)
    found.serve()
    openly = expected(settings, secure_sums=False)
    for name, array in found.models()["rating"].arrays.items():
        torch.testing.assert_close(array, openly.arrays[name], rtol=0, atol=1e-5)


def test_what_nodes_judge_is_added_securely_too(secure, village, make_settings):
    openly = village(make_settings("network", scale=list(SCALE))).serve().federation.gain
    found = village(secure("network")).serve().federation.gain
    assert found.rows == openly.rows > 0
    assert found.rmse_before == pytest.approx(openly.rmse_before, abs=1e-5)
    assert found.rmse_after == pytest.approx(openly.rmse_after, abs=1e-5)


def test_nothing_that_a_node_sends_is_of_its_ratings(secure, village):
    """Of what is not under a mask there is nothing but names, keys and signatures."""
    found = village(secure("hierarchical"))
    found.serve()
    assert {kind for _, kind, _ in found.sent} == {
        "hello",
        "setup",
        "round",
        *STEPS,
        "finish",
        "judge",
        "ledger",
        "goodbye",
    }
    for _, kind, message in found.sent:
        facts = {name: value for record in message.content.config_records.values() for name, value in record.items()}
        arrays = [array for record in message.content.array_records.values() for array in record.values()]
        assert not arrays
        if kind in ("round", "judge", *STEPS):
            assert MESSAGE in facts
            assert all(isinstance(value, bytes | str) for value in facts.values())
        elif kind == "hello":
            assert not {"limits", "low", "high", "unknown", "rows"} & facts.keys()


@pytest.mark.parametrize("phase", ["round", *STEPS])
def test_a_node_that_is_lost_in_any_phase_stops_nobody(phase, secure, village):
    found = village(secure("hierarchical"))
    result = found.serve(losing("node 2", phase))
    second = next(each for each in result.federation.rounds if (each.stage, each.round) == ("rating", 2))
    uploaded = phase in ("consent", "unmask")
    assert second.contributors == (list(NAMES) if uploaded else ["node 1", "node 10"])
    assert result.federation.rounds[-1].contributors == ["node 1", "node 10"]
    assert result.federation.rounds[-1].round == 4


def test_a_round_that_too_few_stay_in_is_asked_again(secure, village, expected):
    """Two of three nodes are needed at the least."""
    settings, asked = secure("network"), []

    def meddle(name: str, kind: str, facts: Mapping[str, Any]) -> str:
        if kind == "mask" and name != "node 1":
            asked.append(name)
            return "lost" if 7 <= len(asked) <= 8 else ""
        return ""

    result = village(settings).serve(meddle)
    abandoned = [each for each in result.federation.rounds if each.abandoned]
    assert len(abandoned) == 1
    assert not abandoned[0].contributors
    assert result.digest == expected(settings).digest()


def test_a_server_that_dies_goes_on_with_the_same_nodes_to_the_same_model(secure, village, expected):
    settings = secure("hierarchical")
    found = village(settings)

    def on_round(record):
        if (record.stage, record.round) == ("rating", 2) and not begun:
            begun.append(True)
            raise Died

    begun: list[bool] = []
    with pytest.raises(Died):
        found.serve(on_round=on_round)
    found.start(*NAMES)
    assert found.serve().digest == expected(settings).digest()


def test_a_newcomer_is_turned_away_once_the_nodes_are_settled(secure, village):
    settings = secure("network")
    found = village(settings, "node 1", "node 2")

    def on_round(record):
        raise Died

    with pytest.raises(Died):
        found.serve(on_round=on_round)
    found.start("node 1", "node 2", "node 10")
    result = found.serve(nodes=2)
    assert result.federation.nodes == ["node 1", "node 2"]
    assert any("the nodes that add securely were settled before it came" in event for event in found.events)


def test_nodes_with_peers_add_with_them_and_with_no_one_else(secure, village, expected):
    settings = secure("network")
    found = village(settings)
    keys = {name: public_text(side.state.key().public_key()) for name, side in found.sides.items()}
    for name in NAMES:
        found.start(name, peers=frozenset(keys.values()))
    assert found.serve().digest == expected(settings).digest()


def test_a_node_refuses_a_plan_with_a_stranger(secure, village):
    found = village(secure("network"))
    keys = {name: public_text(side.state.key().public_key()) for name, side in found.sides.items()}
    found.start("node 2", peers=frozenset({keys["node 1"]}))
    result = found.serve()
    assert all(each.contributors == ["node 1", "node 10"] for each in result.federation.rounds)
    assert "has a key that no --peer names" in str(found.sides["node 2"].failure)
    assert not any(kind == "round" for name, kind, _ in found.sent if name == "node 2")


def test_ratings_beyond_the_scale_end_the_node_before_it_sends_anything(make_settings, village):
    found = village(make_settings("network", secure_sums=True, scale=[2.5, 3.0], rank_items=False))
    with pytest.raises(HierfedError):
        found.serve()
    assert "data.scale: is from 2.5 to 3, and there are ratings from" in str(found.sides["node 1"].failure)
    assert not any(kind == "round" for _, kind, _ in found.sent)


@pytest.mark.parametrize(
    ("nodes", "scale", "reason"),
    [(1, [0.5, 5], "--nodes 1: a sum over one node is its own contribution"), (3, [], "data.scale: under secure sums")],
)
def test_what_secure_sums_cannot_keep_is_refused_before_anyone_joins(
    nodes, scale, reason, make_settings, data, tmp_path
):
    settings = make_settings("network", secure_sums=True, scale=scale)
    with pytest.raises(SettingsError, match=reason) as error:
        host(settings, data.catalogue, tmp_path, Hosting("127.0.0.1", 0), nodes, 1, Patience(), ServerObserver())
    assert "\n" not in str(error.value)

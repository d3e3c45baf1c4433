"""Rounds of every shape, from the settings to the result: what works together, and what is refused with its reason."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hierfed.deployment.plan import check_deployable
from hierfed.errors import SettingsError
from hierfed.experiment import run_experiment
from hierfed.generated.files import write_world
from hierfed.ledger.chain import Chain
from hierfed.ledger.entries import RoundEntry
from hierfed.outcome import Outcome
from hierfed.settings import Settings, load_settings

SMALL: dict[str, Any] = {
    "protocol": "warm",
    "nodes": 4,
    "partition": "users",
    "personal_nodes": 4,
    "personal_partition": "users",
    "rank": 2,
    "embedding_rank": 4,
    "embedding_rounds": 2,
    "select": False,
    "rank_items": False,
    "rounds": 4,
    "momentum": 0.0,
    "ledger": "none",
}

TREE: dict[str, Any] = {"topology": "tree", "fan_out": 2}
GOSSIP: dict[str, Any] = {"topology": "gossip"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> str:
    """40 users who rate 60 items."""
    place = tmp_path_factory.mktemp("shapes") / "world"
    write_world(place, users=40, items=60, ratings=1_200, seed=3)
    return str(place)


def settings_of(world: str, preset: str = "hierarchical", **changes: Any) -> Settings:
    return load_settings(preset, {**SMALL, "data.source": world, **changes})


REFUSED = [
    ({"mode": "async", "secure_sums": True}, "which secure sums hide"),
    ({"mode": "async", "rule": "screen"}, "rule 'screen' compares answers to one model"),
    ({"mode": "async", "participation": 0.5}, "whoever answers first takes part"),
    ({"mode": "async", "steps": ["words16"]}, "step 'words16' rounds sums that answer one model"),
    ({"mode": "async", "answers": 9}, "4 nodes never give 9 answers"),
    ({"answers": 2}, "federation.answers has no effect without 'async'"),
    ({"speed": "one_slow"}, "federation.speed has no effect without 'async'"),
    ({"staleness": 0.1}, "federation.staleness has no effect without 'async'"),
    ({"mode": "async", "speed": "fast"}, "no speed 'fast'"),
    ({"fan_out": 4}, "federation.fan_out has no effect without 'tree'"),
    ({"graph": "ring"}, "federation.graph has no effect without 'gossip'"),
    ({"lost_messages": 0.2}, "federation.lost_messages has no effect without 'gossip'"),
    ({"topology": "gossip", "graph": "star"}, "no graph 'star'"),
    ({"topology": "tree", "fan_out": 2, "nodes": 3, "secure_sums": True}, "an edge of one node"),
    ({"topology": "tree", "participation": 0.5, "secure_sums": True}, "the root could solve for one"),
]


@pytest.mark.parametrize(("changes", "reason"), REFUSED)
def test_what_does_not_fit_together_is_refused_with_its_reason(changes, reason):
    with pytest.raises(SettingsError, match=reason):
        load_settings("hierarchical", {"nodes": 4, **changes})


@pytest.mark.parametrize(
    ("preset", "changes", "reason"),
    [
        ("local", {}, "sends nothing"),
        ("local", {"mode": "sync", "topology": "gossip"}, "sends nothing"),
        ("private", {"mode": "sync", "topology": "tree"}, "an edge learns that of its own"),
        ("private", {}, "noise is measured out"),
        ("network", {"correction": "nova"}, "'nova' is for rounds that answer one model"),
        ("paper", {"privacy_unit": "node", "secure_sums": True}, "noise is measured out"),
    ],
)
def test_methods_that_cannot_be_asynchronous_say_so(preset, changes, reason):
    with pytest.raises(SettingsError, match=reason):
        load_settings(preset, {"mode": "async", **changes})


@pytest.mark.parametrize(
    ("changes", "topology", "reason"),
    [
        ({"mode": "async", "speed": "one_slow"}, "star", "real ones come by themselves"),
        ({"topology": "tree"}, "star", "`hierfed edge` runs it under rule 'exact_sum': leave it at 'star'"),
        ({"topology": "gossip"}, "star", "`hierfed peer` runs it"),
        ({"topology": "gossip", "lost_messages": 0.1}, "gossip", "real ones come by themselves"),
        ({}, "gossip", "leave it at 'gossip'"),
    ],
)
def test_a_federation_of_real_machines_refuses_what_is_simulated(changes, topology, reason):
    with pytest.raises(SettingsError, match=reason):
        check_deployable(load_settings("hierarchical", changes), topology)


@pytest.mark.parametrize("preset", ["hierarchical", "network", "item_biases"])
def test_an_asynchronous_run_repeats_to_the_bit_and_tells_its_time(preset, world):
    changes = {} if preset == "hierarchical" else {"rounds": 4}
    settings = settings_of(world, preset, mode="async", answers=2, speed="one_slow", **changes)
    first, again = run_experiment(settings).result, run_experiment(settings).result
    assert again.digest == first.digest
    times = [each.simulated_time for each in first.rounds]
    assert times == [each.simulated_time for each in again.rounds]
    assert times == sorted(times)
    assert times[0] > 0


@pytest.fixture(scope="module")
def star(world) -> Outcome:
    """Synchronous rounds of a star, with features, selection and lists."""
    return run_experiment(settings_of(world, select=True, rank_items=True))


@pytest.mark.parametrize("changes", [GOSSIP, TREE], ids=lambda changes: changes["topology"])
def test_a_whole_run_without_a_star_finds_the_stars_models(changes, world, star):
    found = run_experiment(settings_of(world, select=True, rank_items=True, **changes))
    assert found.tuned.selection == star.tuned.selection
    assert found.models.keys() == star.models.keys()
    for stage, shared in star.models.items():
        for name, array in shared.arrays.items():
            torch.testing.assert_close(found.models[stage].arrays[name], array, rtol=0, atol=1e-9)
    before, after = star.result.rounds[-1], found.result.rounds[-1]
    assert after.global_rmse == pytest.approx(before.global_rmse, abs=1e-9)


@pytest.mark.parametrize("preset", ["hierarchical", "network", "item_biases"])
def test_a_tree_of_any_fan_out_has_the_digest_of_a_star_with_exact_sums(preset, world):
    changes = {} if preset == "hierarchical" else {"rounds": 2, "hidden": [4], "local_epochs": 1}
    star = run_experiment(settings_of(world, preset, rule="exact_sum", **changes)).result.digest
    for fan_out in (2, 3):
        tree = settings_of(world, preset, topology="tree", fan_out=fan_out, **changes)
        assert run_experiment(tree).result.digest == star


def test_words_and_secure_sums_of_a_tree_are_the_stars(world):
    """Edges' sums of what words do not carry are rounded once more."""
    options = {"steps": ["words16"], "secure_sums": True}
    tree, star = (run_experiment(settings_of(world, **options, **shape)).shared for shape in (TREE, {}))
    for name, array in star.arrays.items():
        torch.testing.assert_close(tree.arrays[name], array, rtol=0, atol=1e-12)


def test_networks_without_a_server_are_the_servers(world):
    changes = {"rounds": 2, "hidden": [4]}
    peers, star = (run_experiment(settings_of(world, "network", **changes, **shape)).shared for shape in (GOSSIP, {}))
    torch.testing.assert_close(peers.arrays["parameters"], star.arrays["parameters"], rtol=0, atol=1e-5)


def test_the_ledger_has_the_order_of_the_answers(world):
    pytest.importorskip("cryptography")
    settings = settings_of(world, mode="async", answers=2, speed="lognormal", ledger="keep")
    outcome = run_experiment(settings)
    assert outcome.ledger is not None
    chain = Chain()
    for line in outcome.ledger.sealed(outcome.models, {}).splitlines()[:-2]:
        chain.extend(line)
    orders = [entry.contributors for entry in chain.entries if isinstance(entry, RoundEntry)]
    assert [len(order) for order in orders if order != sorted(order)]
    assert {len(order) for order in orders[-3:]} == {2}

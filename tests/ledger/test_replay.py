"""A run is compared with the ledger of an earlier one: equal to the bit, or the first round that differs is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hierfed.cli import app
from hierfed.errors import HierfedError
from hierfed.experiment import run_experiment
from hierfed.generated.files import write_world
from hierfed.settings import load_settings

pytest.importorskip("cryptography")

from hierfed.federated.recorded import RecordedStep
from hierfed.ledger.entries import RefusedContribution
from hierfed.ledger.replay import Replay

LATE: dict[str, Any] = {"mode": "async", "answers": 1, "speed": "lognormal", "rounds": 6, "nodes": 3, "ledger": "keep"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> str:
    """20 users who rate 30 items."""
    place = tmp_path_factory.mktemp("replay") / "world"
    write_world(place, users=20, items=30, ratings=450, seed=3)
    return str(place)


def run(world: str, observers: list[Replay], **changes: Any) -> bytes:
    small = {"data.source": world, "hidden": [2], "local_epochs": 1, "partition": "users", "personal_nodes": 2}
    outcome = run_experiment(load_settings("network", {**small, **LATE, **changes}), observers=observers)
    assert outcome.ledger is not None
    return outcome.ledger.sealed(outcome.models, {})


@pytest.fixture(scope="module")
def path(world, tmp_path_factory) -> Path:
    """The ledger of an asynchronous run: an opening round and six steps."""
    file: Path = tmp_path_factory.mktemp("ledger") / "ledger.jsonl"
    file.write_bytes(run(world, []))
    return file


def test_an_asynchronous_run_is_its_ledgers_to_the_bit(world, path):
    replay = Replay(path)
    run(world, [replay])
    assert replay.compared == 1 + 6


def test_the_first_round_that_differs_is_named(world, path):
    # The opening on line 1, the opening round on line 2; answers to old models are weighed from some step on.
    with pytest.raises(HierfedError, match=r"ledger.jsonl, line [4-8]: round [2-6] has a sum that this run has not"):
        run(world, [Replay(path)], staleness=2.0)
    with pytest.raises(HierfedError, match=r"line 3: round 1 has a number of nodes that this run has not"):
        run(world, [Replay(path)], answers=2)


def test_a_round_too_many_is_told(world, path):
    with pytest.raises(HierfedError, match="round 7 is not in it"):
        run(world, [Replay(path)], rounds=7)


def test_a_run_that_ends_before_the_ledger_is_told(world, path):
    with pytest.raises(HierfedError, match="line 8: has round 6, and this run ended before it"):
        run(world, [Replay(path)], rounds=5)


def test_the_command_repeats_a_run_and_names_the_first_round_that_differs(world, path, tmp_path):
    small = ["hidden=[2]", "local_epochs=1", "partition=users", "personal_nodes=2", "mode=async", "answers=1"]
    small += ["speed=lognormal", "rounds=6", "nodes=3", "ledger=keep", "tuning_epochs=1"]
    words = ["run", "network", "--data", world, "--out", str(tmp_path), "--quiet", "--replay", str(path)]
    sets = [word for setting in small for word in ("--set", setting)]
    app(words + sets, standalone_mode=False)
    with pytest.raises(HierfedError, match=r"line [4-8]: round [2-6] has a sum that this run has not"):
        app([*words, *sets, "--set", "staleness=2", "--name", "other"], standalone_mode=False)
    with pytest.raises(HierfedError, match="cannot be read"):
        app([*words[:-1], str(tmp_path / "nothing"), *sets, "--name", "none"], standalone_mode=False)


def test_the_order_of_real_nodes_is_the_ledgers_and_none_of_a_simulation(writer, path, tmp_path):
    left = [RefusedContribution(node="bücherei", reason="was away")]
    writer.open("hospital", "bücherei")
    writer.round("features", 0, ["hospital", "bücherei"])
    writer.round("rating", 1, ["hospital"], refused=left)
    writer.round("rating", 2, [], total=None, model=writer.chain.models["rating"])
    writer.round("rating", 2, ["bücherei", "hospital"])
    file = tmp_path / "ledger.jsonl"
    file.write_bytes(writer.written)
    steps = [RecordedStep(("hospital",), ("bücherei",)), RecordedStep((), summed=False)]
    assert Replay(file).recorded() == [*steps, RecordedStep(("bücherei", "hospital"))]
    assert Replay(path).recorded() is None
    file.write_bytes(b"")
    assert Replay(file).recorded() is None


def test_a_training_that_a_node_joined_later_cannot_be_repeated(writer, tmp_path):
    writer.open("hospital")
    writer.round("rating", 1, ["hospital"])
    writer.round("rating", 2, ["hospital"], joined={"late comer": writer.public["late comer"]})
    file = tmp_path / "ledger.jsonl"
    file.write_bytes(writer.written)
    with pytest.raises(HierfedError, match="line 3: late comer joined in the midst of the training"):
        Replay(file).recorded()

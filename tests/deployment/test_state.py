"""What a node keeps: its owner's alone, one process's at a time, and whole or refused in one line."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from hierfed.deployment.local_models import personalise
from hierfed.deployment.plan import Plan
from hierfed.deployment.state import NodeState, Origin
from hierfed.engines.exchange import Request
from hierfed.errors import HierfedError
from hierfed.federated.contract import SharedModel
from hierfed.federated.private import StoredState
from hierfed.runs.served_pair import pair_folder

ORIGIN = Origin("ratings.csv", columns={"user": "who"}, test="", test_share=0.1)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def told(error: pytest.ExceptionInfo[HierfedError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "deep" / "state"


@pytest.fixture
def state(folder):
    made = NodeState(folder)
    yield made
    made.close()


@pytest.fixture
def plan(data, make_settings) -> Plan:
    settings = make_settings("hierarchical", **{"data.source": "/secret/ratings.csv", "learning_rate": 0.1 + 0.2})
    return Plan("f00d", settings, data.catalogue, (0.1 + 0.2, 5.0), nodes=3)


def belief(seed: int) -> StoredState:
    made = torch.Generator().manual_seed(seed)
    return StoredState({name: torch.randn(3, 2, generator=made, dtype=torch.float64) for name in ("mean", "precision")})


def test_the_folder_and_what_is_private_are_the_owner_s_alone(folder, plan):
    before = os.umask(0)
    try:
        state = NodeState(folder)
        state.begin("north", ORIGIN)
        state.keep_plan(plan.request(1, {}), plan.catalogue)
        state.rounds.keep("f00d", "rating", 1, "rows", belief(1))
        state.keep_model("rating", SharedModel({"a": torch.ones(2)}, 3))
        state.close()
    finally:
        os.umask(before)
    assert mode_of(folder) == 0o700
    assert mode_of(folder / "rounds") == 0o700
    for name in ("node.json", "plan.safetensors", "rounds/rating.1.safetensors"):
        assert mode_of(folder / name) == 0o600, name
    assert not list(folder.glob("**/*.unfinished"))


def test_a_folder_that_others_could_read_is_closed_to_them(folder):
    folder.mkdir(mode=0o755, parents=True)
    NodeState(folder).close()
    assert mode_of(folder) == 0o700


def test_a_second_holder_is_refused_until_the_first_lets_go(folder):
    first = NodeState(folder)
    with pytest.raises(HierfedError, match="another process is using it; each node needs its own") as error:
        NodeState(folder)
    assert str(folder) in told(error)
    first.close()
    NodeState(folder).close()


def test_a_second_process_is_refused_and_one_that_was_killed_holds_nothing(folder):
    script = (
        "import sys; from pathlib import Path; from hierfed.deployment.state import NodeState\n"
        "state = NodeState(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=_with_package()
    )
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(HierfedError, match="another process is using it"):
            NodeState(folder)
    finally:
        holder.kill()
        holder.communicate()
    NodeState(folder).close()


def _with_package() -> dict[str, str]:
    import hierfed

    return {**os.environ, "PYTHONPATH": str(Path(hierfed.__file__).parents[1])}


def test_a_folder_that_cannot_be_is_refused_in_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(HierfedError, match="cannot be used") as error:
        NodeState(tmp_path / "file")
    told(error)


def test_a_node_is_the_same_at_each_start_and_no_other_node_is(folder, tmp_path):
    identities = set()
    for source in ("a.csv", "b.csv", "b.csv"):
        state = NodeState(folder)
        identities.add(state.begin("north", Origin(source)))
        assert (state.name, state.origin) == ("north", Origin(source))
        state.close()
    assert len(identities) == 1
    assert len(identities.pop()) == 32
    other = NodeState(tmp_path / "other")
    assert other.begin("north", ORIGIN) not in identities
    other.close()


def test_another_name_is_refused_and_changes_nothing(state):
    identity = state.begin("north", ORIGIN)
    with pytest.raises(HierfedError, match="belongs to node 'north', not 'south'") as error:
        state.begin("south", Origin("other.csv"))
    told(error)
    assert (state.name, state.origin, state.begin("north", ORIGIN)) == ("north", ORIGIN, identity)


def test_an_origin_is_kept_whole(state):
    origin = Origin("s", "q", {"user": "who", "rating": "stars"}, "t", 0.25)
    state.begin("ü 1", origin)
    assert (state.name, state.origin) == ("ü 1", origin)


def test_a_folder_where_nobody_was_says_so(state):
    for read in (lambda: state.name, lambda: state.origin):
        with pytest.raises(HierfedError, match="no node has been here") as error:
            read()
        told(error)
    assert state.plan() is None
    assert state.model("rating") is None
    assert state.rounds.recall("f00d", "rating", 1, "rows") is None
    with pytest.raises(HierfedError, match="no federation has finished here yet") as error:
        personalise(state)
    told(error)


def test_a_plan_is_the_same_after_a_restart_to_the_last_bit(state, folder, plan, data):
    state.keep_plan(plan.request(2, {}), plan.catalogue)
    state.close()
    again = NodeState(folder)
    found, number = again.plan()
    again.close()
    assert number == 2
    assert (found.training, found.limits) == (plan.training, plan.limits)
    assert found.settings.model_dump(exclude={"data"}) == plan.settings.model_dump(exclude={"data"})
    assert found.settings.training.learning_rate == 0.1 + 0.2
    assert found.catalogue.digest() == data.catalogue.digest()
    assert found.settings.digest() == plan.settings.digest()


def test_where_the_server_s_data_lie_is_never_told(state, folder, plan):
    state.keep_plan(plan.request(2, {}), plan.catalogue)
    assert "/secret" not in json.dumps(dict(plan.request(2, {}).facts))
    assert not any(b"/secret" in path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_a_model_is_the_same_after_a_restart(state, folder):
    shared = SharedModel({"a": torch.randn(3, 4).T, "b": torch.randn(2, dtype=torch.float64)}, 7)
    state.keep_model("rating", shared)
    state.close()
    again = NodeState(folder)
    found = again.model("rating")
    assert (found.digest(), found.round) == (shared.digest(), 7)
    assert again.model("ease") is None
    again.close()


def test_what_a_version_before_has_left_to_serve_from_is_kept_as_a_pair_when_a_training_begins(state, folder, plan):
    """Versions before this one kept the model and the users' own files in the state's folder itself."""
    state.begin("north", ORIGIN)
    for name in ("model.safetensors", "ranking.safetensors", "catalogue.parquet"):
        (folder / name).write_text(f"old {name}")
    (folder / "private" / "node-north").mkdir(parents=True)
    (folder / "private" / "node-north" / "user-1.safetensors").write_text("old user")
    assert pair_folder(folder) == folder
    state.keep_plan(plan.request(1, {}), plan.catalogue)
    pair = pair_folder(folder)
    assert pair != folder
    assert {path.name: path.read_text() for path in pair.iterdir() if path.is_file()} == {
        name: f"old {name}" for name in ("model.safetensors", "ranking.safetensors", "catalogue.parquet")
    }
    assert (pair / "private" / "node-north" / "user-1.safetensors").read_text() == "old user"
    assert not (folder / "private").exists()
    state.keep_plan(plan.request(1, {}), plan.catalogue)
    assert pair_folder(folder) == pair


READ: dict[str, Any] = {
    "node.json": lambda state: state.name,
    "plan.safetensors": lambda state: state.plan(),
    "catalogue.parquet": lambda state: state.plan(),
    "rating.shared.safetensors": lambda state: state.model("rating"),
    "rounds/rating.1.safetensors": lambda state: state.rounds.recall("f00d", "rating", 1, "rows"),
}
EMPTY_TENSORS = (2).to_bytes(8, "little") + b"{}"


def damages(content: bytes) -> dict[str, bytes]:
    """The file cut short, overwritten, and files of the right kind that hold something else."""
    return {
        "empty": b"",
        "half": content[: len(content) // 2],
        "beginning": bytes(20) + content[20:],
        "text": b"something else",
        "bytes": bytes(range(256)),
        "json": b"{}",
        "list": b"[1]",
        "tensors": EMPTY_TENSORS,
        "format": b'{"format": "hierfed node 1"}',
        "origin": b'{"format": "hierfed node 1", "name": 3, "identity": 4, "origin": {"from": 1}}',
        "nobody": b'{"format": "hierfed node 1", "name": "a", "origin": {"source": "b"}}',
    }


@pytest.mark.parametrize("damage", damages(b""))
@pytest.mark.parametrize("name", READ)
def test_damaged_and_foreign_files_are_one_clear_line(state, folder, plan, name, damage):
    state.begin("north", ORIGIN)
    state.keep_plan(plan.request(1, {}), plan.catalogue)
    state.rounds.keep("f00d", "rating", 1, "rows", belief(1))
    state.keep_model("rating", SharedModel({"a": torch.ones(2)}, 3))
    path = folder / name
    READ[name](state)
    path.write_bytes(damages(path.read_bytes())[damage])
    with pytest.raises(HierfedError) as error:
        READ[name](state)
        if name == "node.json":
            _ = state.origin
            state.begin("north", ORIGIN)
    assert str(path) in told(error)


def test_a_plan_of_another_training_leaves_nothing_of_the_one_before(state, folder, plan, data):
    """Else a node would make its users' models from the model of one training and the plan of another."""
    state.begin("node 1", Origin(data.file("node 1", False)))
    state.keep_plan(plan.request(0, {}), plan.catalogue)
    state.keep_model("rating", SharedModel({"a": torch.ones(2)}, 3))
    state.rounds.keep("f00d", "rating", 3, "rows", belief(1))
    state.keep_plan(plan.request(0, {}), plan.catalogue)
    assert state.model("rating") is not None
    request = plan.request(0, {})
    other = Request("setup", {**request.facts, "training": "another"}, request.arrays)
    state.keep_plan(other, plan.catalogue)
    assert state.model("rating") is None
    with pytest.raises(HierfedError, match="no federation has finished here yet"):
        personalise(state)


def test_the_folder_of_another_version_is_refused_in_one_line_and_left_as_it_was(tmp_path):
    told = json.dumps({"format": "hierfed node 2", "name": "north", "identity": "5e", "origin": {"source": "a.csv"}})
    (tmp_path / "node.json").write_text(told)
    tmp_path.chmod(0o755)
    with pytest.raises(HierfedError, match="finish its training with the version that began it") as error:
        NodeState(tmp_path)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["node.json"]
    assert (tmp_path / "node.json").read_text() == told
    assert mode_of(tmp_path) == 0o755

"""Damage to any file that is read back is one line, or is mended; it is never a traceback, and never another number."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fuzzing.readers import READERS, ROWS, SMALL, TRAINING, USER
from fuzzing.trial import BAD, OTHER, REFUSED, SAME, TRACEBACK, finding, trial
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from hierfed.atomic import held
from hierfed.data.reading.catalogue_file import read_catalogue
from hierfed.deployment import hosting
from hierfed.deployment.admission import ServerObserver
from hierfed.deployment.checkpoint import COPY, FILE, has_checkpoint, load_checkpoint
from hierfed.deployment.hosting import Hosting
from hierfed.deployment.keys import new_key, read_key
from hierfed.deployment.round_log import missing_rounds, read_rounds
from hierfed.deployment.state import NodeState, Origin
from hierfed.engines.flower.patience import Patience
from hierfed.errors import DamagedError, HierfedError
from hierfed.ledger.keys import kept_key
from hierfed.results import Result
from hierfed.runs.reports import rewrite_report
from hierfed.sealed import SEAL
from hierfed.serving.served import Served
from hierfed.settings import load_settings

FINDINGS = sorted((Path(__file__).parent / "findings").glob("*"))
OWN = [name for name, reader in READERS.items() if reader.sealed and name != "result"]


@pytest.fixture
def copy(base: Path, tmp_path: Path) -> Path:
    place = tmp_path / "copy"
    shutil.copytree(base, place)
    return place


@pytest.mark.parametrize("name", list(READERS))
def test_damage_is_refused_in_one_line_or_changes_nothing(base: Path, tmp_path: Path, name: str) -> None:
    """`benchmarks/fuzz.py` does the same 300 times and oftener."""
    right = READERS[name].read(base)
    count = 6 if name == "result" else 25
    found = [trial(name, base, tmp_path / "place", right, seed)[0] for seed in range(count)]
    assert [each for each in found if each.outcome in BAD] == []


@pytest.mark.parametrize("name", OWN)
def test_a_flipped_bit_anywhere_is_found(base: Path, tmp_path: Path, name: str) -> None:
    """Of the file's content, that is: a bit of the layout of JSON changes nothing."""
    right, whole = READERS[name].read(base), (base / READERS[name].file(base)).read_bytes()
    outcomes = []
    for place in range(0, len(whole), max(1, len(whole) // 12)):
        hurt = whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :]
        outcomes.append(finding(name, base, tmp_path / "place", right, hurt).outcome)
    assert set(outcomes) <= {REFUSED, SAME}
    assert REFUSED in outcomes or name == "checkpoint"


@pytest.mark.parametrize("path", FINDINGS, ids=lambda path: path.name)
def test_what_was_found_once_stays_found(base: Path, tmp_path: Path, path: Path) -> None:
    name = path.name.rpartition(".")[0]
    verdict = finding(name, base, tmp_path / "place", READERS[name].read(base), path.read_bytes())
    assert verdict.outcome not in BAD, verdict


def test_the_harness_itself_sees_failures(base: Path, tmp_path: Path) -> None:
    """A reader that fails, and one that takes anything, are told apart from good ones."""
    from fuzzing.readers import Reader
    from fuzzing.trial import attempt

    assert attempt(Reader("", lambda place: str(1 // 0), lambda b, r: b), base, "1").outcome == TRACEBACK
    assert attempt(Reader("", lambda place: "2", lambda b, r: b), base, "1").outcome == OTHER


@pytest.mark.parametrize(
    "name", ["model.safetensors", "ranking.safetensors", "catalogue.parquet", "private/files.json", "result.json"]
)
def test_a_lost_file_of_a_run_is_named(copy: Path, name: str) -> None:
    (copy / "run" / name).unlink()
    with pytest.raises(HierfedError) as caught:
        Served(copy / "run").recommend(USER, 3)
    assert "no run to recommend from" not in str(caught.value)
    assert name in str(caught.value) or "half a run" in str(caught.value)


def test_a_user_whose_file_is_lost_is_no_newcomer(copy: Path) -> None:
    (copy / READERS["private"].file(copy)).unlink()
    with pytest.raises(DamagedError, match="is missing"):
        Served(copy / "run").recommend(USER, 3)
    assert not Served(copy / "run").recommend("nobody", 3).known


@pytest.mark.parametrize("size", [0, 1, 100])
@pytest.mark.parametrize("name", ["model", "ranking", "private"])
def test_a_cut_file_says_that_it_is_damaged(copy: Path, name: str, size: int) -> None:
    path = copy / READERS[name].file(copy)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DamagedError, match=path.name):
        Served(copy / "run").recommend(USER, 3)


def test_half_a_run_is_not_served(copy: Path) -> None:
    """As `kill -9` leaves it while it is saved: the result is written last of what serves."""
    (copy / "run/result.json").unlink()
    with pytest.raises(HierfedError, match="half a run"):
        Served(copy / "run")


def test_a_result_that_was_changed_is_not_reported(copy: Path) -> None:
    path = copy / "run/result.json"
    found = json.loads(path.read_bytes())
    found["users"]["rmse_after"] -= 0.1
    path.write_text(json.dumps(found))
    with pytest.raises(DamagedError, match=r"result\.json"):
        rewrite_report(copy / "run")


def unsealed(path: Path) -> None:
    """Write a file as versions before checksums wrote it."""
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            facts = {name: fact for name, fact in file.metadata().items() if name not in (SEAL, "beside", "catalogue")}
        save_file({name: each.clone() for name, each in load_file(path).items()}, path, metadata=facts)
    else:
        found = json.loads(path.read_bytes())
        del found[SEAL]
        path.write_text(json.dumps(found))


def test_a_run_of_the_version_before_is_read(base: Path, copy: Path) -> None:
    for name in ("model", "ranking", "private", "result"):
        unsealed(copy / READERS[name].file(copy))
    (copy / "run/private/files.json").unlink()
    assert READERS["model"].read(copy) == READERS["model"].read(base)
    before = Result.model_validate_json((copy / "run/result.json").read_text())
    assert before.sha256 == ""
    assert before.digest == Result.model_validate_json((base / "run/result.json").read_text()).digest


def test_the_folders_of_a_federation_of_the_version_before_are_read(base: Path, copy: Path) -> None:
    for name in ("plan", "shared model of a node", "state of a round", "node", "released", "witness", "checkpoint"):
        unsealed(copy / READERS[name].path)
    (copy / "server" / COPY).unlink()
    secret = copy / READERS["secret"].path
    secret.write_bytes(secret.read_bytes()[:32])
    for name in ("plan", "state of a round", "node", "released", "witness", "checkpoint", "secret"):
        assert READERS[name].read(copy) == READERS[name].read(base), name
    state = NodeState(copy / "state")
    state.begin(state.name, state.origin)
    state.close()
    for name in ("secret", "released"):
        assert (copy / READERS[name].path).read_bytes() == (base / READERS[name].path).read_bytes()


@pytest.mark.parametrize("hurt", [FILE, COPY])
@pytest.mark.parametrize("how", ["lost", "cut"])
def test_a_checkpoint_goes_on_from_its_copy(base: Path, copy: Path, hurt: str, how: str) -> None:
    path = copy / "server" / hurt
    path.unlink() if how == "lost" else path.write_bytes(path.read_bytes()[:200])
    told = list[str]()
    settings = load_settings("hierarchical", SMALL)
    catalogue = read_catalogue(base / "in/catalogue.parquet")
    found = load_checkpoint(copy / "server", settings, catalogue, told.append)
    assert found is not None
    assert len(told) == (hurt == FILE)
    assert READERS["checkpoint"].read(copy) == READERS["checkpoint"].read(base)


@pytest.mark.parametrize("name", ["plan", "shared model of a node", "state of a round"])
def test_a_node_makes_what_was_damaged_again(copy: Path, name: str) -> None:
    path = copy / READERS[name].path
    path.write_bytes(path.read_bytes()[:50])
    state = NodeState(copy / "state")
    (told,) = state.mend()
    assert path.name in told
    assert not path.exists()
    assert state.mend() == []
    kept = state.rounds.recall(TRAINING, "rating", 2, ROWS)
    assert (kept is None) == (name == "state of a round")
    state.close()


def test_keys_are_never_made_anew_where_others_know_them(copy: Path) -> None:
    state = NodeState(copy / "state")
    (copy / "state/node.key").unlink()
    with pytest.raises(DamagedError, match="another --state and --name"):
        state.key()
    state.close()
    for folder in ("a", "b"):
        (copy / folder).mkdir()
    (copy / "b/ledger.jsonl").write_text("a line\n")
    kept_key(copy / "a")
    with pytest.raises(DamagedError, match="--begin-anew"):
        kept_key(copy / "b")
    assert not (copy / "b/ledger.key").exists()


def test_a_budget_that_was_changed_is_never_taken_for_another(copy: Path) -> None:
    """A round that was opened would cost twice."""
    path = copy / "state/released.json"
    path.write_text(path.read_text().replace("2", "7", 1))
    state = NodeState(copy / "state")
    with pytest.raises(DamagedError):
        state.released()
    state.close()


def test_the_origin_of_a_node_is_kept(copy: Path) -> None:
    state = NodeState(copy / "state")
    state.begin("here", Origin("other.csv"))
    assert state.origin == Origin("other.csv")
    state.close()


Make = Callable[..., Any]


def test_a_server_with_a_damaged_checkpoint_ends_with_the_digest(village: Make, make_settings: Make) -> None:
    settings = make_settings("item_biases")
    right = village(settings).serve(nodes=3).digest
    found = village(settings)

    class Killed(Exception):
        pass

    def kill(record: Any) -> None:
        if record.round == 0:
            raise Killed

    with pytest.raises(Killed):
        found.serve(on_round=kill, nodes=3)
    path = found.server / FILE
    content = bytearray(path.read_bytes())
    content[-5] ^= 16
    path.write_bytes(content)
    for name in ("node 1", "node 2"):
        for kept in [*(found.place / name / "rounds").iterdir(), found.place / name / "plan.safetensors"]:
            kept.write_bytes(kept.read_bytes()[:60])
    found.start("node 1", "node 2", "node 10")
    assert found.serve(nodes=3).digest == right
    assert any("its copy" in event for event in found.events)


def test_a_server_without_its_key_stops_before_anything_is_written(village: Make, make_settings: Make) -> None:
    found = village(make_settings("item_biases"))
    found.serve(nodes=3)
    (found.server / "ledger.key").unlink()
    before = {path: path.read_bytes() for path in found.server.iterdir() if path.is_file()}
    with pytest.raises(HierfedError, match="--begin-anew"):
        found.serve(nodes=3)
    assert {path: path.read_bytes() for path in found.server.iterdir() if path.is_file()} == before


@pytest.mark.parametrize(
    "name", ["asked.json", "peers.json", "taught.json", "forgotten.json", "status", "edge", "released"]
)
def test_what_is_left_of_a_record_without_its_checksum_is_refused(copy: Path, name: str) -> None:
    """No version wrote these without one, but the last beside a node's record without one."""
    unsealed(copy / READERS[name].path)
    with pytest.raises(DamagedError, match="its content is not what was written"):
        READERS[name].read(copy)


def test_a_key_that_does_not_fit_its_public_half_is_refused(copy: Path) -> None:
    """One digit of a key's file makes another key of it, one time in a hundred."""
    new_key(copy / "other.key")
    for name, read in {"state/node.key": READERS["key"].read, "edge/edge.key": READERS["edge's key"].read}.items():
        shutil.copy(copy / "other.key", copy / name)
        with pytest.raises(DamagedError, match=rf"{Path(name).name}\.pub beside it"):
            read(copy)
    (copy / "another").mkdir()
    kept_key(copy / "another")
    shutil.copy(copy / "another/ledger.key", copy / "server/ledger.key")
    with pytest.raises(DamagedError, match=r"ledger\.key\.pub beside it"):
        kept_key(copy / "server")


def test_a_key_whose_point_looks_compressed_is_refused_in_one_line(copy: Path) -> None:
    path = copy / "state/node.key"
    point = read_key(path).public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    first, *body, last = path.read_text().splitlines()
    content = base64.b64decode("".join(body)).replace(point, b"\x02" + point[1:])
    path.write_text("\n".join([first, base64.b64encode(content).decode(), last, ""]))
    with pytest.raises(HierfedError, match="no private key of a node"):
        read_key(path)


def test_rounds_out_of_order_or_missing_are_told(copy: Path) -> None:
    path = copy / "server/rounds.jsonl"
    first, second = path.read_bytes().splitlines(keepends=True)
    for wrong in (first + first, second + first):
        path.write_bytes(wrong)
        with pytest.raises(DamagedError, match="line 2: it is out of order, or doubled"):
            read_rounds(copy / "server")
    path.write_bytes(first + second[:-5])
    assert "lacks 1 of 2 rounds" in missing_rounds(copy / "server", 2)
    assert path.read_bytes() == first


class Ended(Exception):
    """The server got as far as its training."""


def test_a_server_that_begins_anew_keeps_what_was_there(
    copy: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_server(*rest: Any, **named: Any) -> Any:
        raise Ended

    monkeypatch.setattr(hosting, "superlink", no_server)
    folder = copy / "server"
    kept_key(folder)
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    catalogue = read_catalogue(base / "in/catalogue.parquet")
    told = list[str]()
    observer = ServerObserver()
    observer.tell = told.append  # type: ignore[method-assign]
    for number in (1, 2):
        with pytest.raises(Ended):
            where = Hosting("127.0.0.1", 0)
            settings = load_settings("hierarchical", SMALL)
            hosting.host(settings, catalogue, folder, where, 2, 2, Patience(), observer, begin_anew=True)
        assert told[-1] == f"begins anew; what was there is in {folder / f'before-{number}'}"
    before = {path.name: path.read_bytes() for path in (folder / "before-1").iterdir()}
    assert before == {name: content for name, content in kept.items() if not name.startswith("ledger.key")}
    assert (folder / "ledger.key").read_bytes() == kept["ledger.key"]
    assert not has_checkpoint(folder)


def test_two_servers_never_share_a_folder(copy: Path, base: Path) -> None:
    before = {path.name: path.read_bytes() for path in (copy / "server").iterdir()}
    with held(copy / "server/.lock"):
        with pytest.raises(HierfedError, match="another server is using it"):
            hosting.host(
                load_settings("hierarchical", SMALL),
                read_catalogue(base / "in/catalogue.parquet"),
                copy / "server",
                Hosting("127.0.0.1", 0),
                2,
                2,
                Patience(),
                ServerObserver(),
            )
        (copy / "server/.lock").unlink()
    assert {path.name: path.read_bytes() for path in (copy / "server").iterdir()} == before

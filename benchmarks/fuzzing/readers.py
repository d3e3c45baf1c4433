"""Every file that hierfed reads back, and every kind of input: how to make it, how to read it, how to damage it."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fuzzing import mutations

import hierfed
from hierfed.cli.finished import audit as audit_command
from hierfed.data.catalogue import Catalogue
from hierfed.data.reading.catalogue_file import catalogue_bytes, read_catalogue
from hierfed.data.reading.sources import load
from hierfed.deployment.batches import TAUGHT
from hierfed.deployment.checkpoint import FILE, Checkpoint, load_checkpoint
from hierfed.deployment.edge_state import EdgeState
from hierfed.deployment.keys import read_public_key
from hierfed.deployment.plan import Plan
from hierfed.deployment.policy import read_policy
from hierfed.deployment.protocol import Introduction
from hierfed.deployment.round_log import append_round, missing_rounds, read_rounds
from hierfed.deployment.sources import FORGOTTEN
from hierfed.deployment.state import ASKED, PINNED, NodeState, Origin
from hierfed.deployment.status import Status, StatusFile, read_status
from hierfed.deployment.witness import SEEN, Witness
from hierfed.errors import HierfedError
from hierfed.federated.contract import SharedModel
from hierfed.federated.private import StoredState
from hierfed.ledger.audit import audit
from hierfed.ledger.keys import kept_key, public_text
from hierfed.ledger.shared import FILE as PEERS
from hierfed.ledger.shared import PeersOpening, SharedLedger, Statement, sign
from hierfed.results import DeployedRound
from hierfed.runs.private_files import user_file
from hierfed.runs.reports import rewrite_report
from hierfed.sealed import sealed_json
from hierfed.serving.served import Served
from hierfed.settings import Settings, load_settings

SMALL: dict[str, Any] = {
    "rounds": 2,
    "nodes": 2,
    "personal_nodes": 2,
    "rank": 2,
    "embedding_rank": 2,
    "min_raters": 2,
    "validation_rounds": 1,
    "implicit_rank": 2,
    "implicit_rounds": 1,
    "least_raters": 2,
}
USERS, ITEMS, PER_USER = 16, 14, 8
USER = "u3"
TRAINING, ROWS = "f00d", "the digest of rows"


@dataclass(frozen=True)
class Reader:
    """A kind of file.

    path: the file, below the base folder, or a pattern of it. read: given that folder, what is found there, as text.
    mutate: damages its bytes. sealed: whether the file is hierfed's own, so that no damage may change what is found.
    """

    path: str
    read: Callable[[Path], str]
    mutate: mutations.Mutation
    sealed: bool = True

    def file(self, base: Path) -> Path:
        """The file's path, below the base folder."""
        return next(base.glob(self.path)).relative_to(base)


def make_base(place: Path) -> None:
    """Write a run, a node's state and a server's folder, all small, and inputs of each kind."""
    inputs = place / "in"
    inputs.mkdir(parents=True)
    rng = np.random.default_rng(3)
    rows = [
        (f"u{user}", item + 1, float(rng.integers(1, 11) / 2), 10**9 + user * 100 + item)
        for user in range(USERS)
        for item in sorted(rng.choice(ITEMS, PER_USER, replace=False).tolist())
    ]
    table = pl.DataFrame(rows, schema=["user", "item", "rating", "time"], orient="row")
    table.write_csv(inputs / "table.csv")
    table.write_parquet(inputs / "table.parquet")
    table.write_ndjson(inputs / "table.jsonl")
    (inputs / "policy.toml").write_text('least_nodes = 4\nepsilon = 2.5\nstages = ["rating"]\nsums = "secure"\n')
    with sqlite3.connect(inputs / "table.sqlite") as database:
        database.execute("create table ratings (user text, item integer, rating real, time integer)")
        database.executemany("insert into ratings values (?, ?, ?, ?)", rows)
    database.close()
    folder = inputs / "folder"
    folder.mkdir()
    renamed = table.with_columns(pl.col("user").str.slice(1)).rename(
        {"user": "userId", "item": "movieId", "time": "timestamp"}
    )
    renamed.write_csv(folder / "ratings.csv")
    films = [f'{film + 1},"Film, {film} ({1950 + film})",Drama|War' for film in range(ITEMS)]
    (folder / "movies.csv").write_text("\n".join(["movieId,title,genres", *films]) + "\n")
    hierfed.run("hierarchical", data=str(inputs / "table.csv"), **SMALL).save(place / "run")
    settings, catalogue = load_settings("hierarchical", SMALL), read_catalogue(place / "run/catalogue.parquet")
    (inputs / "catalogue.parquet").write_bytes(catalogue_bytes(catalogue))
    (inputs / "settings.toml").write_text(settings.to_toml())
    _make_state(place / "state", settings, catalogue)
    _make_server(place / "server", settings, catalogue)
    _make_edge(place / "edge")
    _make_peers(place / "peers")


def _model(number: int) -> SharedModel:
    made = torch.Generator().manual_seed(number)
    return SharedModel({"a": torch.randn(4, 3, generator=made, dtype=torch.float64), "b": torch.arange(3)}, number)


def _plan(settings: Settings, catalogue: Catalogue) -> Plan:
    return Plan(TRAINING, settings, catalogue, (0.5, 5.0), nodes=1)


def _make_state(place: Path, settings: Settings, catalogue: Catalogue) -> None:
    state = NodeState(place)
    state.begin("here", Origin("table.csv"))
    state.key()
    state.streams(TRAINING)
    state.release(TRAINING, 1)
    state.release(TRAINING, 2)
    state.keep_plan(_plan(settings, catalogue).request(0, {}), catalogue)
    state.keep_model("rating", _model(2))
    state.rounds.keep(TRAINING, "rating", 2, ROWS, StoredState({"kept": torch.arange(12, dtype=torch.float64)}))
    seen = {"answered": [["rating", 1], ["rating", 2]], "judged": "ab", "objection": ""}
    (place / SEEN).write_bytes(sealed_json(seen))
    for name in RECORDS:
        state.keep_record(name, {"training": TRAINING, "count": 3, "known": [["rating", 2, "ab"]], "users": {"u": "m"}})
    state.close()


def _make_server(place: Path, settings: Settings, catalogue: Catalogue) -> None:
    place.mkdir()
    checkpoint = Checkpoint(_plan(settings, catalogue), {"here": "b2"}, b'{"entry":1}').with_model("rating", _model(1))
    checkpoint.save(place)
    for number in (1, 2):
        record = DeployedRound(
            stage="rating", round=number, contributors=["here"], refused=[], abandoned=False, train_loss=[0.25],
            bytes_up=10, bytes_down=20, seconds=1.5,
        )  # fmt: skip
        append_round(place, record, number)
    kept_key(place)
    StatusFile(place, Status(kind="server", name="here", phase="finished", refusals=2))


def _make_edge(place: Path) -> None:
    edge = EdgeState(place, "north")
    edge.key()
    edge.settle([Introduction("one", "b2" * 16, "", public_text(kept_key(place)), "", (0.5, 4.0))])
    edge.close()


def _make_peers(place: Path) -> None:
    keys = {name: Ed25519PrivateKey.generate() for name in ("north", "south", "west")}
    place.mkdir()
    opening = PeersOpening(
        training="0" * 16, settings="1" * 64, catalogue="2" * 64, limits=(0.5, 5.0),
        peers={name: public_text(key) for name, key in keys.items()},
    )  # fmt: skip
    ledger = SharedLedger(opening, place)
    for stage, number in [("rating", 0), ("rating", 1), ("judge", 1), ("end", 0)]:
        said = Statement(
            training=opening.training, position=ledger.position, previous=ledger.head, view=0, stage=stage,
            round=number, members=list(keys), model="a" * 64,
        )  # fmt: skip
        ledger.append({name: sign(key, said) for name, key in keys.items()})


def _edge(read: Callable[[EdgeState], object]) -> Callable[[Path], str]:
    def found(place: Path) -> str:
        edge = EdgeState(place / "edge", "north")
        try:
            return repr(read(edge))
        finally:
            edge.close()

    return found


def _recommend(place: Path) -> str:
    return json.dumps(asdict(Served(place / "run").recommend(USER, 5)))


def _unknown(place: Path) -> str:
    return json.dumps(asdict(Served(place / "run").recommend("nobody", 5)))


def _report(place: Path) -> str:
    return rewrite_report(place / "run").model_dump_json()


def _audit(place: Path) -> str:
    return audit(place / "run").model_dump_json()


def _peers(place: Path) -> str:
    """What `hierfed audit` prints."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        audit_command(place / "peers", as_json=True)
    return printed.getvalue()


def _former_peers(place: Path) -> str:
    """A new training's ledger in a folder that has one: that one is kept under another name, as it is."""
    folder = place / "peers anew"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    content = (place / "peers" / PEERS).read_bytes()
    (folder / PEERS).write_bytes(content)
    key = public_text(Ed25519PrivateKey.generate())
    opening = PeersOpening(
        training="3" * 16, settings="1" * 64, catalogue="2" * 64, limits=(0.5, 5.0), peers={"north": key}
    )
    SharedLedger(opening, folder)
    kept = [path.read_bytes() for path in folder.iterdir() if path.name != PEERS]
    return "kept" if kept == [content] else f"{len(kept)} others are there"


def _state(read: Callable[[NodeState], object]) -> Callable[[Path], str]:
    def found(place: Path) -> str:
        state = NodeState(place / "state")
        try:
            return str(read(state))
        finally:
            state.close()

    return found


def _kept(state: NodeState) -> str:
    found = state.rounds.recall(TRAINING, "rating", 2, ROWS)
    return "none" if found is None else SharedModel(dict(found.kept()), 2).digest()


def _shared(state: NodeState) -> str:
    found = state.model("rating")
    return "none" if found is None else found.digest()


def _agreed(state: NodeState) -> str:
    found = state.plan()
    return "none" if found is None else f"{found[0].settings.digest()} {found[0].catalogue.digest()} {found[1]}"


def _witness(state: NodeState) -> str:
    return repr(vars(Witness("here", state.folder, lambda event: None))["_answered"])


def _checkpoint(place: Path) -> str:
    folder = place / "server"
    settings = load_settings("hierarchical", SMALL)
    found = load_checkpoint(folder, settings, read_catalogue(place / "in/catalogue.parquet"))
    if found is None:
        return "none"
    models = {stage: (each.digest(), each.round) for stage, each in found.models.items()}
    return repr((models, dict(found.nodes), found.entry, found.plan.training, found.plan.limits))


def _rounds(place: Path) -> str:
    told = missing_rounds(place / "server", 2)
    if told:
        raise HierfedError(told)
    return repr(read_rounds(place / "server"))


def _load(name: str) -> Callable[[Path], str]:
    return lambda place: repr(load(str(place / "in" / name), unmatched="keep").provenance)


def _used(record: Mapping[str, Any]) -> str:
    """What a node takes from a record."""
    return repr([record.get(name) for name in ("training", "count", "known", "users")])


def _secret(state: NodeState) -> str:
    return repr(state.streams(TRAINING).stream(1, 0, "noise").integers(2**40, 3))


def _status(place: Path) -> str:
    return read_status(place / "server").model_dump_json()


RECORDS = (ASKED, PINNED, TAUGHT, FORGOTTEN)
PRIVATE = f"run/private/*/{user_file(USER)}.safetensors"
READERS: dict[str, Reader] = {
    "model": Reader("run/model.safetensors", _recommend, mutations.tensors),
    "ranking": Reader("run/ranking.safetensors", _recommend, mutations.tensors),
    "catalogue of a run": Reader("run/catalogue.parquet", _recommend, mutations.binary),
    "private": Reader(PRIVATE, _recommend, mutations.tensors),
    "list of private files": Reader("run/private/files.json", _unknown, mutations.record),
    "result": Reader("run/result.json", _report, mutations.record),
    "ledger": Reader("run/ledger.jsonl", _audit, mutations.lines),
    "checkpoint": Reader(f"server/{FILE}", _checkpoint, mutations.tensors),
    "rounds of a server": Reader("server/rounds.jsonl", _rounds, mutations.lines),
    "plan": Reader("state/plan.safetensors", _state(_agreed), mutations.tensors),
    "catalogue of a node": Reader("state/catalogue.parquet", _state(_agreed), mutations.binary),
    "shared model of a node": Reader("state/rating.shared.safetensors", _state(_shared), mutations.tensors),
    "state of a round": Reader("state/rounds/rating.2.safetensors", _state(_kept), mutations.tensors),
    "node": Reader("state/node.json", _state(lambda state: (state.name, state.origin)), mutations.record),
    "released": Reader("state/released.json", _state(lambda state: state.released()), mutations.record),
    "witness": Reader("state/witness.json", _state(_witness), mutations.record),
    "secret": Reader("state/node.secret", _state(_secret), mutations.binary),
    "key": Reader("state/node.key", _state(lambda state: state.key().private_numbers().private_value), mutations.text),
    **{
        name: Reader(f"state/{name}", _state(lambda state, name=name: _used(state.record(name))), mutations.record)
        for name in RECORDS
    },
    "ledger's key": Reader("server/ledger.key", lambda place: public_text(kept_key(place / "server")), mutations.text),
    "status": Reader("server/status.json", _status, mutations.record),
    "edge": Reader("edge/edge.json", _edge(lambda edge: (edge.identity, edge.group)), mutations.record),
    "edge's key": Reader(
        "edge/edge.key", _edge(lambda edge: edge.key().private_numbers().private_value), mutations.text
    ),
    "public key": Reader(
        "edge/edge.key.pub", lambda place: read_public_key(place / "edge/edge.key.pub"), mutations.text, sealed=False
    ),
    "ledger of peers": Reader(f"peers/{PEERS}", _peers, mutations.lines),
    "former ledger of peers": Reader(f"peers/{PEERS}", _former_peers, mutations.lines),
    "policy": Reader(
        "in/policy.toml", lambda place: repr(read_policy(place / "in/policy.toml", {})), mutations.text, sealed=False
    ),
    "table.jsonl": Reader("in/table.jsonl", _load("table.jsonl"), mutations.text, sealed=False),
    "table.csv": Reader("in/table.csv", _load("table.csv"), mutations.text, sealed=False),
    "table.parquet": Reader("in/table.parquet", _load("table.parquet"), mutations.binary, sealed=False),
    "table.sqlite": Reader("in/table.sqlite", _load("table.sqlite"), mutations.binary, sealed=False),
    "folder of ratings": Reader("in/folder/ratings.csv", _load("folder"), mutations.text, sealed=False),
    "folder's titles": Reader("in/folder/movies.csv", _load("folder"), mutations.text, sealed=False),
    "catalogue": Reader(
        "in/catalogue.parquet",
        lambda place: read_catalogue(place / "in/catalogue.parquet").digest(),
        mutations.binary,
        sealed=False,
    ),
    "settings": Reader(
        "in/settings.toml",
        lambda place: load_settings(place / "in/settings.toml").digest(),
        mutations.text,
        sealed=False,
    ),
}

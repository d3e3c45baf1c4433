"""A node's files: only their owner can read them, each is always whole, and none is ever sent.

The models that serve the node's users lie in a folder of their own (hierfed.runs.served_pair), laid out as a run's.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from hierfed.atomic import held, write_atomically
from hierfed.data.catalogue import Catalogue
from hierfed.data.reading.catalogue_file import CATALOGUE, catalogue_bytes, read_catalogue
from hierfed.deployment.keys import new_key, read_key
from hierfed.deployment.plan import Plan, read_plan
from hierfed.engines.exchange import Request
from hierfed.errors import HierfedError
from hierfed.federated.contract import SharedModel
from hierfed.federated.private import PrivateState, StoredState
from hierfed.private_randomness import KEY_BYTES, PrivateStreams
from hierfed.runs.models import owned
from hierfed.runs.served_pair import NODE, keep_pair_before

FORMAT = "hierfed node 3"
PLAN, ROUNDS, LOCK, SHARED = "plan.safetensors", "rounds", "lock", "shared.safetensors"
KEY, SECRET, RELEASED = "node.key", "node.secret", "released.json"
PLAN_FACTS = ("training", "settings", "limits", "keys", "threshold", "number")


@dataclass(frozen=True)
class Origin:
    """The source of a node's ratings, and how to read it; never holds a password.

    table: what TableSettings says of its form, besides the columns.
    """

    source: str
    query: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    test: str = ""
    test_share: float = 0.0
    table: Mapping[str, Any] = field(default_factory=dict)


class NodeState:
    """The folder of one node, held by one process at a time."""

    def __init__(self, folder: Path):
        self.folder = folder
        # A folder of another version is left as it is.
        self._node()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
            (folder / ROUNDS).mkdir(mode=0o700, exist_ok=True)
            self._lock = held(folder / LOCK)
        except BlockingIOError as error:
            raise HierfedError(f"--state {folder}: another process is using it; each node needs its own") from error
        except OSError as error:
            raise HierfedError(f"--state {folder}: cannot be used: {error.strerror}") from error

    @classmethod
    def of_a_node(cls, folder: Path) -> NodeState:
        """The folder of an existing node; raises HierfedError, and makes none, for any other folder."""
        if not (folder / NODE).is_file():
            raise HierfedError(f"--state {folder}: no node has been here; `hierfed node --state` makes one")
        return cls(folder)

    def close(self) -> None:
        """Let another process use the folder."""
        self._lock.close()

    def begin(self, name: str, origin: Origin) -> str:
        """Note the node's name and source; gives its identity, a secret that is the same at each start."""
        known = self._node()
        if known is not None and known["name"] != name:
            raise HierfedError(
                f"--state {self.folder}: belongs to node '{known['name']}', not '{name}'; each node needs its own"
            )
        identity = secrets.token_hex(16) if known is None else str(known["identity"])
        record = {"format": FORMAT, "name": name, "identity": identity, "origin": asdict(origin)}
        write_atomically(self.folder / NODE, json.dumps(record, indent=1).encode(), 0o600)
        return identity

    def key(self) -> ec.EllipticCurvePrivateKey:
        """The node's own private key, the same at each start; its public half lies beside it."""
        path = self.folder / KEY
        if not path.is_file():
            new_key(path)
        return read_key(path)

    def streams(self, training: str) -> PrivateStreams:
        """The streams of this node's noise in a training, the same at each start; nobody else can foresee them."""
        path = self.folder / SECRET
        if not path.is_file():
            write_atomically(path, secrets.token_bytes(KEY_BYTES), 0o600)
        return PrivateStreams(hashlib.sha256(path.read_bytes() + training.encode()).digest())

    def released(self) -> tuple[str, list[int]]:
        """The training and the rounds whose private sums this node has helped to open;  and none before any."""
        path = self.folder / RELEASED
        if not path.is_file():
            return "", []
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            return str(record["training"]), [int(number) for number in record["rounds"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise HierfedError(f"{path}: the node's state is damaged") from error

    def release(self, training: str, number: int) -> None:
        """Note that a round's private sum is about to be opened."""
        _, rounds = self.released()
        record = {"training": training, "rounds": sorted({*rounds, number})}
        write_atomically(self.folder / RELEASED, json.dumps(record).encode(), 0o600)

    @property
    def name(self) -> str:
        """The node's name; raises HierfedError for a folder without a node."""
        return str(self._known()["name"])

    @property
    def origin(self) -> Origin:
        """The source of the node's ratings; raises HierfedError for a folder without a node."""
        origin: Origin = self._known()["origin"]
        return origin

    def keep_plan(self, request: Request, catalogue: Catalogue) -> None:
        """Keep the server's setup; of an earlier training only the models that serve users stay."""
        keep_pair_before(self.folder)
        before = self.folder / PLAN
        if before.is_file() and _read(before, PLAN_FACTS)[0]["training"] != request.facts["training"]:
            for path in (*self.folder.glob(f"*.{SHARED}"), *(self.folder / ROUNDS).glob("*.safetensors")):
                path.unlink()
        write_atomically(self.folder / CATALOGUE, catalogue_bytes(catalogue))
        facts = {name: str(request.facts[name]) for name in PLAN_FACTS}
        write_atomically(self.folder / PLAN, save({}, facts), 0o600)

    def plan(self) -> tuple[Plan, int] | None:
        """The last plan kept and this node's number; None without one."""
        path = self.folder / PLAN
        if not path.is_file():
            return None
        facts, _ = _read(path, PLAN_FACTS)
        catalogue = read_catalogue(self.folder / CATALOGUE)
        try:
            plan = read_plan(facts, catalogue)
            return self._after_earlier_stages(plan), int(facts["number"])
        except (KeyError, ValueError) as error:
            raise HierfedError(f"{path}: the node's state is damaged") from error

    def _after_earlier_stages(self, plan: Plan) -> Plan:
        found = {stage.name: self.model(stage.name) for stage in plan.stages()}
        return plan.after({name: model for name, model in found.items() if model is not None})

    def keep_model(self, stage: str, shared: SharedModel) -> None:
        """Keep the finished shared model of a stage; the models that serve users stay as they are."""
        content = save(
            {name: array.contiguous() for name, array in shared.arrays.items()}, {"round": str(shared.round)}
        )
        write_atomically(self.folder / f"{stage}.{SHARED}", content)

    def model(self, stage: str) -> SharedModel | None:
        """The finished shared model of a stage; None without one."""
        path = self.folder / f"{stage}.{SHARED}"
        if not path.is_file():
            return None
        facts, arrays = _read(path, ("round",))
        return SharedModel(arrays, int(facts["round"]))

    def keep(self, training: str, stage: str, number: int, rows: str, state: PrivateState) -> None:
        """Keep the node's private state of a round; that of the round before stays, since a server may repeat a round.

        rows: the digest of the rows that the state was made of.
        """
        kept = state.kept()
        if not kept:
            return
        tensors = {name: tensor.contiguous() for name, tensor in kept.items()}
        content = save(tensors, {"training": training, "rows": rows})
        write_atomically(self._round(stage, number), content, 0o600)
        for path in (self.folder / ROUNDS).glob(f"{stage}.*.safetensors"):
            if abs(int(path.name.split(".")[1]) - number) > 1:
                path.unlink()

    def recall(self, training: str, stage: str, number: int, rows: str) -> StoredState | None:
        """The private state of this round, training and rows; None without one."""
        path = self._round(stage, number)
        if not path.is_file():
            return None
        facts, tensors = _read(path, ("training", "rows"))
        return StoredState(tensors) if (facts["training"], facts["rows"]) == (training, rows) else None

    def _round(self, stage: str, number: int) -> Path:
        return self.folder / ROUNDS / f"{stage}.{number}.safetensors"

    def _known(self) -> dict[str, Any]:
        known = self._node()
        if known is None:
            raise HierfedError(f"--state {self.folder}: no node has been here; `hierfed node --state` makes one")
        return known

    def _node(self) -> dict[str, Any] | None:
        path = self.folder / NODE
        if not path.is_file():
            return None
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise HierfedError(f"{path}: cannot be read: {error}") from error
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise HierfedError(
                f"{path}: not the state of a node of this version of hierfed ({FORMAT}): finish its training with the "
                "version that began it, or give another --state"
            )
        try:
            return {
                "name": str(record["name"]),
                "identity": str(record["identity"]),
                "origin": Origin(**record["origin"]),
            }
        except (KeyError, TypeError) as error:
            raise HierfedError(f"{path}: the node's state is damaged") from error


def _read(path: Path, wanted: Sequence[str]) -> tuple[dict[str, str], dict[str, Tensor]]:
    """A file's facts and tensors; raises HierfedError for a file that lacks one of the wanted facts."""
    try:
        with safe_open(path, framework="pt") as file:
            facts = dict(file.metadata() or {})
        tensors = owned(load_file(path))
    except (OSError, SafetensorError) as error:
        raise HierfedError(f"{path}: the node's state is damaged: {error}") from error
    lacking = [name for name in wanted if name not in facts]
    if lacking:
        raise HierfedError(f"{path}: the node's state is damaged: it says nothing of {', '.join(lacking)}")
    return facts, tensors

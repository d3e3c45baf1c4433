"""What a node keeps on its own disk: readable by its owner only, whole at every moment, and never sent.

What serves the node's users lies in a folder of its own (hierfed.runs.served_pair), laid out as a run's.
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
    """Where a node's ratings are, and how to read them; a password is never part of it."""

    source: str
    query: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    test: str = ""
    test_share: float = 0.0


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
        """The folder of a node that has been here; raises HierfedError, and makes none, where no node has."""
        if not (folder / NODE).is_file():
            raise HierfedError(f"--state {folder}: no node has been here; `hierfed node --state` makes one")
        return cls(folder)

    def close(self) -> None:
        """Let another process have the folder."""
        self._lock.close()

    def begin(self, name: str, origin: Origin) -> str:
        """Note who the node is; gives a secret that tells it from any other, the same at each start."""
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
        """A private key of the node's own, the same at each start; its public half lies beside it."""
        path = self.folder / KEY
        if not path.is_file():
            new_key(path)
        return read_key(path)

    def streams(self, training: str) -> PrivateStreams:
        """Where this node's noise in a training comes from, which nobody else can foresee; the same at each start."""
        path = self.folder / SECRET
        if not path.is_file():
            write_atomically(path, secrets.token_bytes(KEY_BYTES), 0o600)
        return PrivateStreams(hashlib.sha256(path.read_bytes() + training.encode()).digest())

    def released(self) -> tuple[str, list[int]]:
        """The training whose private sums this node has helped to open, and of which rounds; "" and none before."""
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
        """The node's name; raises HierfedError where no node has been here."""
        return str(self._known()["name"])

    @property
    def origin(self) -> Origin:
        """Where the node's ratings are; raises HierfedError where no node has been here."""
        origin: Origin = self._known()["origin"]
        return origin

    def keep_plan(self, request: Request, catalogue: Catalogue) -> None:
        """What the server told before the first round; of a training before this one only what serves users is kept."""
        keep_pair_before(self.folder)
        before = self.folder / PLAN
        if before.is_file() and _read(before, PLAN_FACTS)[0]["training"] != request.facts["training"]:
            for path in (*self.folder.glob(f"*.{SHARED}"), *(self.folder / ROUNDS).glob("*.safetensors")):
                path.unlink()
        write_atomically(self.folder / CATALOGUE, catalogue_bytes(catalogue))
        facts = {name: str(request.facts[name]) for name in PLAN_FACTS}
        write_atomically(self.folder / PLAN, save({}, facts), 0o600)

    def plan(self) -> tuple[Plan, int] | None:
        """The plan and this node's number, as last kept; None where there is none."""
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
        """The finished shared model of a stage; what serves users stays as it is."""
        content = save(
            {name: array.contiguous() for name, array in shared.arrays.items()}, {"round": str(shared.round)}
        )
        write_atomically(self.folder / f"{stage}.{SHARED}", content)

    def model(self, stage: str) -> SharedModel | None:
        """The finished shared model of a stage; None where there is none."""
        path = self.folder / f"{stage}.{SHARED}"
        if not path.is_file():
            return None
        facts, arrays = _read(path, ("round",))
        return SharedModel(arrays, int(facts["round"]))

    def keep(self, training: str, stage: str, number: int, rows: str, state: PrivateState) -> None:
        """What the node kept from a round; that of the round before stays, for a server that asks for it again.

        rows: the digest of the rows that it was made of.
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
        """What the node kept from this round of this training and of these rows; None where it kept nothing."""
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
    """A file's facts, among them the wanted ones, and its tensors."""
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

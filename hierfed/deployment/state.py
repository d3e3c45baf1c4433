"""A node's files: only their owner can read them, each is always whole, and none is ever sent.

The models that serve the node's users lie in a folder of their own (hierfed.runs.served_pair), laid out as a run's.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from hierfed.atomic import held, write_atomically
from hierfed.data.catalogue import Catalogue
from hierfed.data.reading.catalogue_file import CATALOGUE, catalogue_bytes, read_catalogue
from hierfed.deployment.keys import new_key, read_key
from hierfed.deployment.plan import Plan, read_plan
from hierfed.deployment.round_states import REJOIN, RoundStates
from hierfed.engines.exchange import Request
from hierfed.errors import DamagedError, HierfedError, reason_of
from hierfed.federated.contract import SharedModel
from hierfed.private_randomness import KEY_BYTES, PrivateStreams
from hierfed.runs.served_pair import NODE, keep_pair_before
from hierfed.sealed import ELSE, MALFORMED, SEAL, bytes_digest, damaged, read_json, sealed_json
from hierfed.tensor_files import read_tensors, tensor_bytes

FORMAT = "hierfed node 4"
PLAN, LOCK, SHARED = "plan.safetensors", "lock", "shared.safetensors"
KEY, SECRET, RELEASED, ASKED, PINNED = "node.key", "node.secret", "released.json", "asked.json", "peers.json"
PLAN_FACTS = ("training", "settings", "limits", "keys", "threshold", "number", "nodes")
UPDATE = "update"
# Hexadecimal digits of a mark.
MARK = 32
ANEW = "put it back from a copy, or begin with another --state"
LOST = "put it back from a copy, or give --key; or join as a new node: another --state and --name"


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


def record_in(folder: Path, name: str) -> dict[str, Any]:
    """See NodeState.record; it may be another process that holds the folder."""
    path = folder / name
    return dict(read_json(path, ANEW, always=True)) if path.is_file() else {}


class NodeState:
    """The folder of one node, held by one process at a time.

    rounds: the private states between rounds.
    """

    def __init__(self, folder: Path):
        self.folder, self.rounds = folder, RoundStates(folder)
        # A folder of another version is left as it is.
        self._node()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
            self.rounds.begin()
            self._lock = held(folder / LOCK)
        except BlockingIOError as error:
            raise HierfedError(f"--state {folder}: another process is using it; each node needs its own") from error
        except OSError as error:
            raise HierfedError(f"--state {folder}: cannot be used: {reason_of(error)}") from error

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
        if self._before_checksums():
            # Before the node's record, since that one says from now on that all have checksums.
            if (self.folder / SECRET).is_file():
                self._keep_secret(self._secret())
            if (self.folder / RELEASED).is_file():
                self._keep_released(*self.released())
        record = {"format": FORMAT, "name": name, "identity": identity, "origin": asdict(origin)}
        write_atomically(self.folder / NODE, sealed_json(record), 0o600)
        return identity

    def key(self) -> ec.EllipticCurvePrivateKey:
        """The node's own private key, the same at each start; its public half lies beside it."""
        path = self.folder / KEY
        if not path.is_file() and (self.folder / PLAN).is_file():
            raise damaged(path, "it is missing, and a federation knows this node by it", LOST)
        if not path.is_file():
            new_key(path)
        return read_key(path, LOST)

    def streams(self, training: str) -> PrivateStreams:
        """The streams of this node's noise in a training, the same at each start; nobody else can foresee them."""
        return PrivateStreams(hashlib.sha256(self._secret() + training.encode()).digest())

    def released(self) -> tuple[str, list[int]]:
        """The training and the rounds whose private sums this node has helped to open;  and none before any."""
        path = self.folder / RELEASED
        if not path.is_file():
            return "", []
        record = read_json(path, always=not self._before_checksums())
        try:
            return str(record["training"]), [int(number) for number in record["rounds"]]
        except MALFORMED as error:
            raise damaged(path, error) from error

    def release(self, training: str, number: int) -> None:
        """Note that a round's private sum is about to be opened."""
        _, rounds = self.released()
        self._keep_released(training, sorted({*rounds, number}))

    def _keep_released(self, training: str, rounds: list[int]) -> None:
        record = {"training": training, "rounds": rounds}
        write_atomically(self.folder / RELEASED, sealed_json(record), 0o600)

    def record(self, name: str) -> dict[str, Any]:
        """A record that `keep_record` kept under this name; empty without one."""
        return record_in(self.folder, name)

    def keep_record(self, name: str, record: Mapping[str, Any]) -> None:
        """Keep a record, in place of the one of this name."""
        write_atomically(self.folder / name, sealed_json(record), 0o600)

    def tag(self, digest: str) -> str:
        """A name for rows of this digest, the same while they are; nobody else can tell rows by it."""
        return hmac.new(self._secret(), f"rows {digest}".encode(), hashlib.sha256).hexdigest()

    def marks(self, texts: Iterable[bytes]) -> list[str]:
        """A name for each text, the same at each call; nobody else can tell the text by it."""
        secret = self._secret()
        return [hmac.new(secret, b"mark " + text, hashlib.sha256).hexdigest()[:MARK] for text in texts]

    def _secret(self) -> bytes:
        path = self.folder / SECRET
        if not path.is_file():
            self._keep_secret(secrets.token_bytes(KEY_BYTES))
        secret, checksum = (content := path.read_bytes())[:KEY_BYTES], content[KEY_BYTES:]
        without = checksum == b"" and len(secret) == KEY_BYTES and self._before_checksums()
        if not without and checksum != hashlib.sha256(secret).digest():
            raise damaged(
                path, "its content is not what was written", "put it back from a copy, or begin with another --state"
            )
        return secret

    def _keep_secret(self, secret: bytes) -> None:
        write_atomically(self.folder / SECRET, secret + hashlib.sha256(secret).digest(), 0o600)

    def _before_checksums(self) -> bool:
        """True for a folder of a version that kept none, as long as `begin` has not written the node's record anew."""
        path = self.folder / NODE
        return path.is_file() and SEAL not in json.loads(path.read_bytes())

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
        if before.is_file() and read_tensors(before, REJOIN, PLAN_FACTS)[0]["training"] != request.facts["training"]:
            for path in (*self.folder.glob(f"*.{SHARED}"), *self.rounds.files()):
                path.unlink()
        content = catalogue_bytes(catalogue)
        write_atomically(self.folder / CATALOGUE, content)
        facts = {name: str(request.facts[name]) for name in (*PLAN_FACTS, UPDATE)} | {CATALOGUE: bytes_digest(content)}
        write_atomically(self.folder / PLAN, tensor_bytes({}, facts), 0o600)

    def mend(self) -> list[str]:
        """Delete the damaged files that a server gives again, or a round makes again; gives a line for each.

        Of a plan that is damaged nobody knows the training: the finished models go with it.
        """
        models = sorted(self.folder.glob(f"*.{SHARED}"))
        told = []
        for path in [self.folder / PLAN, *models, *self.rounds.files()]:
            try:
                read_tensors(path) if path.is_file() else None
            except DamagedError as error:
                told.append(f"{error}".replace(ELSE, "it is made again"))
                for each in [path, *(models if path.name == PLAN else [])]:
                    each.unlink(missing_ok=True)
        return told

    def plan(self) -> tuple[Plan, int] | None:
        """The last plan kept and this node's number; None without one."""
        path = self.folder / PLAN
        if not path.is_file():
            return None
        facts, _ = read_tensors(path, REJOIN, PLAN_FACTS)
        kept = self.folder / CATALOGUE
        if kept.is_file() and facts.get(CATALOGUE, bytes_digest(kept.read_bytes())) != bytes_digest(kept.read_bytes()):
            raise damaged(kept, "its content is not what was written", REJOIN)
        catalogue = read_catalogue(kept, as_written=True)
        try:
            plan = read_plan(facts, catalogue)
            return self._after_earlier_stages(plan), int(facts["number"])
        except MALFORMED as error:
            raise damaged(path, error, REJOIN) from error

    def _after_earlier_stages(self, plan: Plan) -> Plan:
        found = {stage.name: self.model(stage.name) for stage in plan.stages()}
        return plan.after({name: model for name, model in found.items() if model is not None})

    def keep_model(self, stage: str, shared: SharedModel) -> None:
        """Keep the finished shared model of a stage; the models that serve users stay as they are."""
        content = tensor_bytes(shared.arrays, {"round": str(shared.round)})
        write_atomically(self.folder / f"{stage}.{SHARED}", content)

    def model(self, stage: str) -> SharedModel | None:
        """The finished shared model of a stage; None without one."""
        path = self.folder / f"{stage}.{SHARED}"
        if not path.is_file():
            return None
        facts, arrays = read_tensors(path, REJOIN, ("round",))
        return SharedModel(arrays, int(facts["round"]))

    def _known(self) -> dict[str, Any]:
        known = self._node()
        if known is None:
            raise HierfedError(f"--state {self.folder}: no node has been here; `hierfed node --state` makes one")
        return known

    def _node(self) -> dict[str, Any] | None:
        path = self.folder / NODE
        if not path.is_file():
            return None
        record = read_json(path, ANEW)
        if record.get("format") != FORMAT:
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
        except MALFORMED as error:
            raise damaged(path, error) from error

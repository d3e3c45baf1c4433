"""The server's checkpoint, with which it resumes a training; written after every round, and then once more.

Two files hold the same: where one was damaged, the other serves. Both are written before the round is in the ledger.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from torch import Tensor

from hierfed.atomic import write_atomically
from hierfed.data.catalogue import Catalogue
from hierfed.deployment.plan import Plan, read_update
from hierfed.engines.going_on import OPENING
from hierfed.errors import DamagedError, HierfedError
from hierfed.federated.contract import SharedModel
from hierfed.sealed import MALFORMED, damaged
from hierfed.settings import PRIVATE_SETTINGS, Settings
from hierfed.tensor_files import read_tensors, tensor_bytes

KIND = "hierfed checkpoint"
FILE, FORMAT = "checkpoint.safetensors", f"{KIND} 6"
COPY = "checkpoint.copy.safetensors"
ADVICE = "no copy of it is whole either: put one back, or start the server with --begin-anew"
SERVER, FORMER = "server ", "former model"
METADATA_KEYS = {"training", "agreed", "limits", "keys", "threshold", "agreeing", "nodes", "tags", "rounds", "entry"}


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training after its last round.

    nodes: each node's secret by its name, in the order of their numbers.
    entry: the ledger's line of that round, which may not be in the ledger yet.
    models: the shared model of each stage that has begun.
    tags: the name of each node's ratings; see Introduction.
    put_out: the nodes that spoilt sums, by name. halvings: how many the search for them has used.
    former: the model that the training goes on from; None for one from the start.
    """

    plan: Plan
    nodes: Mapping[str, str]
    entry: bytes
    models: Mapping[str, SharedModel] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    put_out: frozenset[str] = frozenset()
    halvings: int = 0
    former: SharedModel | None = None

    def with_model(self, stage: str, shared: SharedModel) -> Checkpoint:
        """The same checkpoint with this model of a stage."""
        return replace(self, models={**self.models, stage: shared})

    def save(self, folder: Path) -> None:
        """Write the checkpoint in place of the one before."""
        tensors = dict[str, Tensor]()
        for stage, shared in self.models.items():
            # The model that goes on shares arrays with the one after the opening rounds, which no file may.
            own = Tensor.clone if stage == OPENING else Tensor.contiguous
            tensors |= {f"{stage}.{name}": own(array) for name, array in shared.arrays.items()}
            tensors |= {f"{SERVER}{stage}.{name}": array.contiguous() for name, array in shared.server.items()}
        if self.former is not None:
            tensors |= {f"{FORMER}.{name}": array.contiguous() for name, array in self.former.arrays.items()}
        metadata = {
            "format": FORMAT,
            "training": self.plan.training,
            "agreed": agreement(self.plan.settings, self.plan.catalogue),
            "limits": json.dumps(self.plan.limits),
            "keys": json.dumps(self.plan.keys),
            "threshold": str(self.plan.threshold),
            "agreeing": str(self.plan.nodes),
            "nodes": json.dumps(dict(self.nodes)),
            "tags": json.dumps(dict(self.tags)),
            "put out": json.dumps(sorted(self.put_out)),
            "halvings": str(self.halvings),
            "update": json.dumps(None if self.plan.update is None else asdict(self.plan.update)),
            "entry": self.entry.decode("ascii"),
            "rounds": json.dumps({stage: shared.round for stage, shared in self.models.items()}),
        }
        content = tensor_bytes(tensors, metadata)
        for name in (FILE, COPY):
            write_atomically(folder / name, content, 0o600)


def has_checkpoint(folder: Path) -> bool:
    """True for the folder of a training that has begun."""
    return any((folder / name).is_file() for name in (FILE, COPY))


def check_version(folder: Path) -> None:
    """Raise HierfedError for an unfinished training of another version of hierfed; nothing is written."""
    _whole(folder)


def load_checkpoint(
    folder: Path, settings: Settings, catalogue: Catalogue, tell: Callable[[str], None] = lambda event: None
) -> Checkpoint | None:
    """The checkpoint in a folder, None without one; raises HierfedError for one of another training.

    tell: takes a line where the copy serves, since the first one is damaged.
    """
    found = read_checkpoint(folder, settings, catalogue, tell)
    if found is None:
        return None
    checkpoint, agreed = found
    if agreed != agreement(settings, catalogue):
        raise HierfedError(
            f"{folder / FILE}: is of a training with other settings or another catalogue; choose another --name, or "
            "--begin-anew"
        )
    return checkpoint


def read_checkpoint(
    folder: Path, settings: Settings, catalogue: Catalogue, tell: Callable[[str], None] = lambda event: None
) -> tuple[Checkpoint, str] | None:
    """The checkpoint in a folder, of whatever training, and its `agreement`; None without one.

    settings, catalogue: those of its plan. tell: see load_checkpoint.
    """
    found = _whole(folder)
    if found is None:
        return None
    path, metadata, tensors = found
    if path.name != FILE:
        tell(f"{folder / FILE} is missing or damaged; goes on from its copy, {path.name}")
    try:
        return _checkpoint(metadata, tensors, settings, catalogue), metadata["agreed"]
    except MALFORMED as error:
        raise damaged(path, error, ADVICE) from error


def _checkpoint(
    metadata: Mapping[str, str], tensors: Mapping[str, Tensor], settings: Settings, catalogue: Catalogue
) -> Checkpoint:
    low, high = json.loads(metadata["limits"])
    arrays: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        stage, _, array = name.partition(".")
        arrays.setdefault(stage, {})[array] = tensor
    keys, threshold = tuple(json.loads(metadata["keys"])), int(metadata["threshold"])
    # Checkpoints from before there were updates say nothing of them.
    agreeing, update = int(metadata["agreeing"]), read_update(metadata.get("update", "null"))
    plan = Plan(metadata["training"], settings, catalogue, (low, high), keys, threshold, nodes=agreeing, update=update)
    former = None if update is None else SharedModel(arrays.get(FORMER, {}), update.round)
    rounds = json.loads(metadata["rounds"])
    models = {
        stage: SharedModel(arrays.get(stage, {}), number, server=arrays.get(SERVER + stage, {}))
        for stage, number in rounds.items()
    }
    nodes, tags = json.loads(metadata["nodes"]), json.loads(metadata["tags"])
    # Checkpoints from before there were halves have none of it.
    put_out, used = frozenset(json.loads(metadata.get("put out", "[]"))), int(metadata.get("halvings", "0"))
    return Checkpoint(plan, nodes, metadata["entry"].encode("ascii"), models, tags, put_out, used, former)


def _whole(folder: Path) -> tuple[Path, dict[str, str], dict[str, Tensor]] | None:
    """The first whole file with its facts and tensors; raises HierfedError for one of another kind or version."""
    broken: DamagedError | None = None
    for path in (folder / FILE, folder / COPY):
        if not path.is_file():
            continue
        try:
            metadata, tensors = read_tensors(path, ADVICE)
            if not metadata.get("format", "").startswith(KIND):
                raise damaged(path, "it is no checkpoint", ADVICE)
        except DamagedError as error:
            broken = broken or error
            continue
        if metadata.get("format") != FORMAT or not metadata.keys() >= METADATA_KEYS:
            raise HierfedError(
                f"{path}: no checkpoint of this version of hierfed: finish it with the version that began it, or "
                "choose another --name, or --begin-anew"
            )
        return path, metadata, tensors
    if broken is not None:
        raise broken
    return None


def agreement(settings: Settings, catalogue: Catalogue) -> str:
    """A text that must stay the same for a training to resume: settings that decide its numbers, and catalogue."""
    return f"{catalogue.digest()} {decisive(settings)}"


def decisive(settings: Settings) -> str:
    """The settings that decide a training's numbers, as JSON."""
    return settings.model_dump_json(exclude={**PRIVATE_SETTINGS, "preset": True, "description": True})

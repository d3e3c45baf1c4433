"""The server's checkpoint, with which it resumes a training; written after every round."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from hierfed.atomic import write_atomically
from hierfed.data.catalogue import Catalogue
from hierfed.deployment.plan import Plan
from hierfed.errors import HierfedError
from hierfed.federated.contract import SharedModel
from hierfed.runs.models import owned
from hierfed.settings import PRIVATE_SETTINGS, Settings

FILE, FORMAT = "checkpoint.safetensors", "hierfed checkpoint 4"
SERVER = "server "
METADATA_KEYS = {"training", "agreed", "limits", "keys", "threshold", "nodes", "rounds", "entry"}


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training after its last round.

    nodes: each node's secret by its name, in the order of their numbers.
    entry: the ledger's line of that round, which may not be in the ledger yet.
    models: the shared model of each stage that has begun.
    """

    plan: Plan
    nodes: Mapping[str, str]
    entry: bytes
    models: Mapping[str, SharedModel] = field(default_factory=dict)

    def with_model(self, stage: str, shared: SharedModel) -> Checkpoint:
        """The same checkpoint with this model of a stage."""
        return replace(self, models={**self.models, stage: shared})

    def save(self, folder: Path) -> None:
        """Write the checkpoint in place of the one before."""
        tensors = dict[str, Tensor]()
        for stage, shared in self.models.items():
            tensors |= {f"{stage}.{name}": array.contiguous() for name, array in shared.arrays.items()}
            tensors |= {f"{SERVER}{stage}.{name}": array.contiguous() for name, array in shared.server.items()}
        metadata = {
            "format": FORMAT,
            "training": self.plan.training,
            "agreed": agreement(self.plan.settings, self.plan.catalogue),
            "limits": json.dumps(self.plan.limits),
            "keys": json.dumps(self.plan.keys),
            "threshold": str(self.plan.threshold),
            "nodes": json.dumps(dict(self.nodes)),
            "entry": self.entry.decode("ascii"),
            "rounds": json.dumps({stage: shared.round for stage, shared in self.models.items()}),
        }
        write_atomically(folder / FILE, save(tensors, metadata), 0o600)


def check_version(folder: Path) -> None:
    """Raise HierfedError for an unfinished training of another version of hierfed; nothing is written."""
    path = folder / FILE
    if path.is_file():
        _facts(path)


def load_checkpoint(folder: Path, settings: Settings, catalogue: Catalogue) -> Checkpoint | None:
    """The checkpoint in a folder, None without one; raises HierfedError for one of another training."""
    path = folder / FILE
    if not path.is_file():
        return None
    metadata = _facts(path)
    try:
        tensors = owned(load_file(path))
    except (OSError, SafetensorError) as error:
        raise _damaged(path, error) from error
    if metadata["agreed"] != agreement(settings, catalogue):
        raise HierfedError(
            f"{path}: is of a training with other settings or another catalogue; "
            "choose another --name, or delete it to begin anew"
        )
    low, high = json.loads(metadata["limits"])
    arrays: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        stage, _, array = name.partition(".")
        arrays.setdefault(stage, {})[array] = tensor
    keys, threshold = tuple(json.loads(metadata["keys"])), int(metadata["threshold"])
    plan = Plan(metadata["training"], settings, catalogue, (low, high), keys, threshold)
    rounds = json.loads(metadata["rounds"])
    models = {
        stage: SharedModel(arrays.get(stage, {}), number, server=arrays.get(SERVER + stage, {}))
        for stage, number in rounds.items()
    }
    return Checkpoint(plan, json.loads(metadata["nodes"]), metadata["entry"].encode("ascii"), models)


def _facts(path: Path) -> dict[str, str]:
    """A checkpoint's metadata; raises HierfedError for a file of another kind or version."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise _damaged(path, error) from error
    if metadata.get("format") != FORMAT or not metadata.keys() >= METADATA_KEYS:
        raise HierfedError(
            f"{path}: no checkpoint of this version of hierfed: finish it with the version that began it, or delete it "
            "to begin anew"
        )
    return metadata


def _damaged(path: Path, error: Exception) -> HierfedError:
    return HierfedError(f"{path}: the checkpoint is damaged: {error}; delete it to begin anew")


def agreement(settings: Settings, catalogue: Catalogue) -> str:
    """A text that must stay the same for a training to resume: settings that decide its numbers, and catalogue."""
    decisive = settings.model_dump_json(exclude={**PRIVATE_SETTINGS, "preset": True, "description": True})
    return f"{catalogue.digest()} {decisive}"

"""What a run keeps of its models: the shared one with a versioned header, the catalogue, and each user's own file.

Everything is safetensors or Parquet; nothing is pickled. Private files are readable by their owner only.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl
from safetensors.torch import load_file, save, save_file
from torch import Tensor

from hierfed.atomic import write_atomically
from hierfed.data.catalogue import Catalogue
from hierfed.data.content import content_of
from hierfed.data.reading.catalogue_file import CATALOGUE, catalogue_bytes
from hierfed.federated.contract import SharedModel
from hierfed.federated.method import Method
from hierfed.federated.private import PersonalModel
from hierfed.methods.hierarchical.beliefs import Strengths
from hierfed.methods.hierarchical.hierarchical import HierarchicalFactors
from hierfed.models.kernel import KernelSettings

MODEL, RANKING, PRIVATE = "model.safetensors", "ranking.safetensors", "private"
FORMAT = "2"


def model_format(method: str) -> str:
    """What the header of a shared model says that it is."""
    return f"hierfed {method} {FORMAT}"


def save_model(
    folder: Path, kind: str, method: Method, shared: SharedModel, catalogue: Catalogue, header: dict[str, str]
) -> None:
    """Write the shared model and what is public of the items; kind: the method's name in the settings."""
    header = {"format": model_format(kind), "round": str(shared.round), **header}
    if isinstance(method, HierarchicalFactors):
        header["method"] = json.dumps(describe(method))
        write_atomically(folder / CATALOGUE, catalogue_bytes(catalogue))
    tensors = {name: tensor.contiguous() for name, tensor in method.named(shared).items()}
    write_atomically(folder / MODEL, save(tensors, header))


def save_ranking(folder: Path, models: Mapping[str, SharedModel]) -> None:
    """Write the ranking models, by name; those of Ease's weights in single precision, since scores only order items."""
    kept = {
        f"{name}.{array}": tensor.float() if array == "weights" else tensor
        for name, model in models.items()
        for array, tensor in model.arrays.items()
    }
    write_atomically(folder / RANKING, save(kept, {"format": model_format("ranking")}))


def load_ranking(folder: Path) -> dict[str, SharedModel] | None:
    """The ranking models of a run, by name; None where it trained none."""
    if not (folder / RANKING).is_file():
        return None
    arrays: dict[str, dict[str, Tensor]] = {}
    for name, tensor in load_file(folder / RANKING).items():
        model, _, array = name.partition(".")
        arrays.setdefault(model, {})[array] = tensor.double()
    return {model: SharedModel(each, 1) for model, each in arrays.items()}


def save_private(folder: Path, kind: str, models: Mapping[str, PersonalModel], user_ids: pl.Series) -> None:
    """Write a folder per node, as it would lie on that node's own disk, a file per user; models: by node's name."""
    place, unfinished = folder / PRIVATE, folder / f".{PRIVATE}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    for name, model in models.items():
        own = unfinished / name
        own.mkdir(mode=0o700)
        for user, tensors in model.tensors():
            file = "node" if user is None else user_file(str(user_ids[user]))
            save_file(tensors, own / f"{file}.safetensors", metadata={"format": model_format(f"private {kind}")})
    if place.exists():
        shutil.rmtree(place)
    unfinished.rename(place)


def user_file(user_id: str) -> str:
    """The name of a user's own file, without its ending: the source's id, with what a file name cannot hold escaped."""
    return f"user-{quote(user_id, safe='')}"


def owned(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that were read from a file, in torch's own memory: as parts of a file they are not aligned as others are,
    which may change last digits of products."""
    return {name: tensor.clone() for name, tensor in tensors.items()}


def describe(method: HierarchicalFactors) -> dict[str, Any]:
    """All that read_method needs to make the method again, but for the catalogue."""
    return {
        "rank": method.rank,
        "threshold": method.threshold,
        "embedding_rank": method.embedding_rank,
        "embedding_rounds": method.embedding_rounds,
        "strengths": asdict(method.strengths),
        "between_nodes": method.between_nodes,
        "kernel": None if method.kernel is None else asdict(method.kernel),
        "limits": method.limits,
        "seed": method.seed,
        "deviation_scale": method.deviation_scale,
        "everyone": method.everyone,
        "vote_average": "vote_average" in method.content.names,
    }


def read_method(text: str, catalogue: Catalogue) -> HierarchicalFactors:
    """The method that `describe` told of, on the same catalogue."""
    told = json.loads(text)
    kernel = told.pop("kernel")
    return HierarchicalFactors(
        content=content_of(catalogue, vote_average=told.pop("vote_average")),
        strengths=Strengths(**told.pop("strengths")),
        kernel=None if kernel is None else KernelSettings(**kernel),
        limits=tuple(told.pop("limits")),
        **told,
    )

"""What a run keeps of its models: the shared one with a versioned header, and the catalogue.

Everything is safetensors or Parquet; nothing is pickled. Users' own files are hierfed.private_files'.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from hierfed.atomic import write_atomically
from hierfed.data.catalogue import Catalogue
from hierfed.data.catalogue_file import catalogue_bytes
from hierfed.data.content import content_of
from hierfed.errors import HierfedError
from hierfed.federated.contract import SharedModel
from hierfed.federated.factors import HierarchicalFactors
from hierfed.methods import AnyMethod
from hierfed.models.factors.beliefs import Strengths
from hierfed.personal.kernel import KernelSettings

CATALOGUE, MODEL, RANKING = "catalogue.parquet", "model.safetensors", "ranking.safetensors"
FORMAT = "2"


def model_format(method: str) -> str:
    """What the header of a shared model says that it is."""
    return f"hierfed {method} {FORMAT}"


def save_model(
    folder: Path, kind: str, method: AnyMethod, shared: SharedModel, catalogue: Catalogue, header: dict[str, str]
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
    with sound(folder / RANKING):
        for name, tensor in load_file(folder / RANKING).items():
            model, _, array = name.partition(".")
            arrays.setdefault(model, {})[array] = tensor.double()
    return {model: SharedModel(each, 1) for model, each in arrays.items()}


@contextmanager
def sound(path: Path) -> Iterator[None]:
    """Within the block, whatever of a file cannot be read or understood is a HierfedError that names it as damaged."""
    try:
        yield
    except (
        OSError,
        SafetensorError,
        pl.exceptions.PolarsError,
        KeyError,
        ValueError,
        TypeError,
        IndexError,
        RuntimeError,
    ) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise HierfedError(f"{path}: damaged: {reason}; make it again, or take it from a copy") from error


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

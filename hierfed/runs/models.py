"""The files of a run's models: the shared model with a versioned header, and the catalogue.

Everything is safetensors or Parquet; nothing is pickled. Users' own files are hierfed.runs.private_files'.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from hierfed.atomic import write_atomically
from hierfed.data.catalogue import Catalogue
from hierfed.data.reading.catalogue_file import CATALOGUE, catalogue_bytes
from hierfed.errors import HierfedError
from hierfed.federated.contract import SharedModel
from hierfed.federated.method import Method
from hierfed.methods import kind_of
from hierfed.settings import PRIVATE_SETTINGS, Settings, read_settings

MODEL, RANKING = "model.safetensors", "ranking.safetensors"
FORMAT, FORMAT_BEFORE = "3", "2"


@dataclass(frozen=True)
class KeptModel:
    """A shared model with all that makes its method again.

    settings: with the hyperparameters that the run chose. limits: the lowest and the highest rating that there is.
    header: more facts for the file's header.
    """

    settings: Settings
    limits: tuple[float, float]
    catalogue: Catalogue
    shared: SharedModel
    header: Mapping[str, str]


def model_format(method: str, version: str = FORMAT) -> str:
    """The format that the header of a shared model names."""
    return f"hierfed {method} {version}"


def save_model(folder: Path, kept: KeptModel, method: Method) -> None:
    """Write the shared model, and what is public of the items; method: the settings' own."""
    header = {
        "format": model_format(kept.settings.method),
        "method": kept.settings.method,
        "round": str(kept.shared.round),
        "settings": kept.settings.model_dump_json(exclude=PRIVATE_SETTINGS),
        "limits": json.dumps(kept.limits),
        **method.header(),
        **kept.header,
    }
    write_atomically(folder / CATALOGUE, catalogue_bytes(kept.catalogue))
    tensors = {name: tensor.contiguous() for name, tensor in method.named(kept.shared).items()}
    write_atomically(folder / MODEL, save(tensors, header))


def read_header(folder: Path) -> dict[str, str]:
    """The header of a shared model's file; raises HierfedError where it is damaged."""
    with sound(folder / MODEL), safe_open(folder / MODEL, framework="pt") as file:
        return dict(file.metadata() or {})


def load_model(folder: Path) -> KeptModel:
    """The shared model in a folder; raises HierfedError where it is damaged, or of a version that cannot be read."""
    path, header = folder / MODEL, read_header(folder)
    found = header.get("format", "a model without a format")
    with sound(folder / CATALOGUE):
        catalogue = Catalogue(pl.read_parquet((folder / CATALOGUE).read_bytes()))
    with sound(path):
        shared = SharedModel(load_file(path), int(header["round"]))
        settings = read_settings(header["settings"])
        if found == model_format(settings.method):
            low, high = json.loads(header["limits"])
            return KeptModel(settings, (low, high), catalogue, shared, header)
        if found == model_format(settings.method, FORMAT_BEFORE):
            return _of_the_version_before(header, settings, catalogue, shared)
    raise HierfedError(f"{path}: holds '{found}', and this version reads '{model_format(settings.method)}'")


def _of_the_version_before(
    header: dict[str, str], settings: Settings, catalogue: Catalogue, shared: SharedModel
) -> KeptModel:
    """A model of format 2, whose header describes the method beside the settings that it was asked for."""
    described = json.loads(header["method"])
    low, high = described["limits"]
    return KeptModel(kind_of(settings).former_settings(settings, described), (low, high), catalogue, shared, header)


def save_ranking(folder: Path, models: Mapping[str, SharedModel]) -> None:
    """Write the ranking models, by name, if there are any.

    Weights are written in single precision, since scores only order items.
    """
    if not models:
        return
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
    """Turn every failure to read the file within the block into a HierfedError that calls the file damaged."""
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

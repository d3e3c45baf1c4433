"""The files of a run's models: the shared model with a versioned header, and the catalogue.

Everything is safetensors or Parquet; nothing is pickled. Users' own files are hierfed.runs.private_files'.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from safetensors import SafetensorError
from torch import Tensor

from hierfed.atomic import write_atomically
from hierfed.data.catalogue import Catalogue
from hierfed.data.reading.catalogue_file import CATALOGUE, catalogue_bytes
from hierfed.data.reading.checks import POLARS
from hierfed.errors import HierfedError
from hierfed.federated.contract import SharedModel
from hierfed.federated.method import Method
from hierfed.methods import kind_of
from hierfed.sealed import MALFORMED, bytes_digest, damaged
from hierfed.settings import PRIVATE_SETTINGS, Settings, read_settings
from hierfed.tensor_files import read_tensors, tensor_bytes

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


def save_model(folder: Path, kept: KeptModel, method: Method, beside: Sequence[str] = ()) -> None:
    """Write what is public of the items, then the shared model.

    method: the settings' own. beside: files that belong to this model; those that are there must stay there. They are
    written before it, so that a model without them is never found.
    """
    catalogue = catalogue_bytes(kept.catalogue)
    there = [name for name in beside if (folder / name).is_file()]
    belonging = {"beside": json.dumps(there), "catalogue": bytes_digest(catalogue)} if beside else {}
    header = {
        "format": model_format(kept.settings.method),
        "method": kept.settings.method,
        "round": str(kept.shared.round),
        "settings": kept.settings.model_dump_json(exclude=PRIVATE_SETTINGS),
        "limits": json.dumps(kept.limits),
        **method.header(),
        **kept.header,
        **belonging,
    }
    write_atomically(folder / CATALOGUE, catalogue)
    write_atomically(folder / MODEL, tensor_bytes(method.named(kept.shared), header))


def read_header(folder: Path) -> dict[str, str]:
    """The header of a shared model's file; raises HierfedError where it is damaged."""
    return read_tensors(folder / MODEL)[0]


def load_model(folder: Path) -> KeptModel:
    """The shared model in a folder; raises HierfedError where it is damaged, or of a version that cannot be read."""
    path = folder / MODEL
    header, arrays = read_tensors(path)
    found = header.get("format", "a model without a format")
    settings = read_settings(header["settings"]) if "settings" in header else None
    if settings is None or found not in (model_format(settings.method), model_format(settings.method, FORMAT_BEFORE)):
        wanted = "other files" if settings is None else f"'{model_format(settings.method)}'"
        raise HierfedError(f"{path}: holds '{found}', and this version reads {wanted}: run it again")
    if not (folder / CATALOGUE).is_file():
        raise HierfedError(
            f"{folder / CATALOGUE}: there is none, and lists need it: put it back from a copy; if an earlier version "
            "saved this run of networks, which kept none, run it again"
        )
    catalogue = _catalogue(folder / CATALOGUE, header)
    with sound(path):
        for name in json.loads(header.get("beside", "[]")):
            if not (folder / name).is_file():
                raise damaged(folder / name, "it is missing, and the model needs it")
        shared = SharedModel(arrays, int(header["round"]))
        if found == model_format(settings.method):
            low, high = json.loads(header["limits"])
            return KeptModel(settings, (low, high), catalogue, shared, header)
        return _of_the_version_before(header, settings, catalogue, shared)


def _catalogue(path: Path, header: Mapping[str, str]) -> Catalogue:
    with sound(path):
        content = path.read_bytes()
        if header.get("catalogue", bytes_digest(content)) != bytes_digest(content):
            raise ValueError("its content is not what was written")
        return Catalogue(pl.read_parquet(content))


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
    write_atomically(folder / RANKING, tensor_bytes(kept, {"format": model_format("ranking")}))


def load_ranking(folder: Path) -> dict[str, SharedModel] | None:
    """The ranking models of a run, by name; None where it trained none."""
    if not (folder / RANKING).is_file():
        return None
    arrays: dict[str, dict[str, Tensor]] = {}
    for name, tensor in read_tensors(folder / RANKING)[1].items():
        model, _, array = name.partition(".")
        arrays.setdefault(model, {})[array] = tensor
    return {model: SharedModel(each, 1) for model, each in arrays.items()}


@contextmanager
def sound(path: Path) -> Iterator[None]:
    """Turn every failure to read the file within the block into a HierfedError that calls the file damaged."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError, *POLARS, *MALFORMED) as error:
        raise damaged(path, error) from error

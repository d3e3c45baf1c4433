"""What the companion is sent, settings as JSON and rows as arrays, and what it answers. Nothing is pickled."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from hierfed.data.federation import Node
from hierfed.data.ratings import Ratings
from hierfed.federated.averaging import FederatedAveraging
from hierfed.models.scale import RatingScale
from hierfed.models.training import LocalTraining
from hierfed.settings import Settings

_LENGTH_BYTES = 8
_COLUMNS = ("user", "item", "value")


@dataclass(frozen=True)
class Task:
    """All that training nodes alone takes. features: [items, features]."""

    settings: Settings
    training: LocalTraining
    features: np.ndarray
    nodes: Sequence[Node]
    rounds: int

    @classmethod
    def of(cls, settings: Settings, method: FederatedAveraging, nodes: Sequence[Node], rounds: int) -> Task:
        """The task of `method.train_alone(nodes, rounds)`."""
        return cls(settings, method.training, method.features.numpy(), nodes, rounds)

    def write(self, stream: IO[bytes]) -> None:
        """Write the task."""
        train = [node.train for node in self.nodes]
        _write(
            stream,
            settings=np.array(self.settings.model_dump_json()),
            training=np.array(json.dumps(asdict(self.training))),
            rounds=np.array(self.rounds),
            features=self.features,
            numbers=np.array([node.number for node in self.nodes]),
            lengths=np.array([len(rows) for rows in train]),
            **{name: np.concatenate([getattr(rows, name) for rows in train]) for name in _COLUMNS},
        )


def read_task(stream: IO[bytes]) -> Task | None:
    """The next task, its nodes with their numbers and train rows only; None where the stream has ended."""
    try:
        arrays = _read(stream)
    except EOFError:
        return None
    ends = np.cumsum(arrays["lengths"])[:-1]
    nobody = np.empty(0, np.int64)
    training = json.loads(arrays["training"].item())
    rows = [Ratings(*columns) for columns in zip(*(np.split(arrays[name], ends) for name in _COLUMNS), strict=True)]
    return Task(
        Settings.model_validate_json(arrays["settings"].item()),
        LocalTraining(**{**training, "scale": RatingScale(**training["scale"])}),
        arrays["features"],
        [
            Node(n, str(n + 1), train, train.take(nobody))
            for n, train in zip(arrays["numbers"].tolist(), rows, strict=True)
        ],
        int(arrays["rounds"]),
    )


def write_answer(parameters: Tensor, stream: IO[bytes]) -> None:
    """Write the parameters that the nodes reached, [nodes, parameters]."""
    _write(stream, parameters=parameters.numpy())


def read_answer(stream: IO[bytes]) -> Tensor:
    """What `write_answer` wrote; raises EOFError where the stream has ended."""
    return torch.from_numpy(_read(stream)["parameters"])


def _write(stream: IO[bytes], **arrays: Any) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    stream.write(buffer.tell().to_bytes(_LENGTH_BYTES, "little"))
    stream.write(buffer.getbuffer())
    stream.flush()


def _read(stream: IO[bytes]) -> Mapping[str, np.ndarray]:
    length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
    content = stream.read(length)
    if len(content) < max(length, 1):
        raise EOFError("the other process has ended")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return dict(arrays)

"""Files of tensors: safetensors with facts and a checksum, written whole, and checked as they are read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save
from torch import Tensor

from hierfed.sealed import ELSE, MALFORMED, damaged, sealed_tensors, tensor_facts


def tensor_bytes(tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> bytes:
    """The file of these tensors and facts, with its seal."""
    # Through NumPy, a user's file takes a third of the time, with the same bytes.
    return sealed_tensors(save({name: tensor.contiguous().numpy() for name, tensor in tensors.items()}, dict(facts)))


def read_tensors(
    path: Path, advice: str = ELSE, wanted: Sequence[str] = ()
) -> tuple[dict[str, str], dict[str, Tensor]]:
    """A file's facts and tensors; advice: what to do about a damaged one. wanted: facts that it must have.

    The tensors are in torch's own memory: as parts of a file they are not aligned as others are, which may change last
    digits of products. Raises DamagedError for a file that is not as it was written, or lacks a wanted fact.
    """
    try:
        facts, tensors = tensors_of(path.read_bytes())
    except (OSError, ValueError) as error:
        raise damaged(path, error, advice) from error
    lacking = [name for name in wanted if name not in facts]
    if lacking:
        raise damaged(path, f"it says nothing of {', '.join(lacking)}", advice)
    return facts, tensors


def read_facts(path: Path, advice: str = ELSE) -> dict[str, str]:
    """A file's facts alone, for those who must look into many files; they are not checked against the seal.

    Raises DamagedError for a file that has none.
    """
    try:
        with path.open("rb") as file:
            length = min(int.from_bytes(file.read(8), "little"), path.stat().st_size)
            return dict(json.loads(file.read(length))["__metadata__"])
    except (OSError, *MALFORMED) as error:
        raise damaged(path, error, advice) from error


def tensors_of(content: bytes) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The facts and tensors in a file's bytes; raises ValueError for bytes that are not as they were written."""
    try:
        return tensor_facts(content), {name: torch.tensor(array) for name, array in load(content).items()}
    except (SafetensorError, RuntimeError, *MALFORMED) as error:
        raise ValueError(str(error) or type(error).__name__) from error

"""Folders of arrays in the user's cache: whole or not there, mapped into memory as they are read."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from hierfed.atomic import write_atomically

# Beyond so many bytes in all, those entries go that were not used for longest.
MOST_BYTES = 10_000_000_000
_HEADER = "header.json"


@dataclass(frozen=True)
class Entry:
    """What a folder of the cache holds. facts: anything that JSON can hold."""

    facts: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]
    frames: Mapping[str, pl.DataFrame]


@dataclass(frozen=True)
class Kept:
    """An entry as it lies on the disk. bytes: of all its files. used: when it was written or last read, in seconds."""

    folder: Path
    bytes: int
    used: float


def user_cache() -> Path:
    """The folder where hierfed keeps what it can make or download again."""
    import platformdirs  # noqa: PLC0415 - most runs need no cache

    return Path(platformdirs.user_cache_dir("hierfed"))


def write_entry(folder: Path, entry: Entry) -> None:
    """Write an entry beside its place and put it there at once, on the disk to the last byte.

    Another process that writes the same entry is welcome to be first. Raises OSError where there is no room.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=folder.parent))
    try:
        for name, array in entry.arrays.items():
            with (unfinished / f"{name}.npy").open("wb") as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
        for name, frame in entry.frames.items():
            with (unfinished / f"{name}.arrow").open("wb") as file:
                frame.write_ipc(file)
                file.flush()
                os.fsync(file.fileno())
        sizes = {path.name: path.stat().st_size for path in sorted(unfinished.iterdir())}
        forms = {name: [str(array.dtype), list(array.shape)] for name, array in entry.arrays.items()}
        content = json.dumps({"sizes": sizes, "forms": forms, "facts": entry.facts})
        write_atomically(unfinished / _HEADER, json.dumps({"content": content, "sha256": _digest(content)}).encode())
        try:
            unfinished.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def read_entry(folder: Path) -> Entry | None:
    """The entry that was written there, and a note that it was used; None where there is none.

    Arrays are mapped: their bytes are read as they are used, and writing to them changes nothing on the disk. An entry
    that is damaged (a file is missing, or of another length, type or shape) is taken away.
    """
    try:
        entry = _read(folder)
        os.utime(folder)
    except FileNotFoundError:
        if not folder.is_dir():
            return None
    except (OSError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError):
        pass
    else:
        return entry
    shutil.rmtree(folder, ignore_errors=True)
    return None


def kept_in(place: Path) -> list[Kept]:
    """The entries of the folder, the last used first, and what a process that was killed left of one."""
    found = []
    for folder in place.iterdir() if place.is_dir() else ():
        # Another process may take it away, or put it in its place, at any time.
        with suppress(FileNotFoundError, NotADirectoryError):
            size = sum(path.stat().st_size for path in folder.iterdir())
            found.append(Kept(folder, size, folder.stat().st_mtime))
    return sorted(found, key=lambda each: each.used, reverse=True)


def prune(place: Path, most_bytes: int = MOST_BYTES) -> None:
    """Take away the entries that were not used for longest, until those left are no larger than asked."""
    total = 0
    for each in kept_in(place):
        total += each.bytes
        if total > most_bytes:
            shutil.rmtree(each.folder, ignore_errors=True)


def _digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def _read(folder: Path) -> Entry:
    """The entry; raises one of several errors where a file is not as the header says, or the header was changed."""
    header = json.loads((folder / _HEADER).read_text(encoding="utf-8"))
    if _digest(header["content"]) != header["sha256"]:
        raise ValueError(_HEADER)
    content = json.loads(header["content"])
    for name, size in content["sizes"].items():
        if (folder / name).stat().st_size != size:
            raise ValueError(name)
    arrays = {}
    for name, (kind, shape) in content["forms"].items():
        # What has no bytes cannot be mapped.
        mode: Literal["c"] | None = "c" if np.prod(shape) else None
        array = np.load(folder / f"{name}.npy", mmap_mode=mode, allow_pickle=False)
        if (str(array.dtype), list(array.shape)) != (kind, shape):
            raise ValueError(name)
        arrays[name] = array.view(np.ndarray)
    frames = {
        name.removesuffix(".arrow"): pl.read_ipc((folder / name).read_bytes())
        for name in content["sizes"]
        if name.endswith(".arrow")
    }
    return Entry(content["facts"], arrays, frames)

"""Entries of the cache come back as they were, or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hierfed.data.cache import Entry, prune, read_entry, write_entry


def an_entry(rows: int = 50) -> Entry:
    arrays = {"a": np.arange(rows, dtype=np.int32), "b": np.linspace(0, 1, 7), "none": np.empty(0, np.int64)}
    return Entry({"text": "café", "list": [1, 2]}, arrays, {"f": pl.DataFrame({"x": [["a"], None], "y": [1, 2]})})


def test_an_entry_comes_back_mapped(tmp_path):
    folder = tmp_path / "place" / "one"
    assert read_entry(folder) is None
    write_entry(folder, an_entry())
    found = read_entry(folder)
    assert found is not None
    assert found.facts == an_entry().facts
    assert found.frames["f"].equals(an_entry().frames["f"])
    for name, array in an_entry().arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array)
        assert found.arrays[name].dtype == array.dtype
    assert isinstance(found.arrays["a"].base, np.memmap)
    assert [path.name for path in folder.parent.iterdir()] == ["one"]
    assert folder.stat().st_mode & 0o077 == 0, "ratings are nobody else's"


def test_what_is_written_to_an_array_does_not_reach_the_cache(tmp_path):
    write_entry(tmp_path / "one", an_entry())
    first = read_entry(tmp_path / "one")
    assert first is not None
    first.arrays["a"][:] = 7
    second = read_entry(tmp_path / "one")
    assert second is not None
    np.testing.assert_array_equal(second.arrays["a"], np.arange(50))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def alter(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def other_fact(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"[1, 2]", b"[1, 3]"))


def other_type(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"<i4", b"<u4"))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *((name, damage) for name in ("a.npy", "f.arrow", "header.json") for damage in (cut, lengthen, Path.unlink)),
        ("header.json", alter),
        ("header.json", other_fact),
        ("a.npy", other_type),
    ],
)
def test_a_damaged_entry_is_taken_away(tmp_path: Path, name: str, damage: Callable[[Path], None]):
    folder = tmp_path / "one"
    write_entry(folder, an_entry())
    damage(folder / name)
    assert read_entry(folder) is None
    assert not folder.exists()
    write_entry(folder, an_entry())
    assert read_entry(folder) is not None


def test_a_write_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="Object arrays"):
        write_entry(tmp_path / "one", Entry({}, {"a": np.array([object()])}, {}))
    assert list(tmp_path.iterdir()) == []


def test_two_processes_may_write_the_same_entry(tmp_path):
    script = (
        "import sys, numpy as np; from pathlib import Path; from hierfed.data.cache import Entry, write_entry\n"
        "sys.stdin.read(1); write_entry(Path(sys.argv[1]), Entry({}, {'a': np.arange(100_000)}, {}))"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "one")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, env=environment) for _ in range(2)]
    for process in processes:
        process.communicate(b"x", timeout=60)
    assert [process.returncode for process in processes] == [0, 0]
    found = read_entry(tmp_path / "one")
    assert found is not None
    np.testing.assert_array_equal(found.arrays["a"], np.arange(100_000))
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_entries_that_were_not_used_for_longest_go_first(tmp_path):
    for age, name in enumerate(("new", "middle", "old")):
        write_entry(tmp_path / name, an_entry(1000))
        os.utime(tmp_path / name, (10**9 - age, 10**9 - age))
    size = sum(path.stat().st_size for path in (tmp_path / "new").iterdir())
    prune(tmp_path, 3 * size)
    assert {path.name for path in tmp_path.iterdir()} == {"new", "middle", "old"}
    assert read_entry(tmp_path / "old") is not None  # which is a use
    prune(tmp_path, 2 * size)
    assert {path.name for path in tmp_path.iterdir()} == {"new", "old"}

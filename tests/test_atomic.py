"""A file that is written atomically is the old one or the new one, whatever fails."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hierfed.atomic import write_atomically, written_atomically


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def failing(original: Callable[..., Any], at: int) -> Callable[..., Any]:
    """The function, but for its call number `at`, which fails as a full disk does."""
    calls = [0]

    def call(*arguments: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] == at:
            raise OSError(28, "No space left on device")
        return original(*arguments, **named)

    return call


@pytest.fixture(autouse=True)
def usual_mask():
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.parametrize("content", [b"", b"new", bytes(range(256)) * 5000])
def test_the_content_is_what_was_written_and_nothing_else_is_left(tmp_path, content):
    path = tmp_path / "file.bin"
    for before in (None, b"old", b"o" * 10**6):
        if before is not None:
            path.write_bytes(before)
        write_atomically(path, content)
        assert path.read_bytes() == content
        assert names(tmp_path) == ["file.bin"]


@pytest.mark.parametrize("mode", [0o600, 0o644])
@pytest.mark.parametrize("before", [None, 0o600, 0o644])
def test_the_mode_is_the_one_asked_for_whatever_there_was(tmp_path, mode, before):
    path = tmp_path / "file"
    if before is not None:
        path.touch(mode=before)
    write_atomically(path, b"x", mode)
    assert mode_of(path) == mode


def test_a_private_file_is_private_even_after_an_unfinished_public_one(tmp_path):
    (tmp_path / ".file.unfinished").write_bytes(b"left by a crash")
    write_atomically(tmp_path / "file", b"x", 0o600)
    assert mode_of(tmp_path / "file") == 0o600
    assert (tmp_path / "file").read_bytes() == b"x"


def test_no_one_else_can_read_a_private_file_at_any_moment(tmp_path, monkeypatch):
    seen, original = [], os.fsync

    def fsync(descriptor: int) -> None:
        seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        original(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomically(tmp_path / "file", b"x", 0o600)
    assert seen[0] == 0o600


@pytest.mark.parametrize("old", [b"old", None])
@pytest.mark.parametrize("step", ["open", "fsync", "replace"])
def test_whatever_fails_the_old_content_is_there_and_nothing_is_left_over(tmp_path, monkeypatch, step, old):
    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)
    monkeypatch.setattr(os, step, failing(getattr(os, step), 1))
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    monkeypatch.undo()
    assert names(tmp_path) == ([] if old is None else ["file"])
    assert old is None or path.read_bytes() == old
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


def test_the_content_is_on_the_disk_before_it_takes_the_name_and_the_name_after(tmp_path, monkeypatch):
    path, events = tmp_path / "file", []
    fsync, replace = os.fsync, os.replace
    path.write_bytes(b"old")

    def note_fsync(descriptor: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        events.append((kind, os.fstat(descriptor).st_size if kind == "file" else None, path.read_bytes()))
        fsync(descriptor)

    def note_replace(*places: Any) -> None:
        events.append(("replace", None, path.read_bytes()))
        replace(*places)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    write_atomically(path, b"new content")
    assert events == [("file", 11, b"old"), ("replace", None, b"old"), ("folder", None, b"new content")]


def test_no_descriptor_is_left_open(tmp_path, monkeypatch):
    opened, original = [], os.open

    def note(*arguments: Any, **named: Any) -> int:
        opened.append(original(*arguments, **named))
        return opened[-1]

    monkeypatch.setattr(os, "open", note)
    write_atomically(tmp_path / "file", b"x")
    monkeypatch.setattr(os, "fsync", failing(os.fsync, 2))
    with pytest.raises(OSError, match="No space left"):
        write_atomically(tmp_path / "file", b"y")
    assert len(opened) == 4
    for descriptor in set(opened):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


def test_what_is_written_bit_by_bit_is_there_when_the_block_ends(tmp_path):
    target = tmp_path / "model"
    target.write_bytes(b"old")
    with written_atomically(target) as path:
        path.write_bytes(b"new")
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"
    assert names(tmp_path) == ["model"]


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_block_that_fails_leaves_the_old_file_and_nothing_new(tmp_path, failure):
    target = tmp_path / "model"
    target.write_bytes(b"old")
    with pytest.raises(type(failure)), written_atomically(target) as path:
        path.write_bytes(b"half")
        raise failure
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["model"]

"""A disk that is full or read-only: one line that names the file, and the same command goes on once there is room."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hierfed import cli
from hierfed.errors import HierfedError, StorageError
from hierfed.runs.folder import RoundLog

Make = Callable[..., Any]


class Disk:
    """Writes fail with this reason from a number of them on, below one folder."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, room: int, reason: int = errno.ENOSPC):
        self.room, opened = room, os.open

        def limited(path: Any, flags: int, *rest: Any, **named: Any) -> int:
            if flags & os.O_CREAT and str(path).startswith(f"{folder}/"):
                self.room -= 1
                if self.room < 0:
                    raise OSError(reason, os.strerror(reason), str(path))
            return opened(path, flags, *rest, **named)

        monkeypatch.setattr(os, "open", limited)


@pytest.mark.parametrize("room", [0, 2, 5])
def test_a_server_goes_on_after_there_is_room_with_the_digest(
    village: Make, make_settings: Make, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    settings = make_settings("item_biases")
    right = village(settings).serve(nodes=3).digest
    found = village(settings)
    with monkeypatch.context() as full:
        Disk(full, found.server, room)
        with pytest.raises(StorageError, match="No space left on device; put that right") as caught:
            found.serve(nodes=3)
    assert str(found.server) in str(caught.value)
    assert str(caught.value).isprintable()
    found.start("node 1", "node 2", "node 10")
    assert found.serve(nodes=3).digest == right


def test_a_node_whose_disk_may_not_be_written_says_so_and_comes_back(
    village: Make, make_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings("item_biases")
    found = village(settings)
    with monkeypatch.context() as readonly:
        Disk(readonly, found.place / "node 1", 3, errno.EROFS)
        found.serve(nodes=3, quorum=2)
    failure = found.sides["node 1"].__dict__["failure"]
    assert isinstance(failure, HierfedError)
    assert "Read-only file system" in str(failure)
    found.start("node 1", "node 2", "node 10")
    assert found.serve(nodes=3).digest


def test_a_round_s_line_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, *rest: Any, **named: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(StorageError, match=r"rounds\.jsonl: cannot be written: No space left"):
        RoundLog(tmp_path).round(None)  # type: ignore[arg-type]


def test_any_other_write_of_a_command_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(**named: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/there/page.html")

    monkeypatch.setattr(cli, "app", full)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == (
        "error: /there/page.html: cannot be written: No space left on device; put that right, then run the same "
        "command again\n"
    )

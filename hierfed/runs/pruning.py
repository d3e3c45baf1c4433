"""Runs that have been kept long enough: the oldest are deleted, and the last ones stay."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from hierfed.atomic import is_held
from hierfed.errors import HierfedError, reason_of, storing

RESULTS = ("result.json", "summary.json")
SERVER_LOCK = ".lock"


def finished_runs(out: Path) -> list[Path]:
    """The folders of finished runs below `out`, the newest first; a link to a folder is none of them.

    Raises HierfedError where `out` cannot be read.
    """
    try:
        folders = [path for path in out.iterdir() if path.is_dir() and not path.is_symlink()]
    except OSError as error:
        raise HierfedError(f"{out}: cannot read runs there: {reason_of(error)}; choose the place with --out") from error
    dated = [(_finished(path), path.name, path) for path in folders]
    return [path for when, _, path in sorted(dated, reverse=True) if when > 0]


def _finished(folder: Path) -> float:
    """When a run was finished; 0 for a folder without one."""
    return max((path.stat().st_mtime for name in RESULTS if (path := folder / name).is_file()), default=0.0)


def prune(out: Path, keep: int, tell: Callable[[Path], None] = lambda folder: None) -> list[Path]:
    """Delete the oldest finished runs below `out`, and keep this many; gives those that are gone.

    A folder without a result, such as that of a training under way or of a study, is never touched, nor is one that a
    server holds. tell: called before a folder is deleted.
    """
    old = [folder for folder in finished_runs(out)[keep:] if not is_held(folder / SERVER_LOCK)]
    for folder in old:
        tell(folder)
        with storing(folder):
            shutil.rmtree(folder)
    return old

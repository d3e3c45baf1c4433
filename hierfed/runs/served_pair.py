"""The pair that a node serves its users from: a finished model and the users' models that were made of it.

The two belong together, so they lie in one folder, `served/NUMBER`, and `served/current` names the one that serves. A
new pair is written whole before it is named; until then the old one serves. The one before stays, for those who are
still reading it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from hierfed.atomic import write_atomically
from hierfed.data.reading.catalogue_file import CATALOGUE
from hierfed.errors import NotPersonalisedError
from hierfed.runs.models import MODEL, RANKING
from hierfed.runs.private_files import PRIVATE
from hierfed.sealed import MALFORMED, damaged, read_json, sealed_json

# A folder with this file is a node's state.
NODE = "node.json"
SERVED, CURRENT, UNFINISHED = "served", "current", ".unfinished"
AGAIN = "`hierfed personalise` makes it again"


def pair_folder(folder: Path) -> Path:
    """The folder to serve from: a run's folder itself, or the pair of a node's state.

    Raises NotPersonalisedError for a node that has no pair yet, and HierfedError where it is damaged.
    """
    if not (folder / NODE).is_file():
        return folder
    pair = _current(folder)
    if pair is None and (folder / PRIVATE).is_dir() and (folder / MODEL).is_file():
        return folder  # as versions before this one kept their pair
    if pair is None and (folder / MODEL).is_file():
        raise NotPersonalisedError(
            f"--state {folder}: not personalised yet: run `hierfed personalise --state {folder}`, then recommend"
        )
    if pair is None:
        raise NotPersonalisedError(
            f"--state {folder}: not personalised yet: no federation has finished here; `hierfed node` takes part in one"
        )
    return pair


def replace_pair(folder: Path, fill: Callable[[Path], None]) -> Path:
    """Let `fill` write a new pair into an empty folder, then serve from it; gives its folder."""
    served = folder / SERVED
    served.mkdir(mode=0o700, exist_ok=True)
    unfinished = served / UNFINISHED
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    fill(unfinished)
    numbers = sorted(int(path.name) for path in served.iterdir() if path.name.isascii() and path.name.isdecimal())
    pair = served / str(max(numbers, default=0) + 1)
    unfinished.rename(pair)
    write_atomically(served / CURRENT, sealed_json({"pair": int(pair.name)}), 0o600)
    for number in numbers[:-1]:
        shutil.rmtree(served / str(number))
    # Versions before this one kept their pair's here.
    shutil.rmtree(folder / PRIVATE, ignore_errors=True)
    return pair


def keep_only_pair(folder: Path) -> None:
    """Delete every pair but the one that serves."""
    current = _current(folder)
    for path in (folder / SERVED).iterdir():
        if path.is_dir() and path != current:
            shutil.rmtree(path)


def keep_pair_before(folder: Path) -> None:
    """Make a pair of the files that an earlier version left in a node's state, before a new model replaces them."""
    if _current(folder) is not None or not (folder / PRIVATE).is_dir() or not (folder / MODEL).is_file():
        return

    def fill(place: Path) -> None:
        for name in (MODEL, CATALOGUE, RANKING):
            if (folder / name).is_file():
                shutil.copyfile(folder / name, place / name)
        shutil.copytree(folder / PRIVATE, place / PRIVATE)

    replace_pair(folder, fill)


def _current(folder: Path) -> Path | None:
    path = folder / SERVED / CURRENT
    if not path.is_file():
        return None
    try:
        written = path.read_text(encoding="ascii")
        # Versions before this one wrote the bare number.
        number = int(written) if written.isdecimal() else int(read_json(path, AGAIN)["pair"])
    except (OSError, *MALFORMED) as error:
        raise damaged(path, error, AGAIN) from error
    pair = folder / SERVED / str(number)
    if not pair.is_dir():
        raise damaged(path, f"there is no {pair}", AGAIN)
    return pair

"""One trial: damage a file, read it, and see what happens."""

from __future__ import annotations

import random
import shutil
import traceback
from dataclasses import dataclass
from pathlib import Path

from fuzzing.readers import READERS, Reader

from hierfed.errors import HierfedError

SAME, REFUSED, OTHER, TRACEBACK, LONG = "same", "refused", "other", "traceback", "not one short line"
BAD = (OTHER, TRACEBACK, LONG)
LONGEST = 600


@dataclass(frozen=True)
class Verdict:
    """outcome: one of the words above. told: the refusal, or the place of the traceback."""

    outcome: str
    told: str = ""


def attempt(reader: Reader, place: Path, right: str) -> Verdict:
    """Read a file that may be damaged; right: what a whole one holds."""
    try:
        found = reader.read(place)
    except HierfedError as error:
        told = str(error)
        plain = len(told) <= LONGEST and told.isprintable()
        return Verdict(REFUSED if plain else LONG, told)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        where = traceback.extract_tb(error.__traceback__)[-1]
        return Verdict(
            TRACEBACK, f"{type(error).__name__} at {Path(where.filename).name}:{where.lineno}: {error}"[:300]
        )
    return Verdict(SAME if found == right or not reader.sealed else OTHER, found[:200])


def trial(name: str, base: Path, place: Path, right: str, seed: int) -> tuple[Verdict, bytes]:
    """Damage a copy of the base in this way, and read it; gives the damaged bytes too. place: is written anew."""
    reader, rng = READERS[name], random.Random(f"{name} {seed}")
    top = reader.path.split("/", maxsplit=1)[0]
    if not (place / top).exists():
        shutil.copytree(base, place, dirs_exist_ok=True)
    hurt = reader.mutate((base / reader.file(base)).read_bytes(), rng)
    return _read(reader, base, place, place / reader.file(base), hurt, right), hurt


def finding(name: str, base: Path, place: Path, right: str, hurt: bytes) -> Verdict:
    """The same for bytes that are known."""
    reader = READERS[name]
    if not place.exists():
        shutil.copytree(base, place)
    return _read(reader, base, place, place / reader.file(base), hurt, right)


def _read(reader: Reader, base: Path, place: Path, target: Path, hurt: bytes, right: str) -> Verdict:
    target.write_bytes(hurt)
    try:
        return attempt(reader, place, right)
    finally:
        for each in (target, target.with_name(f"{target.name}.pub")):
            if (base / each.relative_to(place)).is_file():
                each.write_bytes((base / each.relative_to(place)).read_bytes())

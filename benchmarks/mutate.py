"""Breaks each check of `benchmarks/mutants/*.toml` in a copy, and sees its test fail: `python benchmarks/mutate.py`.

A mutant that survives, whose text is not there, or whose test fails unbroken, is printed, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
COPIED = ("hierfed", "tests", "benchmarks", "docs", "pyproject.toml", "CHANGELOG.md", "README.md")


def failed(copy: Path, tests: list[str]) -> bool:
    """True where a test of these fails."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-W", "ignore", *tests]
    surroundings = os.environ | {"PYTHONPATH": str(copy)}
    return subprocess.run(command, cwd=copy, env=surroundings, capture_output=True, check=False).returncode == 1


def main() -> None:
    """Go over all mutants, or over those of one file of checks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="mutants of whose file or test this is a part")
    given = parser.parse_args()
    found = [
        mutant
        for path in sorted((ROOT / "benchmarks" / "mutants").glob("*.toml"))
        for mutant in tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]
        if given.only in mutant["file"] + mutant["test"]
    ]
    if not found:
        sys.exit(f"--only {given.only}: no mutant's file or test has this in its name")
    survived = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        copy.mkdir()
        for name in COPIED:
            place = ROOT / name
            (shutil.copytree if place.is_dir() else shutil.copy)(place, copy / name)
        if failed(copy, sorted({mutant["test"] for mutant in found})):
            sys.exit("a test fails where nothing is broken")
        for mutant in found:
            path = copy / mutant["file"]
            whole = path.read_text(encoding="utf-8")
            broken = whole.replace(mutant["old"], mutant["new"], 1)
            path.write_text(broken, encoding="utf-8")
            dead = broken != whole and failed(copy, [mutant["test"]])
            path.write_text(whole, encoding="utf-8")
            survived += not dead
            print(f"{'fails, as it must' if dead else 'SURVIVES':18} {mutant['breaks']}: {mutant['test']}", flush=True)
    print(f"{len(found)} mutants, {survived} survived")
    sys.exit(int(survived > 0))


if __name__ == "__main__":
    main()

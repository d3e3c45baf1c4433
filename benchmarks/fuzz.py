"""Damages every file that hierfed reads, and prints what became of it: `python benchmarks/fuzz.py --minutes 10`.

`--messages` damages every kind of message of a federation instead, requests at a node and replies at the server. There
"as before" is what was taken or made no difference: a lie within bounds is no damage. `--letters` damages letters
between peers; its counts are of the two honest ones of each training, and the damaged letters are counted beside them.

Counts by kind: read as before, refused in one line, other numbers without a word, tracebacks. The last two must be 0.
`--findings DIR` keeps the bytes of every failure, which then go into tests/attacks/findings.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path

from fuzzing.letters import over_letters
from fuzzing.messages import over_kinds
from fuzzing.readers import READERS, make_base
from fuzzing.trial import BAD, REFUSED, SAME, trial


def main() -> None:
    """Go over the kinds in turns until the time is over; the exit code is 1 where anything failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--most", type=int, default=10**9, help="damages of each kind, at the most")
    parser.add_argument(
        "--first", type=int, default=0, help="the first damage's seed: two that differ run side by side"
    )
    parser.add_argument("--kind", action="append", choices=list(READERS), help="this kind alone; repeatable")
    parser.add_argument("--findings", type=Path)
    parser.add_argument("--messages", action="store_true")
    parser.add_argument("--letters", action="store_true")
    given = parser.parse_args()
    # No file of a trial outlives it, so none needs to reach the disk.
    os.fsync = lambda descriptor: None
    if given.messages or given.letters:
        ends, over = time.monotonic() + 60 * given.minutes, over_kinds if given.messages else over_letters
        told(over(given.first, given.most, lambda: time.monotonic() < ends))
    kinds = given.kind or list(READERS)
    counts = {name: collections.Counter[str]() for name in kinds}
    with tempfile.TemporaryDirectory() as folder:
        base, place = Path(folder) / "base", Path(folder) / "damaged"
        make_base(base)
        right = {name: READERS[name].read(base) for name in kinds}
        ends, seed = time.monotonic() + 60 * given.minutes, given.first
        while time.monotonic() < ends and seed < given.first + given.most:
            for name in kinds:
                with silence():
                    verdict, hurt = trial(name, base, place, right[name], seed)
                counts[name][verdict.outcome] += 1
                if verdict.outcome in BAD:
                    print(f"{name}, damage {seed}: {verdict.outcome}: {verdict.told}", flush=True)
                    if given.findings is not None:
                        given.findings.mkdir(parents=True, exist_ok=True)
                        (given.findings / f"{name}.{seed}").write_bytes(hurt)
            seed += 1
    told(counts)


def told(counts: dict[str, collections.Counter[str]]) -> None:
    """Print the table, and end with 1 where anything failed."""
    print(f"{'kind':28}{'damages':>9}{'as before':>11}{'refused':>9}{'other':>7}{'traceback':>11}{'long':>6}")
    for name, found in counts.items():
        bad = "".join(f"{found[each]:>{width}}" for each, width in zip(BAD, (7, 11, 6), strict=True))
        print(f"{name:28}{found.total():>9}{found[SAME]:>11}{found[REFUSED]:>9}{bad}")
    sys.exit(int(any(found[each] for found in counts.values() for each in BAD)))


@contextlib.contextmanager
def silence():
    """Standard error to nowhere: libraries write there as they panic."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


if __name__ == "__main__":
    main()

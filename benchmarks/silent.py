"""What a silent node costs a federation by the clock: `python benchmarks/silent.py [--rounds 16]`.

Real processes, the hierarchical model, the usual deadline of 600 s. Two nodes train; then three, of which one is
stopped (SIGSTOP) after the second round and never goes on. Printed are the seconds from that round to the end, and of
these those of the next round, the first miss. The exit code is 1 where three nodes take more than 1.5 times as long as
two, plus the first miss, or where that takes longer than the wait that follows from the others.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from on_the_wire import CASES, HIGH, LOW, THRESHOLD, free_port, make_tables, start, text

from hierfed.engines.flower.patience import LEAST_GRACE

SILENT_AFTER, FIRST_MISS = "rating, round 2:", "rating, round 3:"
MOST = 1.5
# Beside the grace of an adaptive deadline, for the round itself.
A_ROUND = 5.0


def train(nodes: int, rounds: int) -> tuple[float, float]:
    """Seconds from the second round to the end, and those of the first miss; the last of three nodes is silent."""
    preset, changes = CASES["hierarchical"]
    sets = {**changes, "rounds": rounds, "rank_items": "false", "scale": [LOW, HIGH], "min_raters": THRESHOLD}
    with tempfile.TemporaryDirectory() as folder:
        place, port = Path(folder), free_port()
        make_tables(place, True)
        arguments = [word for key, value in sets.items() for word in ("--set", f"{key}={text(value)}")]
        server = start(
            place, "server", preset, "--listen", f"127.0.0.1:{port}", "--nodes", nodes, "--quorum", 2,
            "--catalogue", "items.csv", "--name", "trained", *arguments,
        )  # fmt: skip
        joined = [
            start(
                place, "node", "--server", f"127.0.0.1:{port}", "--data", f"{node}.parquet",
                "--state", f"state-{node}", "--name", node, "--least-nodes", 2,
            )
            for node in range(nodes)
        ]  # fmt: skip
        try:
            return watched(server, joined[2:])
        finally:
            for process in (server, *joined):
                process.kill()
                process.wait()


def watched(server: subprocess.Popen[str], silent: list[subprocess.Popen[str]]) -> tuple[float, float]:
    """Stop the silent nodes after the second round, and time what follows."""
    assert server.stderr is not None
    began, missed = None, 0.0
    for line in server.stderr:
        if SILENT_AFTER in line and began is None:
            for node in silent:
                node.send_signal(signal.SIGSTOP)
            began = time.monotonic()
        if FIRST_MISS in line and began is not None:
            missed = time.monotonic() - began
        if "node 2" in line and began is not None:
            print(f"  {line.strip()}", flush=True)
    if server.wait() or began is None:
        raise SystemExit("the server failed")
    return time.monotonic() - began, missed


def main() -> None:
    """Train with two nodes, then with three of which one is silent."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=16)
    given = parser.parse_args()
    alone, _ = train(2, given.rounds)
    print(f"2 nodes: {alone:.1f} s from round 2 to the end", flush=True)
    seconds, missed = train(3, given.rounds)
    allowed = MOST * alone + min(missed, LEAST_GRACE + A_ROUND)
    print(f"3 nodes, one silent: {seconds:.1f} s, of which the first miss {missed:.1f} s; {allowed:.1f} s are allowed")
    sys.exit(int(seconds > allowed))


if __name__ == "__main__":
    main()

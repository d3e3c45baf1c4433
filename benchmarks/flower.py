"""What a real federation costs beside one process: CPU, wall time and bytes, for the same model to the last bit.

    python benchmarks/flower.py [--data FOLDER] [--nodes 8] [--rounds 3]

`hierfed federation` and `hierfed run` train the default model on the same nodes; CPU seconds are of all processes.
"""

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table


def measure(arguments: list[str], folder: Path) -> tuple[dict, float, float]:
    """The result of `hierfed ARGUMENTS`, its CPU seconds, those of its children included, and its wall seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    command = [sys.executable, "-m", "hierfed", *arguments, "--out", str(folder), "--json"]
    ran = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return json.loads(ran.stdout), cpu, wall


def traffic(log: str) -> tuple[int, int]:
    """Bytes sent and received, from a node's last words."""
    found = re.search(r"over; ([\d,]+) bytes sent, ([\d,]+) received", log)
    assert found is not None, log
    return int(found[1].replace(",", "")), int(found[2].replace(",", ""))


def main() -> None:
    """Run both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="embedded")
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    common = ["hierarchical", "--data", asked.data, "--set", f"nodes={asked.nodes}", "--set", f"rounds={asked.rounds}"]
    common += ["--set", "rank_items=false", "--set", "select=false"]
    with tempfile.TemporaryDirectory() as place:
        deployed, cpu, wall = measure(["federation", *common, "--name", "federation"], Path(place))
        alone, alone_cpu, alone_wall = measure(["run", *common], Path(place))
        logs = [path.read_text() for path in Path(place).glob("federation/nodes/*/node.log")]
    assert deployed["digest"] == alone["digest"], "not the same model"
    training = sum(record["seconds"] for record in deployed["federation"]["rounds"])
    table = Table(
        "", "federation", "one process", title=f"{asked.nodes} nodes, {asked.rounds} rounds after the opening"
    )
    table.add_row("CPU seconds, all processes", f"{cpu:.1f}", f"{alone_cpu:.1f}")
    table.add_row("wall seconds, all", f"{wall:.1f}", f"{alone_wall:.1f}")
    table.add_row("wall seconds, rounds", f"{training:.1f}", f"{alone['seconds']['train']:.1f}")
    every = deployed["federation"]["rounds"]
    up, down = (sum(record[name] for record in every) / 1e6 for name in ("bytes_up", "bytes_down"))
    table.add_row("MB up, arrays, all nodes", f"{up:.1f}", f"{sum(r['bytes_up'] for r in alone['rounds']) / 1e6:.1f}")
    alone_down = sum(record["bytes_down"] for record in alone["rounds"]) / 1e6
    table.add_row("MB down, arrays, all nodes", f"{down:.1f}", f"{alone_down:.1f}")
    sent, received = (sum(counts) / 1e6 for counts in zip(*map(traffic, logs), strict=True))
    table.add_row("MB of message contents, sent by nodes", f"{sent:.1f}", "0")
    table.add_row("MB of message contents, received", f"{received:.1f}", "0")
    Console().print(table)


if __name__ == "__main__":
    main()

"""How fast are federated rounds of a small network, against a plain loop and against other frameworks?

    python benchmarks/rounds.py [--repeats 3] [--python INTERPRETER]

One run times every peer on the same task (peers/task.py) in processes of its own, one after the other and all of them
`repeats` times over, so that a busy moment of the machine hits everyone. Seconds are end to end, from after the
imports to the trained model, compilation and start-up included; the least of the repeats counts. Peers that cannot be
imported (extra `bench`) are named, not skipped in silence. INTERPRETER runs the other peers, if they live elsewhere.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

PEERS = Path(__file__).parent / "peers"
OWN = "hierfed_peer"
ORDER = (OWN, "plain_loop", "pfl_peer", "fedjax_peer", "flower_peer")
TARGETS = {"plain_loop": 10, "pfl_peer": 8, "fedjax_peer": 5, "flower_peer": 25}


def time_peer(peer: str, python: str) -> dict[str, float | str] | str:
    """Run one peer once; gives what it printed, or the last line of its error."""
    done = subprocess.run([python, PEERS / f"{peer}.py", "--json"], capture_output=True, text=True, check=False)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["failed without a word"])[-1]
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    """Time all peers and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--python", default=sys.executable, help="interpreter of the peers other than hierfed")
    options = parser.parse_args()

    runs: dict[str, list[dict[str, float | str]]] = {peer: [] for peer in ORDER}
    missing: dict[str, str] = {}
    for _ in range(options.repeats):
        for peer in ORDER:
            found = time_peer(peer, sys.executable if peer == OWN else options.python)
            if isinstance(found, str):
                missing[peer] = found
            else:
                runs[peer].append(found)

    table = Table(title="8 nodes x 1,200 rows x 10 rounds (15,200 node-steps), one thread")
    for heading in ("peer", "seconds", "again, warm", "CPU seconds", "final loss", "times hierfed", "target"):
        table.add_column(heading, justify="left" if heading == "peer" else "right")
    own = min(float(run["seconds_end_to_end"]) for run in runs[OWN])
    for peer in ORDER:
        if not runs[peer]:
            table.add_row(peer, "not run", *[""] * 4, f">= {TARGETS[peer]}" if peer in TARGETS else "")
            continue
        best = min(runs[peer], key=lambda run: run["seconds_end_to_end"])
        table.add_row(
            f"{best['peer']} {best['version']}",
            f"{best['seconds_end_to_end']:.2f}",
            f"{min(run['seconds_again'] for run in runs[peer]):.2f}",
            f"{best['cpu_seconds']:.2f}",
            f"{best['final_loss']:.4f}",
            f"{float(best['seconds_end_to_end']) / own:.1f}",
            f">= {TARGETS[peer]}" if peer in TARGETS else "",
        )
    console = Console(width=120)
    console.print(table)
    for peer, error in missing.items():
        console.print(f"{peer} did not run: {error}")


if __name__ == "__main__":
    main()

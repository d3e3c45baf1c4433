"""What does a secure sum cost a node and the server, in seconds and in bytes?

    python benchmarks/secure_sum.py [--nodes 8 64 512] [--values 100000] [--lost 0 0.1]

Every round is carried out in full, in one process: all nodes, all messages as bytes, and a check of the total. Seconds
are CPU time on one thread, of a node the mean over those that stay to the end. Without dropouts, and with a tenth of
the nodes lost between sharing and uploading, which costs the server most: it then expands one mask for each pair of a
lost node and a survivor. 512 nodes take some minutes, because each of them expands a mask for each other one.
"""

import argparse
import math
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.console import Console
from rich.table import Table

from hierfed.federated.contract import Contribution
from hierfed.privacy.secure_sum.aggregator import Aggregator
from hierfed.privacy.secure_sum.client import Client
from hierfed.privacy.secure_sum.encoding import Bound, plan
from hierfed.privacy.secure_sum.messages import decode, encode
from hierfed.privacy.secure_sum.setup import Setup, colluders, smallest_threshold

SERVER = -1


class Meter:
    """Adds up seconds by party and step, and bytes by party."""

    def __init__(self) -> None:
        self.seconds: dict[tuple[int, str], float] = defaultdict(float)
        self.up: dict[int, int] = defaultdict(int)
        self.down: dict[int, int] = defaultdict(int)

    def timed(self, party: int, step: str, work: Callable[[], Any]) -> Any:
        """What `work` gives, its CPU time counted."""
        began = time.process_time()
        made = work()
        self.seconds[party, step] += time.process_time() - began
        return made

    def ask(self, node: int, step: str, answer: Callable[..., Any], *told: bytes) -> bytes:
        """What a node answers to these bytes, as bytes."""
        self.down[node] += sum(map(len, told))
        sent: bytes = self.timed(node, step, lambda: encode(answer(*map(decode, told))))
        self.up[node] += len(sent)
        return sent


def play(count: int, values: int, lost: int) -> tuple[Meter, Setup]:
    """One round; the last `lost` nodes fall silent before they upload."""
    keys = {node: Ed25519PrivateKey.generate() for node in range(count)}
    colluding = colluders(count)
    encoding = plan({"x": (values,)}, {"x": Bound(100.0)}, count)
    publics = {node: key.public_key() for node, key in keys.items()}
    setup = Setup(b"benchmark", publics, encoding, smallest_threshold(count, colluding), colluding)
    contribution = Contribution({"x": torch.linspace(-100, 100, values, dtype=torch.float64)})
    meter, server = Meter(), Aggregator(setup)
    clients = {
        node: meter.timed(node, "mask", lambda node=node: Client(setup, node, keys[node], contribution))
        for node in range(count)
    }

    def collect(step: str, sent: bytes) -> None:
        meter.timed(SERVER, step, lambda: server.receive(decode(sent)))

    def close(step: str, end: Callable[[], Any]) -> bytes:
        return meter.timed(SERVER, step, lambda: encode(end()))

    for node, client in clients.items():
        collect("collect", meter.ask(node, "keys and shares", client.advertise))
    roster = close("collect", server.roster)
    for node, client in clients.items():
        collect("collect", meter.ask(node, "keys and shares", client.share, roster))
    inboxes = meter.timed(SERVER, "collect", server.inboxes)
    for node in range(count - lost):
        inbox = meter.timed(SERVER, "collect", lambda node=node: encode(inboxes[node]))
        collect("collect", meter.ask(node, "mask", clients[node].mask, inbox))
    survivors = close("collect", server.announce)
    for node in server.survivors:
        collect("collect", meter.ask(node, "consent and unmask", clients[node].consent, survivors))
    consents = close("collect", server.consents)
    for node in server.survivors:
        collect("collect", meter.ask(node, "consent and unmask", clients[node].unmask, consents))
    total = meter.timed(SERVER, "unmask", server.total)
    off = (total.arrays["x"] - (count - lost) * contribution.arrays["x"]).abs().max().item()
    if off > encoding.error("x") + 2**-52 * 100 * count:
        raise SystemExit(f"the total is off by {off}")
    return meter, setup


def main() -> None:
    """Play all rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[8, 64, 512])
    parser.add_argument("--values", type=int, default=100_000)
    parser.add_argument("--lost", type=float, nargs="+", default=[0, 0.1], help="shares of nodes that are lost")
    options = parser.parse_args()
    torch.set_num_threads(1)

    table = Table(title=f"secure sum of {options.values:,} float64 values: CPU seconds, and MB per node")
    headings = (
        "nodes",
        "lost",
        "t",
        "node: keys",
        "mask",
        "unmask",
        "server: collect",
        "unmask",
        "masks",
        "MB up",
        "down",
    )
    for heading in headings:
        table.add_column(heading, justify="right")
    for count in options.nodes:
        for lost in (math.ceil(count * share) for share in options.lost):
            meter, setup = play(count, options.values, lost)
            stayed = range(count - lost)
            node = [
                sum(meter.seconds[each, step] for each in stayed) / len(stayed)
                for step in ("keys and shares", "mask", "consent and unmask")
            ]
            server = [meter.seconds[SERVER, step] for step in ("collect", "unmask")]
            sizes = [sum(of[each] for each in stayed) / len(stayed) / 1e6 for of in (meter.up, meter.down)]
            table.add_row(
                str(count),
                str(lost),
                str(setup.threshold),
                *(f"{seconds:.3f}" for seconds in node),
                *(f"{seconds:.2f}" for seconds in server),
                f"{len(stayed) * (1 + lost):,}",
                *(f"{size:.3f}" for size in sizes),
            )
    console = Console(width=120)
    console.print(table)
    console.print(
        f"masks: what the server expands; a node expands as many as there are nodes. Plain values: "
        f"{options.values * 8 / 1e6:.3f} MB up."
    )


if __name__ == "__main__":
    main()

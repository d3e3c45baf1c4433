"""Peer: Flower's simulation (`flwr[simulation]`) with the message API: ServerApp, ClientApp and the stock FedAvg.

It is started by `flwr.simulation.run_simulation`: deprecated in favour of `flwr run`, but chosen because it needs
neither an app package nor a SuperLink process. Client apps run in Ray actors of one CPU each: one actor, unless
`FLOWER_ACTORS` asks for more. The seconds are those of the whole simulation, the start and end of Ray included; the
CPU seconds leave out the end of Ray's own processes. Telemetry is off, and all that Flower and Ray write goes to a
temporary folder.
"""

import atexit
import logging
import os
import shutil
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

os.environ["FLWR_HOME"] = tempfile.mkdtemp(prefix="flwr-")
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from plain_loop import build_model, predictor, train_node
from task import NODES, Predict, make_task, run_peer

ACTORS = int(os.environ.get("FLOWER_ACTORS", "1"))

client_app = ClientApp()


@client_app.train()
def train_client(message: Message, context: Context) -> Message:
    """Train on the rows of this node, in a Ray actor."""
    torch.set_num_threads(1)
    features, targets = (torch.from_numpy(array[context.node_config["partition-id"]]) for array in make_task())
    model = build_model()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    train_node(model, features, targets)
    arrays, metrics = ArrayRecord(model.state_dict()), MetricRecord({"num-examples": len(features)})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


def descendants_cpu() -> float:
    """CPU seconds so far of all live processes below this one, by Linux's /proc (elsewhere 0).

    Nobody waits for Ray's actors when they end, so `os.times` never hears of them.
    """
    parent, ticks = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        pid = int(stat.parent.name)
        parent[pid], ticks[pid] = int(fields[1]), sum(map(int, fields[11:15]))

    def is_below(pid: int) -> bool:
        above = parent.get(pid)
        return above is not None and (above == os.getpid() or is_below(above))

    return sum(spent for pid, spent in ticks.items() if is_below(pid)) / os.sysconf("SC_CLK_TCK")


class Simulation:
    """Runs Flower and keeps count of the CPU seconds of its processes."""

    def __init__(self) -> None:
        self.ended_cpu = 0.0

    def cpu_seconds(self) -> float:
        """CPU seconds of this process and of the simulations that have ended."""
        return time.process_time() + self.ended_cpu

    def train(self, rounds: int) -> Predict:
        """Run the rounds in one simulation."""
        torch.manual_seed(0)
        model = build_model()
        server_app = ServerApp()

        @server_app.main()
        def serve(grid: Grid, context: Context) -> None:
            strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=NODES, min_available_nodes=NODES)
            result = strategy.start(grid, ArrayRecord(model.state_dict()), num_rounds=rounds)
            model.load_state_dict(result.arrays.to_torch_state_dict())
            self.ended_cpu += descendants_cpu()

        run_simulation(
            server_app,
            client_app,
            num_supernodes=NODES,
            backend_config={
                "init_args": {"num_cpus": ACTORS, "log_to_driver": False, "_temp_dir": os.environ["FLWR_HOME"]},
                "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
            },
        )
        return predictor(model)


if __name__ == "__main__":
    atexit.register(shutil.rmtree, os.environ["FLWR_HOME"], ignore_errors=True)
    torch.set_num_threads(1)
    logging.getLogger("flwr").setLevel(logging.ERROR)
    simulation = Simulation()
    run_peer("flower", version("flwr"), simulation.train, simulation.cpu_seconds)

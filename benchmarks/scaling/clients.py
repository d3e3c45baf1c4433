"""A thousand trivially small clients, three rounds: by hierfed, or by Flower's simulation.

    python benchmarks/scaling/clients.py {hierfed,flower} [--clients 1000] [--rounds 3]

A client holds 16 rows of 26 inputs and makes one step of Adam with an MLP 26-64-32-1; the server averages by rows.
Prints one line of JSON: CPU seconds of all processes from after the imports to the end, and of the imports. Flower runs
by `run_simulation` and Ray, one actor a core, with the stock FedAvg, evaluation off: see peers/flower_peer.py.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

ROWS, INPUTS, LEARNING_RATE = 16, 26, 0.003


def run_hierfed(clients: int, rounds: int) -> dict[str, float]:
    """All clients in this process."""
    import torch
    from networks import make_method

    from hierfed.data.federation import make_nodes
    from hierfed.data.ratings import Ratings
    from hierfed.engines.in_process import run_rounds
    from hierfed.methods.averaging.training import LocalTraining
    from hierfed.models.threads import one_torch_thread

    imported = time.process_time()
    from dataclasses import replace

    import numpy as np

    node = np.repeat(np.arange(clients, dtype=np.int32), ROWS)
    rng = np.random.default_rng(0)
    rows = Ratings(node, rng.integers(0, 1000, len(node), dtype=np.int32), rng.random(len(node), np.float32))
    nodes = make_nodes(rows, node, rows.between(0, 0), node[:0], clients)
    method = replace(make_method(2, 1 << 18), training=LocalTraining(1, ROWS, LEARNING_RATE))
    with one_torch_thread():
        shared = run_rounds(method, nodes, rounds).shared
    assert torch.isfinite(shared.arrays["parameters"]).all()
    return {"import_seconds": imported, "cpu_seconds": time.process_time() - imported}


def run_flower(clients: int, rounds: int) -> dict[str, float]:
    """Each client in an actor of Ray's."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "peers"))
    import torch
    from flower_peer import descendants_cpu
    from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp
    from flwr.serverapp import Grid, ServerApp
    from flwr.serverapp.strategy import FedAvg
    from flwr.simulation import run_simulation

    imported = time.process_time()

    def build() -> torch.nn.Module:
        layers = (torch.nn.Linear(INPUTS, 64), torch.nn.Linear(64, 32), torch.nn.Linear(32, 1))
        return torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1], torch.nn.ReLU(), layers[2])

    client_app, server_app, ended = ClientApp(), ServerApp(), []

    @client_app.train()
    def train(message: Message, context: Context) -> Message:
        torch.set_num_threads(1)
        model, random = build(), torch.Generator().manual_seed(int(context.node_config["partition-id"]))
        model.load_state_dict(message.content["arrays"].to_torch_state_dict())
        inputs, target = torch.randn(ROWS, INPUTS, generator=random), torch.rand(ROWS, 1, generator=random)
        optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
        torch.nn.functional.mse_loss(model(inputs), target).backward()
        optimizer.step()
        content = {"arrays": ArrayRecord(model.state_dict()), "metrics": MetricRecord({"num-examples": ROWS})}
        return Message(RecordDict(content), reply_to=message)

    @server_app.main()
    def serve(grid: Grid, context: Context) -> None:
        strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=clients, min_available_nodes=clients)
        strategy.start(grid, ArrayRecord(build().state_dict()), num_rounds=rounds)
        ended.append(descendants_cpu())

    cores = os.cpu_count() or 1
    init = {"num_cpus": cores, "log_to_driver": False, "_temp_dir": os.environ["FLWR_HOME"]}
    resources = {"num_cpus": 1, "num_gpus": 0.0}
    config = {"init_args": init, "client_resources": resources}
    run_simulation(server_app, client_app, num_supernodes=clients, backend_config=config)
    return {"import_seconds": imported, "cpu_seconds": time.process_time() - imported + sum(ended)}


def main() -> None:
    """Run one side, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", choices=("hierfed", "flower"))
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    began = time.perf_counter()
    told = (run_hierfed if options.side == "hierfed" else run_flower)(options.clients, options.rounds)
    print(json.dumps({"side": options.side, "wall_seconds": time.perf_counter() - began, **told}))


if __name__ == "__main__":
    main()

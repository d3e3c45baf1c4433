"""Peer: hierfed's own federated averaging, all nodes stacked into one model, through its in-process engine."""

import numpy as np
import torch
from task import BATCH, EPOCHS, HIDDEN, INPUTS, LEARNING_RATE, NODES, ROWS, Predict, make_task, run_peer

import hierfed
from hierfed.data.federation import Node
from hierfed.data.ratings import Ratings
from hierfed.engines.in_process import run_rounds
from hierfed.methods.averaging.averaging import FederatedAveraging
from hierfed.methods.averaging.network import Network
from hierfed.methods.averaging.node_level import NodePersonalisation
from hierfed.methods.averaging.stacked import train_stacked
from hierfed.methods.averaging.training import LocalTraining
from hierfed.methods.averaging.user_level import UserPersonalisation


def make_nodes(targets: np.ndarray) -> list[Node]:
    """Make nodes whose ratings are the targets, each row an item of its own."""
    nobody, nothing = (
        np.zeros(ROWS, np.int32),
        Ratings(*(np.empty(0, kind) for kind in (np.int32, np.int32, np.float32))),
    )
    items = np.arange(NODES * ROWS, dtype=np.int32).reshape(NODES, ROWS)
    return [Node(k, str(k), Ratings(nobody, items[k], targets[k]), nothing) for k in range(NODES)]


def train(rounds: int) -> Predict:
    """Run the rounds, all nodes at once."""
    features, targets = make_task()
    training = LocalTraining(EPOCHS, BATCH, LEARNING_RATE)
    network = Network(INPUTS, HIDDEN)
    method = FederatedAveraging(
        predictor=network,
        trainer=train_stacked,
        features=torch.from_numpy(features.reshape(-1, INPUTS)),
        training=training,
        node_level=NodePersonalisation("none", training),
        user_level=UserPersonalisation("none", 0.0, 1.0),
        start_at_mean=False,
        seed=0,
    )
    shared = run_rounds(method, make_nodes(targets), rounds).shared
    return lambda inputs: network.predict(shared.arrays["parameters"], torch.from_numpy(inputs)).numpy()


if __name__ == "__main__":
    torch.set_num_threads(1)
    run_peer("hierfed, stacked", hierfed.__version__, train)

"""Peer: a plain PyTorch loop over the nodes, with no framework.

`nn.Sequential`, `torch.optim.Adam`, `mse_loss(...).backward()` and an average of state dicts. The data are tensors
from the start and batches are picked by index, which spares the cost of a DataLoader.
"""

import numpy as np
import torch
from task import BATCH, EPOCHS, HIDDEN, INPUTS, LEARNING_RATE, Predict, make_task, run_peer
from torch import nn

State = dict[str, torch.Tensor]


def build_model() -> nn.Sequential:
    """Build the MLP that every PyTorch peer trains."""
    return nn.Sequential(
        nn.Linear(INPUTS, HIDDEN[0]), nn.ReLU(), nn.Linear(*HIDDEN), nn.ReLU(), nn.Linear(HIDDEN[1], 1), nn.Flatten(0)
    )


def train_node(model: nn.Module, features: torch.Tensor, targets: torch.Tensor) -> None:
    """Train the model in place on one node's rows: one node's share of one round."""
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(features)).split(BATCH):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(features[rows]), targets[rows])
            loss.backward()
            optimizer.step()


def average(states: list[State], weights: list[int]) -> State:
    """Average state dicts by weight."""
    total = sum(weights)
    return {
        name: sum(state[name] * (weight / total) for state, weight in zip(states, weights, strict=True))
        for name in states[0]
    }


def predictor(model: nn.Module) -> Predict:
    """Turn a model into a function from and to numpy arrays."""

    @torch.no_grad()
    def predict(features: np.ndarray) -> np.ndarray:
        return model(torch.from_numpy(features)).numpy()

    return predict


def train(rounds: int) -> Predict:
    """Run the rounds, one node after another."""
    torch.manual_seed(0)
    features, targets = map(torch.from_numpy, make_task())
    model = build_model()
    for _ in range(rounds):
        start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        states = []
        for node_features, node_targets in zip(features, targets, strict=True):
            model.load_state_dict(start)
            train_node(model, node_features, node_targets)
            states.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        model.load_state_dict(average(states, [len(node) for node in features]))
    return predictor(model)


if __name__ == "__main__":
    torch.set_num_threads(1)
    run_peer("plain PyTorch loop", torch.__version__, train)

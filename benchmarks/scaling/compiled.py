"""Does torch.compile pay for the step of a stack of networks?

    python benchmarks/scaling/compiled.py [--nodes 64] [--steps 300]

The gradients of a stack of perceptrons as hierfed writes them by hand, and the same mathematics compiled: seconds to
compile, microseconds a step, and after how many steps the compiled one has caught up; one thread. Prints one line of
JSON.
"""

import argparse
import json
import time
from collections.abc import Callable

import torch
from networks import BATCH, HIDDEN, INPUTS
from torch import Tensor

from hierfed.methods.averaging.gradients import gradient_of
from hierfed.methods.averaging.network import Network


def mathematics(network: Network) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """The gradients [nodes, parameters] of all nodes' losses, by autograd's rules over the node axis."""

    def loss(row: Tensor, inputs: Tensor, target: Tensor, scale: Tensor) -> Tensor:
        error = network.predict_in_training(row, inputs, None) - target
        return (error.square() * scale).sum() / 2

    return torch.func.vmap(torch.func.grad(loss))


def microseconds(step: Callable[[], object], steps: int) -> float:
    """The least mean of three runs."""
    spent = []
    for _ in range(3):
        began = time.perf_counter()
        for _ in range(steps):
            step()
        spent.append((time.perf_counter() - began) / steps)
    return 1e6 * min(spent)


def main() -> None:
    """Compile, and time both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=64)
    parser.add_argument("--steps", type=int, default=300)
    options = parser.parse_args()
    torch.set_num_threads(1)
    network = Network(INPUTS, HIDDEN)
    parameters = network.initial(0).repeat(options.nodes, 1)
    inputs, target = torch.randn(options.nodes, BATCH, INPUTS), torch.randn(options.nodes, BATCH)
    scale, errors, gradient = torch.full_like(target, 2 / BATCH), torch.empty_like(target), torch.zeros_like(parameters)
    written = gradient_of(network, parameters, gradient, BATCH)
    compiled = torch.compile(mathematics(network))
    with torch.no_grad():
        own = microseconds(lambda: written(inputs, target, scale, None, errors), options.steps)
        began = time.perf_counter()
        found = compiled(parameters, inputs, target, scale)
        seconds = time.perf_counter() - began
        torch.testing.assert_close(found, gradient, rtol=1e-3, atol=1e-4)
        other = microseconds(lambda: compiled(parameters, inputs, target, scale), options.steps)
    told = {"nodes": options.nodes, "compile_seconds": seconds, "written_microseconds": own}
    told |= {
        "compiled_microseconds": other,
        "steps_to_catch_up": seconds * 1e6 / (own - other) if other < own else None,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()

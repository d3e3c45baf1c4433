"""Do per-row gradients and their clipped sums agree with Opacus'?

    pip install opacus && python benchmarks/peers/opacus_peer.py

Prints what tests/models/test_clipping.py holds of Opacus 1.6.0, and the largest relative difference to it.
"""

import numpy as np
import torch
from opacus.grad_sample import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import nn

from hierfed.methods.averaging.clipping import clipped_gradient_of
from hierfed.methods.averaging.network import Network

ROWS, FEATURES, CLIP_NORM = 6, 4, 3.0


def problem() -> tuple[Network, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A network, its parameters, inputs and targets, without any random number."""
    network = Network(FEATURES, (5, 3))
    parameters = torch.zeros(network.parameter_count, dtype=torch.float64)
    for number, layer in enumerate(network.layers):
        count = layer.inputs * layer.outputs
        layer.weights_of(parameters).view(-1).copy_(torch.arange(count).add(number).sin())
        layer.bias_of(parameters).copy_(torch.arange(layer.outputs).add(number).cos())
    inputs = torch.arange(ROWS * FEATURES).mul(0.7).cos().view(ROWS, FEATURES).double()
    return network, parameters, inputs, torch.arange(ROWS).double()


def main() -> None:
    """Compare."""
    network, parameters, inputs, target = problem()
    layers: list[nn.Module] = []
    for layer in network.layers:
        linear = nn.Linear(layer.inputs, layer.outputs, dtype=torch.float64)
        linear.weight.data, linear.bias.data = layer.weights_of(parameters).T.clone(), layer.bias_of(parameters).clone()
        layers += [linear, nn.ReLU()]
    module = GradSampleModule(nn.Sequential(*layers[:-1]), loss_reduction="sum")
    plain = torch.optim.SGD(module.parameters(), lr=1.0)
    optimizer = DPOptimizer(
        plain, noise_multiplier=0.0, max_grad_norm=CLIP_NORM, expected_batch_size=1, loss_reduction="sum"
    )
    (module(inputs).squeeze(1) - target).square().sum().backward()
    samples = [parameter.grad_sample for parameter in module.parameters()]
    norms = torch.cat([sample.flatten(1) for sample in samples], 1).norm(dim=1)
    optimizer.pre_step()
    theirs = [parameter.grad for parameter in module.parameters()]

    gradient, errors = torch.zeros(1, len(parameters), dtype=torch.float64), torch.zeros(1, ROWS, dtype=torch.float64)
    scale = torch.full((1, ROWS), 2.0, dtype=torch.float64)
    compute = clipped_gradient_of(network, parameters[None], gradient, ROWS, CLIP_NORM)
    compute(inputs[None], target[None], scale, None, errors)
    ours = list(network.named(gradient[0]).values())
    difference = max(float((a - b).norm() / b.norm()) for a, b in zip(ours, theirs, strict=True))
    with np.printoptions(precision=15):
        print("norms of the rows' gradients:", norms.detach().numpy())
        print("norms of the clipped sums, by tensor:", np.array([float(each.norm()) for each in theirs]))
        print("sums of the clipped sums, by tensor:", np.array([float(each.sum()) for each in theirs]))
    print(f"largest relative difference to Opacus: {difference:.1e}")


if __name__ == "__main__":
    main()

"""Sums of clipped gradients against autograd's gradient of each row, clipped one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hierfed.methods.averaging.clipping import clipped_gradient_of, row_gradients
from hierfed.methods.averaging.network import ModuleNetwork, Network, Predictor
from hierfed.privacy.clipping import clip_rows

NODES, BATCH, FEATURES = 3, 16, 5


def own_module() -> Predictor:
    torch.manual_seed(3)
    return ModuleNetwork(nn.Sequential(nn.Linear(FEATURES, 6), nn.Tanh(), nn.GroupNorm(2, 6), nn.Linear(6, 1)))


PREDICTORS = {
    "linear": Network(FEATURES, ()),
    "one layer": Network(FEATURES, (7,)),
    "two layers": Network(FEATURES, (12, 6)),
    "own module": own_module(),
}
EVERY_PREDICTOR = pytest.mark.parametrize("predictor", PREDICTORS.values(), ids=PREDICTORS)


def batch_of(predictor: Predictor, dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Parameters, inputs, targets, and scales, which are 0 at padding; the nodes have 16, 9 and no rows."""
    random = torch.Generator().manual_seed(seed)
    parameters = predictor.initial(0).to(dtype).repeat(NODES, 1)
    parameters += 0.3 * torch.randn(parameters.shape, generator=random) * (parameters != 0)
    inputs = torch.randn(NODES, BATCH, FEATURES, generator=random).to(dtype)
    target = (5 * torch.rand(NODES, BATCH, generator=random)).to(dtype)
    scale = 2.0 * (torch.arange(BATCH)[None] < torch.tensor([16, 9, 0])[:, None]).to(dtype)
    return parameters, inputs, target, scale


def one_by_one(
    predictor: Predictor, parameters: Tensor, inputs: Tensor, target: Tensor, scale: Tensor, norm: float
) -> Tensor:
    """The sum of each row's gradient by autograd, a row at a time, clipped as in Abadi et al., algorithm 1."""
    total = torch.zeros_like(parameters)
    for node in range(len(parameters)):
        for row in range(inputs.shape[1]):
            if scale[node, row] > 0:
                place = parameters[node].clone().requires_grad_(True)
                loss = (predictor.predict(place, inputs[node, row : row + 1])[0] - target[node, row]) ** 2
                (gradient,) = torch.autograd.grad(loss, place)
                total[node] += gradient / max(1.0, float(gradient.norm()) / norm)
    return total


def summed(predictor: Predictor, batch: tuple[Tensor, Tensor, Tensor, Tensor], norm: float) -> tuple[Tensor, Tensor]:
    parameters, inputs, target, scale = batch
    gradient, errors = torch.zeros_like(parameters), torch.zeros_like(target)
    clipped_gradient_of(predictor, parameters, gradient, BATCH, norm)(inputs, target, scale, None, errors)
    return gradient, errors


@EVERY_PREDICTOR
@pytest.mark.parametrize("norm", [1e-3, 1.0, 5.0, 1e6], ids=["all clipped", "most", "some", "none"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_sums_are_those_of_rows_clipped_one_by_one(predictor, norm, dtype, tolerance):
    batch = batch_of(predictor, dtype)
    found, errors = summed(predictor, batch, norm)
    parameters, inputs, target, scale = batch
    expected = one_by_one(predictor, *(part.double() for part in batch), norm)
    assert float((found - expected).norm() / expected.norm()) <= tolerance
    assert not found[2].any(), "a node without rows has no gradient"
    filled = scale > 0
    predicted = torch.stack([predictor.predict(*pair) for pair in zip(parameters, inputs, strict=True)])
    torch.testing.assert_close(errors[filled], (predicted - target)[filled], rtol=1e-5, atol=1e-5)


@EVERY_PREDICTOR
def test_the_references_gradients_are_autograds(predictor):
    parameters, inputs, target, _ = batch_of(predictor, torch.float64)
    found, errors = row_gradients(predictor, parameters[0], inputs[0], target[0])
    for row in range(BATCH):
        only = torch.full((1, BATCH), 0.0, dtype=torch.float64)
        only[0, row] = 2
        expected = one_by_one(predictor, parameters[:1], inputs[:1], target[:1], only, 1e9)[0]
        torch.testing.assert_close(found[row], expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(errors, predictor.predict(parameters[0], inputs[0]) - target[0])


@EVERY_PREDICTOR
def test_one_row_more_moves_the_sum_by_the_clip_norm_at_most(predictor):
    parameters, inputs, target, scale = batch_of(predictor, torch.float64)
    target = target + 100
    without = scale.clone()
    without[0, 4] = 0
    moved = [summed(predictor, (parameters, inputs, target, each), 0.5)[0] for each in (scale, without)]
    assert float((moved[0] - moved[1])[0].norm()) == pytest.approx(0.5, rel=1e-9)


def test_gradients_are_those_of_opacus():
    """Values of Opacus 1.6.0, which divides by the norm + 1e-6; benchmarks/peers/opacus_peer.py prints them."""
    network = Network(4, (5, 3))
    parameters = torch.zeros(1, network.parameter_count, dtype=torch.float64)
    for number, layer in enumerate(network.layers):
        count = layer.inputs * layer.outputs
        layer.weights_of(parameters).view(-1).copy_(torch.arange(count).add(number).sin())
        layer.bias_of(parameters)[0].copy_(torch.arange(layer.outputs).add(number).cos())
    inputs = torch.arange(24).mul(0.7).cos().view(1, 6, 4).double()
    target = torch.arange(6).double()[None]
    norms = row_gradients(network, parameters[0], inputs[0], target[0])[0].norm(dim=1)
    opacus = [0.329172984690219, 5.70133814996657, 9.238630132924822]
    np.testing.assert_allclose(norms, [*opacus, 16.895013631893825, 18.071473255819036, 33.35646245980016], rtol=1e-7)
    gradient, errors = torch.zeros_like(parameters), torch.zeros_like(target)
    compute = clipped_gradient_of(network, parameters, gradient, 6, 3.0)
    compute(inputs, target, torch.full_like(target, 2), None, errors)
    tensors = network.named(gradient[0]).values()
    lengths = [2.338903395812214, 2.875946994395831, 3.252207615046318]
    lengths += [3.158179813378379, 1.925471324895574, 3.467842315234749]
    sums = [-1.058760538995624, -1.427357293806245, -6.432826683052645]
    sums += [-3.32879558605219, -1.511225317442242, -3.467842315234749]
    np.testing.assert_allclose([tensor.norm() for tensor in tensors], lengths, rtol=1e-6)
    np.testing.assert_allclose([tensor.sum() for tensor in tensors], sums, rtol=1e-6)


def test_modules_that_draw_random_numbers_are_not_followed():
    drawing = ModuleNetwork(nn.Sequential(nn.Linear(FEATURES, 4), nn.Dropout(0.5), nn.Linear(4, 1)))
    with pytest.raises(RuntimeError, match="random"):
        summed(drawing, batch_of(drawing, torch.float32), 1.0)


@given(
    rows=st.lists(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3), min_size=1, max_size=5),
    norm=st.floats(1e-6, 1e6),
)
@settings(max_examples=60, deadline=None)
def test_clipped_vectors_are_short_and_keep_their_direction(rows, norm):
    vectors = torch.tensor(rows, dtype=torch.float64)
    clipped = clip_rows(vectors, norm)
    before, after = vectors.norm(dim=1), clipped.norm(dim=1)
    assert (after <= norm * (1 + 1e-12)).all()
    torch.testing.assert_close(after, before.clamp_max(norm), rtol=1e-9, atol=0)
    short = before <= norm
    assert torch.equal(clipped[short], vectors[short])
    torch.testing.assert_close(clipped * before[:, None], vectors * after[:, None], rtol=1e-9, atol=1e-9)

"""Training on a device: the numbers of the CPU, and nothing left behind there."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from hierfed.methods.averaging.devices import DeviceTrainer
from hierfed.methods.averaging.network import ModuleNetwork, Network
from hierfed.methods.averaging.stacked import train_stacked
from hierfed.methods.averaging.threads import ThreadedTrainer
from hierfed.methods.averaging.training import LocalTraining, Streams
from tests.elsewhere import ELSEWHERE, FarTensor, elsewhere

STREAMS = Streams(11, 3, "training")
SETTINGS = LocalTraining(epochs=3, batch_size=8, learning_rate=0.01)
NETWORK, DROPOUT = Network(5, (12, 6)), Network(5, (12, 6), dropout=0.4)
MODULE = ModuleNetwork(nn.Sequential(nn.Linear(5, 4), nn.GELU(), nn.LayerNorm(4), nn.Linear(4, 1)))
UNEQUAL = (5, 24, 17, 8, 1, 24)
VARIANTS = [
    (NETWORK, SETTINGS),
    (Network(5, ()), SETTINGS),
    (DROPOUT, SETTINGS),
    (DROPOUT, replace(SETTINGS, proximal=0.3, only=DROPOUT.head)),
    (MODULE, SETTINGS),
]
NAMES = ["plain", "linear", "dropout", "proximal, head only", "module"]


@pytest.fixture
def nodes(make_node):
    return [make_node(number, rows) for number, rows in enumerate(UNEQUAL)]


def test_the_stand_in_refuses_what_a_gpu_refuses():
    here = torch.ones(3)
    with elsewhere() as device:
        there = here.to(device)
        assert there.device == device != there.cpu().device
        assert torch.equal((there + there).cpu(), here + here)
        with pytest.raises(AssertionError, match="two devices"):
            there + here
        with pytest.raises(AssertionError, match="two devices"):
            here[:2].add_(there[:2])
        with pytest.raises(RuntimeError, match="numpy"):
            there.numpy()


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize(("predictor", "training"), VARIANTS, ids=NAMES)
def test_training_elsewhere_has_the_bits_of_training_here(predictor, training, kind, nodes, features):
    start = predictor.initial(0).to(kind).expand(len(nodes), -1)
    here = train_stacked(predictor, start, features.to(kind), nodes, training, STREAMS)
    with elsewhere() as device:
        trainer = ThreadedTrainer(DeviceTrainer(train_stacked, device), threads=1, stack=4)
        there = trainer(predictor, start, features.to(kind), nodes, training, STREAMS)
    for one, other in zip(there, here, strict=True):
        assert not isinstance(one, FarTensor)
        assert torch.equal(one, other)


def test_who_listens_to_epochs_gets_parameters_in_main_memory(nodes, features):
    ended: dict[str, list[tuple[int, int, Tensor]]] = {"here": [], "there": []}

    def listener(where: str):
        return lambda row, epoch, parameters: ended[where].append((row, epoch, parameters.clone()))

    start = DROPOUT.initial(0).expand(len(nodes), -1)
    train_stacked(DROPOUT, start, features, nodes, SETTINGS, STREAMS, listener("here"))
    with elsewhere() as device:
        DeviceTrainer(train_stacked, device)(DROPOUT, start, features, nodes, SETTINGS, STREAMS, listener("there"))
    assert len(ended["there"]) == len(nodes) * SETTINGS.epochs
    for (row, epoch, parameters), (same_row, same_epoch, same) in zip(ended["there"], ended["here"], strict=True):
        assert (row, epoch) == (same_row, same_epoch)
        assert parameters.device != ELSEWHERE
        assert torch.equal(parameters, same)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("predictor", "training"), VARIANTS, ids=NAMES)
def test_a_gpu_gives_the_numbers_of_the_cpu_to_rounding(predictor, training, nodes, features):
    start, wide = predictor.initial(0).double().expand(len(nodes), -1), features.double()
    here = train_stacked(predictor, start, wide, nodes, training, STREAMS)
    there = DeviceTrainer(train_stacked, torch.device("cuda"))(predictor, start, wide, nodes, training, STREAMS)
    for one, other in zip(there, here, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)

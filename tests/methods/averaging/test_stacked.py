"""Training side by side against torch.optim.Adam node by node, and independence of company, order and threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hierfed.data.federation import Node
from hierfed.data.ratings import Ratings
from hierfed.methods.averaging import stacked
from hierfed.methods.averaging.network import ModuleNetwork, Network, Predictor, occupied
from hierfed.methods.averaging.stacked import train_stacked
from hierfed.methods.averaging.threads import ThreadedTrainer
from hierfed.methods.averaging.training import LocalTraining, Streams, make_batches
from hierfed.models.threads import one_torch_thread
from tests.reference.loop import train_loop

STREAMS = Streams(11, 3, "training")
SETTINGS = LocalTraining(epochs=3, batch_size=8, learning_rate=0.01)
UNEQUAL = (5, 24, 17, 8, 1, 24)
NETWORK = Network(5, (12, 6))
DROPOUT = Network(5, (12, 6), dropout=0.4)
MakeNode = Callable[..., Node]


def starts(predictor: Predictor, count: int) -> Tensor:
    """A start of its own for each node, so that a mix-up of rows shows."""
    shared = predictor.initial(0)
    offsets = torch.arange(1, count + 1)[:, None] / 50
    return shared + offsets * (shared != 0)


def assert_close(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def assert_same_bits(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("lengths", [(24, 24, 24), (16,), UNEQUAL], ids=["equal", "alone", "unequal"])
@pytest.mark.parametrize(
    ("predictor", "changes"),
    [
        (NETWORK, {}),
        (Network(5, ()), {}),
        (DROPOUT, {}),
        (NETWORK, {"proximal": 0.7}),
        (NETWORK, {"only": NETWORK.head}),
        (DROPOUT, {"proximal": 0.3, "only": DROPOUT.head}),
        (NETWORK, {"optimizer": "sgd", "corrections": {number: number / 9 * occupied(NETWORK) for number in range(9)}}),
    ],
    ids=["plain", "linear", "dropout", "proximal", "head only", "all at once", "sgd, corrected"],
)
def test_the_stack_trains_as_a_loop_with_autograd_and_torchs_optimizers_does(
    lengths, predictor, changes, make_node, features
):
    nodes = [make_node(number, rows) for number, rows in enumerate(lengths)]
    start, training = starts(predictor, len(nodes)), replace(SETTINGS, **changes)
    untouched = start.clone()
    side_by_side = train_stacked(predictor, start, features, nodes, training, STREAMS)
    assert_close(side_by_side, train_loop(predictor, start, features, nodes, training, STREAMS))
    assert side_by_side[1].shape == (len(nodes), 3)
    assert side_by_side[1].dtype == torch.float64
    assert torch.equal(start, untouched)
    assert not torch.equal(side_by_side[0], start)


@pytest.mark.parametrize("trainer", [train_stacked, train_loop])
def test_one_row_steps_are_adam_on_the_squared_error_by_hand(trainer):
    node = Node(0, "1", Ratings(*(np.array([k], np.int32) for k in (0, 0)), np.array([4.0], np.float32)), None)
    network, features = Network(1, ()), torch.ones(1, 1)
    start = torch.zeros(1, network.parameter_count)
    start[0, network.head.stop - 1] = 1.0
    training = LocalTraining(epochs=5, batch_size=4, learning_rate=0.1, proximal=0.5)
    trained, losses = trainer(network, start, features, [node], training, STREAMS)

    position, first, second, squares = np.array([0.0, 1.0]), np.zeros(2), np.zeros(2), []
    for step in range(1, 6):
        error = position.sum() - 4
        squares.append(error**2)
        gradient = 2 * error + 0.5 * (position - [0, 1])
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        position = position - 0.1 * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    weight, bias = (tensor.item() for tensor in network.named(trained[0]).values())
    np.testing.assert_allclose([weight, bias], position, rtol=1e-5)
    np.testing.assert_allclose(losses[0], squares, rtol=1e-5)


@pytest.mark.parametrize("trainer", [train_stacked, train_loop])
def test_losses_of_a_model_that_does_not_move_are_its_mean_squared_errors(trainer, make_node, features):
    nodes = [make_node(number, rows) for number, rows in enumerate(UNEQUAL)]
    start = starts(NETWORK, len(nodes))
    training = LocalTraining(epochs=2, batch_size=8, learning_rate=1e-12)
    _, losses = trainer(NETWORK, start, features, nodes, training, STREAMS)
    for row, node in enumerate(nodes):
        error = NETWORK.predict(start[row], features).numpy()[node.train.item] - node.train.value
        np.testing.assert_allclose(losses[row], np.full(2, np.mean(error.astype(np.float64) ** 2)), rtol=1e-5)


@pytest.mark.parametrize("trainer", [train_stacked, train_loop])
@pytest.mark.parametrize("network", [NETWORK, DROPOUT], ids=["plain", "dropout"])
def test_training_the_head_only_leaves_every_other_parameter_as_it_was(trainer, network, make_node, features):
    nodes = [make_node(number, rows) for number, rows in enumerate(UNEQUAL)]
    start = starts(network, len(nodes))
    trained, _ = trainer(network, start, features, nodes, replace(SETTINGS, only=network.head), STREAMS)
    moved = (trained != start).any(0)
    assert torch.equal(trained[:, : network.head.start], start[:, : network.head.start])
    assert moved[network.layers[-1].weight].all()
    assert moved[network.layers[-1].bias].all()


@settings(max_examples=25, deadline=None)
@given(
    company=st.permutations(range(len(UNEQUAL))).flatmap(
        lambda order: st.integers(1, len(order)).map(lambda count: order[:count])
    ),
    network=st.sampled_from([NETWORK, DROPOUT, Network(5, ()), Network(5, (33, 7, 3))]),
)
def test_a_node_becomes_the_same_alone_in_any_company_and_in_any_order(company, network, make_node, features):
    start = starts(network, len(UNEQUAL))
    nodes = [make_node(number, UNEQUAL[number]) for number in company]
    parameters, losses = train_stacked(network, start[torch.tensor(company)], features, nodes, SETTINGS, STREAMS)
    for row, number in enumerate(company):
        alone = train_stacked(network, start[number, None], features, [nodes[row]], SETTINGS, STREAMS)
        assert_same_bits((parameters[row, None], losses[row, None]), alone)


@pytest.mark.parametrize(
    ("hidden", "dropout", "batch_size"),
    [((128, 64, 32), 0.5, 32), ((64, 32), 0.0, 64), ((1, 28), 0.0, 16)],
    ids=["paper", "network", "a layer of one unit"],
)
def test_a_node_becomes_the_same_in_any_company_at_the_presets_sizes_and_at_the_narrowest(
    hidden, dropout, batch_size, make_node
):
    network = Network(24, hidden, dropout)
    features = torch.randn(23, 24, generator=torch.Generator().manual_seed(0))
    nodes = [make_node(number, rows) for number, rows in enumerate((90, 200, 133, 199))]
    training = LocalTraining(epochs=1, batch_size=batch_size, learning_rate=0.01)
    start = starts(network, len(nodes))
    parameters, losses = train_stacked(network, start, features, nodes, training, STREAMS)
    for row, node in enumerate(nodes):
        alone = train_stacked(network, start[row, None], features, [node], training, STREAMS)
        assert_same_bits((parameters[row, None], losses[row, None]), alone)


def test_masks_drawn_for_a_few_steps_at_a_time_are_those_drawn_at_once(make_node, features, monkeypatch):
    nodes = [make_node(number, rows) for number, rows in enumerate(UNEQUAL)]
    arguments = (DROPOUT, starts(DROPOUT, len(nodes)), features, nodes, SETTINGS, STREAMS)
    monkeypatch.setattr(stacked, "MASK_VALUES", 2**24)
    at_once = train_stacked(*arguments)
    for steps in (1, 2, 5):
        monkeypatch.setattr(stacked, "MASK_VALUES", steps * 8 * DROPOUT.mask_units * len(nodes))
        assert_same_bits(train_stacked(*arguments), at_once)


@pytest.mark.parametrize("threads", [1, 2, 3, 50])
@pytest.mark.parametrize("trainer", [train_stacked, train_loop])
def test_the_number_of_threads_changes_nothing(trainer, threads, make_node, features):
    nodes = [make_node(number, rows) for number, rows in enumerate(UNEQUAL)]
    arguments = (DROPOUT, starts(DROPOUT, len(nodes)), features, nodes, SETTINGS, STREAMS)
    assert_same_bits(ThreadedTrainer(trainer, threads)(*arguments), trainer(*arguments))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 500), min_size=1, max_size=12), st.integers(1, 5))
def test_threads_share_the_nodes_by_falling_size_and_about_equally(lengths, threads):
    chunks: list[list[int]] = []

    def record(
        _predictor: Predictor, start: Tensor, _features: Tensor, nodes: Sequence[Node], *_: object
    ) -> tuple[Tensor, Tensor]:
        assert start[:, 0].tolist() == [node.number for node in nodes]
        chunks.append([node.number for node in nodes])
        return start + 1, start[:, :1].double()

    rows = [Ratings(*(np.zeros(length, np.int32),) * 2, np.zeros(length, np.float32)) for length in lengths]
    nodes = [Node(number, "", train, train) for number, train in enumerate(rows)]
    start = torch.arange(len(nodes)).float()[:, None].expand(-1, NETWORK.parameter_count)
    trained, losses = ThreadedTrainer(record, threads)(NETWORK, start, torch.zeros(1), nodes, SETTINGS, STREAMS)
    assert torch.equal(trained, start + 1)
    assert losses[:, 0].tolist() == list(range(len(nodes)))
    for chunk in chunks if len(chunks) > 1 else []:
        sizes = [lengths[number] for number in chunk]
        assert sizes == sorted(sizes, reverse=True)
    assert sorted(number for chunk in chunks for number in chunk) == list(range(len(nodes)))
    assert len(chunks) <= threads
    shares = [sum(lengths[number] for number in chunk) for chunk in chunks]
    assert max(shares) <= sum(lengths) / threads + max(lengths)


def test_nodes_that_have_finished_do_not_move_while_others_go_on(make_node, features):
    nodes = [make_node(number, rows) for number, rows in enumerate(UNEQUAL)]
    last: dict[int, Tensor] = {}

    def remember(row: int, _epoch: int, parameters: Tensor) -> None:
        last[row] = parameters.clone()

    trained, _ = train_stacked(NETWORK, starts(NETWORK, len(nodes)), features, nodes, SETTINGS, STREAMS, remember)
    assert torch.equal(trained, torch.stack([last[row] for row in range(len(nodes))]))


@pytest.mark.parametrize("lengths", [(24,), (24, 17), UNEQUAL], ids=["alone", "two", "many"])
@pytest.mark.parametrize(
    "trainer",
    [train_stacked, train_loop, ThreadedTrainer(train_stacked, 2), ThreadedTrainer(train_loop, 3)],
    ids=["stacked", "loop", "stacked on two threads", "loop on three"],
)
def test_each_epochs_end_is_told_once_with_the_parameters_of_that_time(trainer, lengths, make_node, features):
    nodes = [make_node(number, rows) for number, rows in enumerate(lengths)]
    start = starts(DROPOUT, len(nodes))
    told: list[tuple[int, int, Tensor]] = []
    training = replace(SETTINGS, proximal=0.2)
    final, _ = trainer(
        DROPOUT,
        start,
        features,
        nodes,
        training,
        STREAMS,
        lambda row, epoch, now: told.append((row, epoch, now.clone())),
    )
    assert sorted((row, epoch) for row, epoch, _ in told) == [(row, e) for row in range(len(nodes)) for e in range(3)]
    for epochs in (1, 2, 3):
        shorter, _ = trainer(DROPOUT, start, features, nodes, replace(training, epochs=epochs), STREAMS)
        for row, epoch, parameters in told:
            assert epoch != epochs - 1 or torch.equal(parameters, shorter[row])
    assert torch.equal(final, shorter)


def test_modules_side_by_side_train_as_in_the_loop(make_node, features):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 1))
    network = ModuleNetwork(module)
    nodes = [make_node(number, rows) for number, rows in enumerate(UNEQUAL)]
    start = network.initial(0) + torch.arange(len(nodes))[:, None] / 100
    for changes in ({}, {"proximal": 0.5}, {"only": network.head}):
        arguments = (network, start, features, nodes, replace(SETTINGS, **changes), STREAMS)
        assert_close(train_stacked(*arguments), train_loop(*arguments))


@pytest.mark.parametrize("trainer", [train_stacked, train_loop, ThreadedTrainer(train_stacked, 2)])
def test_modules_with_dropout_repeat_and_leave_torchs_generator_alone(trainer, make_node, features):
    network = ModuleNetwork(nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.5), nn.Linear(8, 1)))
    nodes = [make_node(number, rows) for number, rows in enumerate((9, 9))]
    arguments = (network, network.initial(0).repeat(2, 1), features, nodes, SETTINGS)
    state = torch.random.get_rng_state()
    first = trainer(*arguments, STREAMS)
    assert torch.equal(state, torch.random.get_rng_state())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        assert_same_bits(trainer(*arguments, STREAMS), first)
        assert not torch.equal(trainer(*arguments, replace(STREAMS, round_number=9))[0], first[0])


def test_dropout_masks_are_those_of_the_node_the_round_and_the_seed(make_node, features):
    # Batches of all rows, so that the order of rows cannot make the difference.
    node, start = make_node(0, 12), starts(DROPOUT, 1)
    training = replace(SETTINGS, batch_size=12, epochs=1)
    one = train_stacked(DROPOUT, start, features, [node], training, STREAMS)
    for other in (replace(STREAMS, seed=12), replace(STREAMS, round_number=4), replace(STREAMS, purpose="tuning")):
        assert not torch.allclose(
            train_stacked(DROPOUT, start, features, [node], training, other)[0], one[0], atol=1e-4
        )
    elsewhere = replace(node, number=5)
    assert not torch.allclose(
        train_stacked(DROPOUT, start, features, [elsewhere], training, STREAMS)[0], one[0], atol=1e-4
    )


def rows_in_order(lengths: Sequence[int]) -> list[Node]:
    """Nodes whose row r has item r and value r, so that rows can be told apart."""
    rows = [np.arange(length) for length in lengths]
    trains = [Ratings(row.astype(np.int32), row.astype(np.int32), row.astype(np.float32)) for row in rows]
    return [Node(number, "", train, train) for number, train in enumerate(trains)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(1, 12), st.integers(1, 3))
def test_an_epochs_batches_hold_each_row_exactly_once(lengths, batch_size, epochs):
    training = LocalTraining(epochs, batch_size, 0.1)
    batches = make_batches(rows_in_order(lengths), training, STREAMS)
    for node, length in enumerate(lengths):
        steps = -(-length // batch_size)
        assert batches.steps_per_epoch[node] == steps
        assert not batches.scale[steps * epochs :, node].any()
        for epoch in range(epochs):
            place = slice(epoch * steps, (epoch + 1) * steps)
            item, target, scale = (part[place, node] for part in (batches.item, batches.target, batches.scale))
            filled = scale > 0
            assert sorted(item[filled].tolist()) == list(range(length))
            assert torch.equal(item[filled].float(), target[filled])
            sizes = [batch_size] * (length // batch_size) + [length % batch_size] * (length % batch_size > 0)
            assert filled.sum(1).tolist() == sizes
            for row, size in zip(scale, sizes, strict=True):
                assert set(row[row > 0].tolist()) == {2 / size}


def test_each_epoch_and_each_node_has_an_order_of_its_own():
    batches = make_batches(rows_in_order((30, 30)), LocalTraining(2, 30, 0.1), STREAMS)
    orders = {tuple(batches.item[step, node].tolist()) for step in range(2) for node in range(2)}
    assert len(orders) == 4


def test_torch_gets_its_threads_back_after_the_block_even_when_it_fails():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(RuntimeError, match="inside"), one_torch_thread():
            assert torch.get_num_threads() == 1
            raise RuntimeError("inside")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("inputs", "hidden", "batch", "lengths"),
    [
        (18, (11,), 43, (200, 201, 202, 203)),
        (7, (11, 58, 40), 51, (142, 184, 186, 37)),
        (20, (137, 70), 3, (52, 135, 72)),
    ],
)
def test_a_node_is_the_same_in_any_company_for_any_batch_size_and_width(make_node, inputs, hidden, batch, lengths):
    network = Network(inputs, hidden)
    features = torch.randn(50, inputs, generator=torch.Generator().manual_seed(0))
    nodes = [make_node(number, rows) for number, rows in enumerate(lengths)]
    start, training = network.initial(0).expand(len(nodes), -1), LocalTraining(2, batch, 0.01)
    together, _ = train_stacked(network, start, features, nodes, training, Streams(1, 1, "training"))
    threaded, _ = ThreadedTrainer(train_stacked, 2)(
        network, start, features, nodes, training, Streams(1, 1, "training")
    )
    for row, each in enumerate(nodes):
        alone, _ = train_stacked(network, start[:1], features, [each], training, Streams(1, 1, "training"))
        assert torch.equal(alone[0], together[row])
    assert torch.equal(threaded, together)

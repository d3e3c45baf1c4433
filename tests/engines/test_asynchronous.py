"""Asynchronous rounds: orders, times and totals by hand; the synchronous model where every node is waited for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

from hierfed.data.federation import Node
from hierfed.engines.asynchronous import run_asynchronous
from hierfed.engines.in_process import FinishedRound, run_rounds
from hierfed.engines.rounds import Lateness, Round
from hierfed.errors import HierfedError
from hierfed.federated.contract import Contribution, SharedModel, ordered_sum
from hierfed.federated.deflate import Deflate
from hierfed.federated.private import PrivateState
from hierfed.federated.recorded import RecordedStep
from hierfed.federated.speeds import SLOW, Asked, Speed, constant, lognormal, one_slow, sleeping
from hierfed.methods.item_biases.item_biases import ItemBiases
from hierfed.observer import Observer


@dataclass
class Reading:
    """Nodes send (their number + 1) + 10 x the round that they answer; the model is the total of the last step."""

    totals: list[float] = field(default_factory=list)

    def start(self) -> SharedModel:
        return SharedModel({"seen": torch.zeros(1)})

    def contribute(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> Iterator[tuple[Contribution, None]]:
        for node in nodes:
            sent = torch.tensor([node.number + 1.0 + 10 * shared.round], dtype=torch.float64)
            yield Contribution({"sum": sent, "weight": torch.ones(1, dtype=torch.float64)}), None

    def combine(self, shared: SharedModel, total: Contribution) -> SharedModel:
        self.totals.append(float(total.arrays["sum"]))
        return SharedModel({"seen": total.arrays["sum"].float()}, shared.round + 1)


class Order(Observer):
    """Keeps the nodes of each step in the order of their answers."""

    def __init__(self) -> None:
        self.numbers: list[list[int]] = []

    def summed(self, stage: str, total: Contribution, shared: SharedModel, numbers: np.ndarray) -> None:
        self.numbers.append(numbers.tolist())


def last_slow(asked: Asked) -> float:
    """Node 2 takes 2.5, node 1 takes 1.1 and node 0 takes 1."""
    return (1.0, 1.1, 2.5)[asked.node]


def late(answers: int, speed: Speed = last_slow, **changes) -> Round:
    return Round(mode="async", lateness=Lateness(answers, speed, **changes))


def nearly_alike(asked: Asked) -> float:
    """Nobody takes twice as long as another one."""
    return (1.0, 1.1, 1.9)[asked.node]


@pytest.fixture
def nodes(make_node) -> list[Node]:
    return [make_node(number, 5 + 4 * number) for number in range(3)]


def test_last_sums_replace_former_ones_in_the_order_of_their_answers(nodes):
    method, order, told = Reading(), Order(), list[FinishedRound]()
    run_asynchronous(method, nodes, 4, told.append, late(2), order)
    # The first step waits for all, until 2.5. Nodes 0 and 1 then answer at 3.5 and 3.6, 4.6 and 4.7. Node 2 answers at
    # 5, and node 0, which was given its model at 4.7, at 5.7.
    assert order.numbers == [[0, 1, 2], [0, 1], [0, 1], [2, 0]]
    assert [finished.clock for finished in told] == pytest.approx([2.5, 3.6, 4.7, 5.7])
    # All answer round 1; then 0 and 1 do, beside the last sum of 2, which is 3 until it answers the model of step 1.
    assert method.totals == [1 + 2 + 3, 11 + 12 + 3, 21 + 22 + 3, 31 + 22 + 13]
    assert [finished.rows for finished in told] == [5 + 9 + 13, 5 + 9, 5 + 9, 13 + 5]


def test_averaged_arrays_are_weighed_by_staleness_and_their_weights_are_not(nodes):
    method, order, told = Reading(), Order(), list[FinishedRound]()
    run_asynchronous(method, nodes, 3, told.append, late(2, averaged=frozenset({"sum"}), staleness=0.5), order)
    # Nobody is waited for: 0 and 1 answer at 1 and 1.1, then at 2.1 and 2.2; 2 at 2.5 answers a model 2 steps old.
    assert order.numbers == [[0, 1], [0, 1], [2, 0]]
    assert method.totals == pytest.approx([1 + 2, 11 + 12, 21 + 3 / np.sqrt(3)])
    assert [float(finished.total.arrays["weight"]) for finished in told] == [2, 2, 2]


def test_one_answer_a_step_is_a_step_for_each_answer(nodes):
    order = Order()
    run_asynchronous(Reading(), nodes, 6, how=late(1, averaged=frozenset({"sum"})), observer=order)
    # Times: 0 at 1, 1 at 1.1, 0 at 2, 1 at 2.2, 2 at 2.5, 0 at 3.
    assert order.numbers == [[0], [1], [0], [1], [2], [0]]


def test_a_recorded_order_takes_out_who_is_refused_and_begins_anew_after_a_round_without_a_sum(nodes):
    a, b, c = (node.name for node in nodes)
    steps = [
        RecordedStep((a, b, c)),
        RecordedStep((b,)),
        RecordedStep((), ("the sum itself",), summed=False),
        RecordedStep((c, a)),
        RecordedStep((a,), (b, a)),
        RecordedStep((b,), (c,)),
    ]
    method, order = Reading(), Order()
    run_asynchronous(method, nodes, 5, how=late(2).in_order(lambda: steps), observer=order)
    assert order.numbers == [[0, 1, 2], [1], [2, 0], [0], [1]]
    # After round 2 nobody's sum is kept. b, who is refused in step 4, has sent nothing since, and answers its model.
    # The sum of c is taken out in the end.
    assert method.totals == [1 + 2 + 3, 1 + 12 + 3, 21 + 23, 31 + 23, 31 + 42]


def test_a_recorded_order_of_other_nodes_or_fewer_steps_is_refused(nodes):
    with pytest.raises(HierfedError, match="names a node 'x', which this run has not"):
        run_asynchronous(Reading(), nodes, 1, how=late(2).in_order(lambda: [RecordedStep(("x",))]))
    with pytest.raises(HierfedError, match="fewer rounds than this run"):
        run_asynchronous(Reading(), nodes, 1, how=late(2).in_order(list))


def test_who_is_not_asynchronous_asks_for_no_order():
    assert Round().in_order(lambda: pytest.fail("asked")) == Round()


@pytest.mark.parametrize("speed", [constant, lognormal, last_slow, sleeping])
def test_where_all_are_waited_for_the_model_is_the_synchronous_one_to_the_bit(
    speed, make_content, make_pairs, make_factors, divide_users
):
    method = make_factors(make_content(15), momentum=0.85)
    nodes = divide_users(make_pairs(12, 15, seed=1), [user % 3 for user in range(12)])
    wanted = run_rounds(method, nodes, 4)
    found = run_asynchronous(method, nodes, 4, how=Round(mode="async", lateness=Lateness(3, speed)))
    assert found.shared.digest() == wanted.shared.digest()


def test_replaced_sums_have_the_fixed_point_of_synchronous_rounds(make_content, make_pairs, make_factors, divide_users):
    """Old sums are no bias: rounds at rest stay at rest, whoever answers."""
    method = make_factors(make_content(15), kernel=None)
    nodes = divide_users(make_pairs(12, 15, seed=1), [user % 3 for user in range(12)])
    rest = run_rounds(method, nodes, 600).shared.arrays
    found = run_asynchronous(method, nodes, 1500, how=late(1, nearly_alike)).shared.arrays
    for name in ("item_mean", "covariate_weights"):
        torch.testing.assert_close(found[name], rest[name], rtol=1e-3, atol=1e-3)


def test_the_offset_of_rare_items_does_not_swing(make_content, make_pairs, make_factors, divide_users):
    """Pulls from an old offset, added again and again to newer ones, would bring it to 3.6 here."""
    method = make_factors(make_content(60), kernel=None, threshold=10)
    nodes = divide_users(make_pairs(60, 60, seed=1), [user % 6 for user in range(60)])
    wanted = float(run_rounds(method, nodes, 5).shared.arrays["rare_offset"])
    how = Round(mode="async", lateness=Lateness(1, constant))
    found = float(run_asynchronous(method, nodes, 30, how=how).shared.arrays["rare_offset"])
    assert abs(wanted) > 0.1
    assert found == pytest.approx(wanted, abs=0.5 * abs(wanted))


def test_the_basis_of_the_embedding_is_turned_without_the_slow_node_and_all_else_is_of_everybody(
    make_content, make_pairs, make_factors, divide_users
):
    """The opening rounds by hand, and the time of each; node 2 takes 2.5 times as long as the first."""
    method = make_factors(make_content(15), embedding_rounds=3)
    nodes = divide_users(make_pairs(12, 15, seed=1), [user % 3 for user in range(12)])
    shared, private = method.start(), [None] * 3
    while shared.round < 1:
        turns = -5 < shared.round < -1
        given = list(method.contribute(shared, nodes[:2] if turns else nodes, private[:2] if turns else private))
        private = [state for _, state in given] + private[2:] if turns else [state for _, state in given]
        shared = method.combine(shared, ordered_sum(sums for sums, _ in given))
    order, told = Order(), list[FinishedRound]()
    found = run_asynchronous(method, nodes, 1, told.append, late(1), order).shared
    assert order.numbers == [[0, 1, 2], [0, 1], [0, 1], [0, 1], [0, 1, 2], [0, 1, 2]]
    assert found.digest() == shared.digest()
    # Counts 2.5, three products of 1.1 each, the implicit round and the first one of ratings 2.5 each.
    assert told[0].clock == pytest.approx(2.5 + 3 * 1.1 + 2.5 + 2.5)


@pytest.mark.parametrize(
    ("times", "answers", "wanted"),
    [
        ([1, 1, 1, 10], 1, [0, 1, 2]),
        ([1, 1, 1, 10], 4, [0, 1, 2, 3]),
        ([1, 2, 3, 4.1], 1, [0, 1, 2]),
        ([10, 10, 1, 1], 1, [2, 3]),
        ([3, 1], 1, [1]),
        ([5], 1, [0]),
        ([], 1, []),
    ],
)
def test_half_of_the_nodes_and_those_at_most_twice_as_slow_are_in_time(times, answers, wanted):
    assert Lateness(answers).in_time(dict(enumerate(times))) == wanted


def test_short_times_say_nothing_of_a_node():
    assert Lateness(1).in_time({"a": 0.1, "b": 0.9, "c": 9.0}, 3.0) == ["a", "b"]


def test_sums_of_item_biases_do_not_depend_on_lateness(nodes):
    method = ItemBiases(23, 1, (0.5, 5.0))
    wanted = run_rounds(method, nodes, 1).shared
    assert run_asynchronous(method, nodes, 3, how=late(1)).shared.digest() == replace(wanted, round=3).digest()


def test_deflated_answers_to_old_models_arrive_whole_and_are_counted_as_sent(nodes):
    method, plain, told = ItemBiases(23, 1, (0.5, 5.0)), list[FinishedRound](), list[FinishedRound]()
    wanted = run_asynchronous(method, nodes, 3, plain.append, late(1))
    found = run_asynchronous(method, nodes, 3, told.append, replace(late(1), steps=(Deflate(),)))
    assert found.shared.digest() == wanted.shared.digest()
    assert [each.bytes_up for each in plain][1:] == [23 * 8, 23 * 8]
    assert all(small.bytes_up != whole.bytes_up for small, whole in zip(told, plain, strict=True))


def test_bytes_down_are_those_of_the_models_that_are_given(nodes):
    told: list[FinishedRound] = []
    run_asynchronous(Reading(), nodes, 4, told.append, late(2))
    # One float32 to all three, then to those whose answers were in the step before.
    assert [finished.bytes_down for finished in told] == [3 * 4, 3 * 4, 2 * 4, 2 * 4]
    assert ordered_sum(finished.total for finished in told).arrays["weight"].item() == 3 * 4


def test_a_training_can_be_ended_after_a_step(nodes):
    class Ends(Observer):
        def should_continue(self) -> bool:
            return False

    assert run_asynchronous(Reading(), nodes, 4, how=late(2), observer=Ends()).shared.round == 1


@pytest.mark.parametrize("speed", [constant, lognormal, one_slow, sleeping])
def test_times_depend_on_seed_node_and_answer_alone(speed):
    drawn = [[speed(Asked(3, answer, node, 8)) for node in range(8)] for answer in range(40)]
    assert drawn == [[speed(Asked(3, answer, node, 8)) for node in range(8)] for answer in range(40)]
    assert min(map(min, drawn)) > 0


def test_one_node_is_slow_and_stays_so():
    for seed in range(5):
        times = [[one_slow(Asked(seed, answer, node, 8)) for node in range(8)] for answer in range(3)]
        assert sorted(times[0]) == [1.0] * 7 + [SLOW]
        assert times[1:] == [times[0], times[0]]


def test_random_times_have_their_laws():
    times = np.array([[lognormal(Asked(1, answer, node, 300)) for node in range(300)] for answer in range(9)])
    logs = np.log(times)
    assert abs(logs.mean()) < 0.1
    assert logs.mean(0).std() == pytest.approx(np.hypot(0.5, 0.25 / 3), rel=0.15)
    assert (logs - logs.mean(0)).std() == pytest.approx(0.25 * np.sqrt(8 / 9), rel=0.1)
    slept = np.array([sleeping(Asked(1, answer, node, 50)) for answer in range(60) for node in range(50)]) - 1
    assert (slept > 0).mean() == pytest.approx(0.2, abs=0.03)
    assert slept[slept > 0].mean() == pytest.approx(SLOW, rel=0.15)

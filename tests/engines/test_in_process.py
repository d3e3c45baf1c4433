"""Rounds in one process: their number, their order, and their bytes counted by hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from hierfed.data.federation import Node, Nodes, make_nodes
from hierfed.engines.in_process import FinishedRound, run_rounds
from hierfed.engines.rounds import Round
from hierfed.federated.checks import Check
from hierfed.federated.contract import Contribution, OnDone, SharedModel, ignore_share, ordered_sum
from hierfed.federated.participation import Participation
from hierfed.federated.private import PrivateState
from hierfed.federated.rules import OPEN_SUM, Summed
from hierfed.federated.steps import Known, Step
from hierfed.methods.averaging.averaging import FederatedAveraging
from hierfed.methods.averaging.network import Network
from hierfed.methods.averaging.node_level import NodePersonalisation
from hierfed.methods.averaging.stacked import train_stacked
from hierfed.methods.averaging.training import LocalTraining
from hierfed.methods.averaging.user_level import UserPersonalisation
from hierfed.observer import Observer


@dataclass(frozen=True)
class Notes(PrivateState):
    """What a node keeps here: its own number, and the rounds it has taken part in."""

    node: int
    rounds: tuple[int, ...]


@dataclass
class Counting:
    """A model of one number, to which each round adds the nodes' numbers; it notes calls, and nodes their rounds."""

    opening_rounds: int = 0
    calls: list[tuple[str, int]] = field(default_factory=list)

    def start(self) -> SharedModel:
        self.calls.append(("start", 0))
        return SharedModel({"number": torch.zeros(1)}, round=-self.opening_rounds)

    def contribute(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> Iterator[tuple[Contribution, Notes]]:
        self.calls.append(("contribute", shared.round + 1))
        for node, notes in zip(nodes, private, strict=True):
            # Opening rounds send two numbers a node, others three.
            sent = torch.full((2 + (shared.round >= 0),), node.number + 1.0, dtype=torch.float64)
            known = () if notes is None else notes.rounds
            yield Contribution({"sum": sent}), Notes(node.number, (*known, shared.round + 1))

    def checks(self, shared: SharedModel) -> tuple[Check, ...]:
        return ()

    def combine(self, shared: SharedModel, total: Contribution) -> SharedModel:
        self.calls.append(("combine", shared.round))
        number = shared.arrays["number"] + total.arrays["sum"][0].float()
        return SharedModel({"number": number}, shared.round + 1)


@dataclass
class PooledCounting(Counting):
    """The same, which also adds many nodes up at once; pooled: the numbers of the nodes of each such call."""

    pooled: list[list[int]] = field(default_factory=list)

    def contribute_pooled(
        self,
        shared: SharedModel,
        nodes: Nodes,
        private: Sequence[PrivateState | None],
        on_done: OnDone = ignore_share,
    ) -> tuple[Contribution, Sequence[PrivateState | None]]:
        self.pooled.append(nodes.numbers.tolist())
        kept = list(private)
        pairs = list(self.contribute(shared, nodes, [private[number] for number in nodes.numbers]))
        for number, (_, state) in zip(nodes.numbers, pairs, strict=True):
            kept[number] = state
        on_done(1.0)
        return ordered_sum(sent for sent, _ in pairs), kept


@pytest.fixture
def nodes(make_node) -> list[Node]:
    return [make_node(number, 5 + 4 * number) for number in range(3)]


def test_each_round_sums_the_nodes_and_is_reported_once_in_order(nodes):
    method, told = Counting(), []
    trained = run_rounds(method, nodes, 4, told.append)
    assert [finished.number for finished in told] == [1, 2, 3, 4]
    assert [finished.shared.round for finished in told] == [1, 2, 3, 4]
    # Nodes send 1, 2 and 3, so every round adds 6.
    assert [finished.shared.arrays["number"].item() for finished in told] == [6, 12, 18, 24]
    assert [finished.total.arrays["sum"].tolist() for finished in told] == [[6.0, 6.0, 6.0]] * 4
    assert all(finished.seconds >= 0 for finished in told)
    assert trained.shared is told[-1].shared
    rounds = [[("contribute", number), ("combine", number - 1)] for number in (1, 2, 3, 4)]
    assert method.calls == [("start", 0), *(call for calls in rounds for call in calls)]


def test_each_node_gets_back_what_it_kept(nodes):
    trained = run_rounds(Counting(opening_rounds=2), nodes, 3)
    assert trained.private == [Notes(number, (-1, 0, 1, 2, 3)) for number in range(3)]


def test_a_round_is_reported_before_the_next_begins(nodes):
    method = Counting()
    seen: list[int] = []

    def on_round(finished: FinishedRound) -> None:
        assert method.calls[-1] == ("combine", finished.number - 1)
        seen.append(len(method.calls))

    run_rounds(method, nodes, 3, on_round)
    assert seen == [3, 5, 7]


def test_bytes_are_those_of_all_nodes_contributions_and_of_the_model_to_all_nodes(nodes):
    told: list[FinishedRound] = []
    run_rounds(Counting(), nodes, 3, told.append)
    # Three nodes send three float64; each gets one float32.
    assert [finished.bytes_up for finished in told] == [3 * 3 * 8] * 3
    assert [finished.bytes_down for finished in told] == [3 * 4] * 3


def test_opening_rounds_are_run_first_not_reported_and_their_bytes_go_to_round_one(nodes):
    method, told = Counting(opening_rounds=1), []
    run_rounds(method, nodes, 2, told.append)
    assert method.calls[:3] == [("start", 0), ("contribute", 0), ("combine", -1)]
    assert [finished.number for finished in told] == [1, 2]
    assert [finished.bytes_up for finished in told] == [3 * (2 + 3) * 8, 3 * 3 * 8]
    assert [finished.shared.arrays["number"].item() for finished in told] == [12, 18]


@pytest.fixture
def many(make_ratings) -> Nodes:
    """Five nodes of views."""
    rows = make_ratings(40)
    return make_nodes(rows, np.arange(40) % 5, rows.between(0, 0), np.empty(0, np.int64), 5)


@pytest.mark.parametrize("pooled_from", [5, 6])
@pytest.mark.parametrize("opening_rounds", [0, 2])
def test_sums_states_and_bytes_are_those_of_who_takes_part(many, monkeypatch, opening_rounds, pooled_from):
    """Whoever is absent keeps what it kept, and nothing is sent to or by it; but opening rounds are of everybody."""
    monkeypatch.setattr("hierfed.engines.in_process.POOLED_FROM", pooled_from)
    told, taking_part = list[FinishedRound](), Participation(2, seed=4)
    method = PooledCounting(opening_rounds)
    trained = run_rounds(method, many, 3, told.append, how=Round(participation=taking_part))
    present = {number: taking_part.places(number, 5).tolist() for number in range(1 - opening_rounds, 4)}
    assert [len(each) for each in present.values()] == [5] * opening_rounds + [2] * 3
    assert len(method.pooled) == (3 + opening_rounds if pooled_from == 5 else 0)
    for finished in told:
        assert finished.total.arrays["sum"].tolist() == [sum(place + 1 for place in present[finished.number])] * 3
    rounds = [tuple(number for number, places in present.items() if node in places) for node in range(5)]
    assert list(trained.private) == [Notes(node, each) if each else None for node, each in enumerate(rounds)]
    if not opening_rounds:
        assert None in trained.private
    opening_up, opening_down = opening_rounds * 5 * 2 * 8, opening_rounds * 5 * 4
    assert [finished.bytes_up for finished in told] == [opening_up + 2 * 3 * 8, 2 * 3 * 8, 2 * 3 * 8]
    assert [finished.bytes_down for finished in told] == [opening_down + 2 * 4, 2 * 4, 2 * 4]


def counted(contributions: Iterable[tuple[int, Contribution]]) -> Summed:
    """Another rule than the open sum."""
    return OPEN_SUM(contributions)


def test_nodes_are_pooled_where_they_are_many_and_their_sum_is_open(many, monkeypatch):
    monkeypatch.setattr("hierfed.engines.in_process.POOLED_FROM", 5)
    method = PooledCounting()
    expected = run_rounds(method, list(many), 2).shared.digest()
    run_rounds(method, many, 2, how=Round(counted))
    monkeypatch.setattr("hierfed.engines.in_process.POOLED_FROM", 6)
    run_rounds(method, many, 2)
    assert method.pooled == []
    monkeypatch.setattr("hierfed.engines.in_process.POOLED_FROM", 5)
    assert run_rounds(method, many, 2).shared.digest() == expected
    assert method.pooled == [list(range(5))] * 2
    few = Participation(0.2)
    run_rounds(method, many, 1, how=Round(participation=few))
    assert method.pooled[2:] == [few.places(1, 5).tolist()]
    assert run_rounds(Counting(), many, 2).shared.digest() == expected


@pytest.mark.parametrize("places", [[1, 3, 4], [4, 3, 2, 1, 0]])
def test_what_is_kept_is_in_the_order_of_the_nodes_whichever_these_are(many, monkeypatch, places):
    monkeypatch.setattr("hierfed.engines.in_process.POOLED_FROM", 2)
    trained = run_rounds(PooledCounting(), many.take(np.array(places)), 2)
    assert list(trained.private) == [Notes(number, (1, 2)) for number in places]
    assert trained.shared.arrays["number"].item() == 2 * sum(place + 1 for place in places)


def test_an_observed_method_is_pooled_as_it_is_without_an_observer(many, monkeypatch):
    monkeypatch.setattr("hierfed.engines.in_process.POOLED_FROM", 2)
    sums: list[tuple[str, float, int, list[int]]] = []

    class Noting(Observer):
        def summed(self, stage: str, total: Contribution, shared: SharedModel, numbers: np.ndarray) -> None:
            sums.append((stage, float(total.arrays["sum"][0]), shared.round, numbers.tolist()))

    for method, pooled in ((Counting(), False), (PooledCounting(), True)):
        sums.clear()
        run_rounds(method, many, 2, observer=Noting(), stage="ease")
        assert sums == [("ease", 15.0, number, [0, 1, 2, 3, 4]) for number in (1, 2)]
        assert bool(getattr(method, "pooled", [])) == pooled


@pytest.mark.parametrize("method", [Counting(), PooledCounting()], ids=["one by one", "pooled"])
def test_an_observer_is_told_the_numbers_of_those_whose_contributions_are_in_the_sum(method, many, monkeypatch):
    monkeypatch.setattr("hierfed.engines.in_process.POOLED_FROM", 2)
    told = dict[int, list[int]]()

    class Noting(Observer):
        def summed(self, stage: str, total: Contribution, shared: SharedModel, numbers: np.ndarray) -> None:
            told[shared.round] = numbers.tolist()
            assert total.arrays["sum"][0] == sum(number + 1 for number in told[shared.round])

    run_rounds(method, many, 6, how=Round(participation=Participation(2, seed=4)), observer=Noting())
    assert [len(numbers) for numbers in told.values()] == [2] * 6
    assert len(set(map(tuple, told.values()))) > 1


@pytest.mark.parametrize("start_at_mean", [False, True])
def test_federated_averaging_sends_its_parameters_down_and_change_rows_and_losses_up(start_at_mean, nodes, features):
    training = LocalTraining(epochs=2, batch_size=4, learning_rate=0.01)
    network = Network(5, (8,))
    method = FederatedAveraging(
        network,
        train_stacked,
        features,
        training,
        NodePersonalisation("none", training),
        UserPersonalisation("none", 5.0, 10.0),
        start_at_mean,
        seed=0,
    )
    told: list[FinishedRound] = []
    run_rounds(method, nodes, 2, told.append)
    # 5 * 8 weights pad to 48, 8 biases to 16, 8 weights to 16, 1 bias to 16: 96 numbers in all.
    up = 3 * 8 * (96 + 1 + 2)
    assert [finished.bytes_up for finished in told] == [up + start_at_mean * 3 * 8 * 2, up]
    assert [finished.bytes_down for finished in told] == [3 * 4 * 96 * (1 + start_at_mean), 3 * 4 * 96]
    assert [len(method.train_loss(finished.total)) for finished in told] == [2, 2]
    assert [finished.shared.round for finished in told] == [1, 2]


class Until(Observer):
    """Lets a training go on until so many rounds have ended, and notes when it was asked."""

    def __init__(self, rounds: int):
        self.rounds, self.ended, self.asked_after = rounds, list[FinishedRound](), list[int]()

    def should_continue(self) -> bool:
        self.asked_after.append(len(self.ended))
        return len(self.ended) < self.rounds


@pytest.mark.parametrize("opening_rounds", [0, 2])
def test_training_ends_with_the_round_after_which_it_should_not_continue(nodes, opening_rounds):
    until, method = Until(2), Counting(opening_rounds)
    trained = run_rounds(method, nodes, 5, until.ended.append, observer=until)
    shorter = run_rounds(Counting(opening_rounds), nodes, 2)
    assert [finished.number for finished in until.ended] == [1, 2]
    assert until.asked_after == [1, 2]
    assert method.calls[-1] == ("combine", 1)
    assert trained.shared.digest() == shorter.shared.digest()
    assert trained.private == shorter.private


def test_there_is_always_a_first_round(nodes):
    until = Until(0)
    trained = run_rounds(Counting(opening_rounds=3), nodes, 5, until.ended.append, observer=until)
    assert trained.shared.round == 1
    assert [finished.number for finished in until.ended] == [1]


@pytest.mark.parametrize("rounds", [1, 3])
def test_a_training_that_ended_early_is_that_of_fewer_rounds(nodes, features, rounds):
    training = LocalTraining(epochs=2, batch_size=4, learning_rate=0.01)
    method = FederatedAveraging(
        Network(5, (8,)),
        train_stacked,
        features,
        training,
        NodePersonalisation("none", training),
        UserPersonalisation("none", 5.0, 10.0),
        start_at_mean=True,
        seed=0,
    )
    until = Until(rounds)
    digest = run_rounds(method, nodes, 6, until.ended.append, observer=until).shared.digest()
    assert digest == run_rounds(method, nodes, rounds).shared.digest()
    assert digest != run_rounds(method, nodes, rounds + 1).shared.digest()


def test_the_rows_of_a_round_are_those_of_the_nodes_that_take_part(nodes):
    told, taking_part = list[FinishedRound](), Participation(2, seed=1)
    run_rounds(Counting(opening_rounds=1), nodes, 6, told.append, how=Round(participation=taking_part))
    rows = [sum((5, 9, 13)[place] for place in taking_part.places(number, 3)) for number in range(1, 7)]
    assert [finished.rows for finished in told] == rows
    assert len(set(rows)) > 1


def test_shares_of_a_round_are_told_as_its_nodes_are_added(nodes):
    told: list[tuple[int, float]] = []

    class Shares(Observer):
        def share(self, number: int, share: float) -> None:
            told.append((number, share))

    run_rounds(Counting(opening_rounds=1), nodes, 1, observer=Shares())
    shares = [0, 5 / 27, 14 / 27, 1]
    assert told == [(number, pytest.approx(share)) for number in (0, 1) for share in shares]


@dataclass
class Scaled(Step):
    """A step that sends one more, multiplied, and takes both back at the server for three nodes.

    calls: what it was told, in order.
    """

    factor: float
    calls: list[tuple[str, float, int, int]] = field(default_factory=list)

    def at_node(self, contribution: Contribution, known: Known, node: int) -> Contribution:
        self.calls.append(("node", self.factor, known.shared.round + 1, node))
        return Contribution({name: (array + 1) * self.factor for name, array in contribution.arrays.items()})

    def at_server(self, total: Contribution, known: Known) -> Contribution:
        self.calls.append(("server", self.factor, known.shared.round + 1, -1))
        return Contribution({name: array / self.factor - 3 for name, array in total.arrays.items()})


def test_steps_change_what_nodes_send_in_order_and_the_total_in_the_reverse_order(nodes):
    calls: list[tuple[str, float, int, int]] = []
    first, second = Scaled(2.0, calls), Scaled(10.0, calls)
    sent: list[float] = []

    def rule(contributions: Iterable[tuple[int, Contribution]]) -> Summed:
        pairs = list(contributions)
        sent.extend(float(each.arrays["sum"][0]) for _, each in pairs)
        return OPEN_SUM(pairs)

    told: list[FinishedRound] = []
    run_rounds(Counting(), nodes, 1, told.append, how=Round(rule, (first, second)))
    # Nodes send 1, 2 and 3: each becomes ((x + 1) * 2 + 1) * 10.
    assert sent == [50, 70, 90]
    assert told[0].total.arrays["sum"].tolist() == [6, 6, 6]
    assert calls == [
        *((kind, factor, 1, node) for node in range(3) for kind, factor in (("node", 2.0), ("node", 10.0))),
        ("server", 10.0, 1, -1),
        ("server", 2.0, 1, -1),
    ]


def test_nodes_are_not_pooled_where_a_step_must_see_what_each_sends(many, monkeypatch):
    monkeypatch.setattr("hierfed.engines.in_process.POOLED_FROM", 2)
    method, step = PooledCounting(), Scaled(2.0)
    run_rounds(method, many, 1, how=Round(steps=(step,)))
    assert method.pooled == []
    assert [node for kind, *_, node in step.calls if kind == "node"] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("opening_rounds", [0, 2])
def test_a_training_goes_on_from_another_as_if_it_had_not_stopped(nodes, opening_rounds):
    whole = run_rounds(Counting(opening_rounds), nodes, 5)
    first = run_rounds(Counting(opening_rounds), nodes, 2)
    told: list[FinishedRound] = []
    method = Counting(opening_rounds)
    second = run_rounds(method, nodes, 5, told.append, begin=first)
    assert [finished.number for finished in told] == [3, 4, 5]
    assert ("start", 0) not in method.calls
    assert second.shared.digest() == whole.shared.digest()
    assert second.private == whole.private

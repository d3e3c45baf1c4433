"""The sum over Flower's messages against rounds in one process, and answers that may not enter it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, RecordDict

from hierfed.data.federation import Node
from hierfed.engines.exchange import Member, Reply, Request
from hierfed.engines.flower.records import read_request, reply_records, request_records
from hierfed.engines.flower.strategy import RoundOutcome, SumStrategy
from hierfed.engines.in_process import FinishedRound, run_rounds
from hierfed.engines.replies import RoundName
from hierfed.federated.contract import Contribution, SharedModel, SumMethod, ordered_sum
from hierfed.federated.private import PrivateState
from hierfed.methods.averaging.averaging import FederatedAveraging
from hierfed.methods.averaging.network import Network
from hierfed.methods.averaging.node_level import NodePersonalisation
from hierfed.methods.averaging.stacked import train_stacked
from hierfed.methods.averaging.training import LocalTraining
from hierfed.methods.averaging.user_level import UserPersonalisation
from hierfed.methods.ranking.implicit import ImplicitFactors

ITEMS, NODES, TRAINING, STAGE = 23, 4, "training 1", "rating"
# Flower's ids are in another order than the nodes' numbers.
IDS = {40: 2, 41: 0, 42: 3, 43: 1}
EMPTY = ArrayRecord(), ConfigRecord()
Wire = Callable[[Message], Message]


@pytest.fixture
def nodes(make_node) -> list[Node]:
    return [make_node(number, 9 + 5 * number) for number in range(NODES)]


@pytest.fixture
def method() -> ImplicitFactors:
    return ImplicitFactors(ITEMS, seed=1, rank=3, least_raters=1)


class Remote:
    """A node that answers messages, and keeps its state."""

    def __init__(self, method: SumMethod, node: Node, wire: Wire):
        self.method, self.node, self.wire = method, node, wire
        self.kept: PrivateState | None = None

    def contribution(self, asked: Message) -> Contribution:
        request = read_request(self.wire(asked))
        shared = SharedModel(request.arrays, int(request.facts["round"]) - 1)
        found, self.kept = next(iter(self.method.contribute(shared, [self.node], [self.kept])))
        return found

    def reply(self, asked: Message, contribution: Contribution | None = None, **changes: object) -> Message:
        """An honest answer, but for what is given."""
        facts = dict(read_request(self.wire(asked)).facts) | {"number": self.node.number} | changes
        contribution = self.contribution(asked) if contribution is None else contribution
        return self.wire(Message(reply_records(Reply(facts, contribution)), reply_to=asked))


class Exchange:
    """A strategy and its nodes, without anything between them."""

    def __init__(self, method: SumMethod, nodes: Sequence[Node], wire: Wire, quorum: int = NODES):
        self.strategy = SumStrategy(method, method.start(), TRAINING, STAGE, quorum)
        self.strategy.members = {key: Member(f"node {number}", number) for key, number in IDS.items()}
        self.remotes = {key: Remote(method, nodes[number], wire) for key, number in IDS.items()}

    def ask(self) -> dict[int, Message]:
        """The next round's messages by the nodes' numbers."""
        messages = self.strategy.configure_train(1, *EMPTY, None)
        return {IDS[message.metadata.dst_node_id]: message for message in messages}

    def remote(self, number: int) -> Remote:
        return next(remote for remote in self.remotes.values() if remote.node.number == number)

    def replies(self) -> list[Message]:
        return [self.remote(number).reply(message) for number, message in self.ask().items()]

    def aggregate(self, replies: Sequence[Message]) -> tuple[RoundOutcome, dict[str, float]]:
        arrays, metrics = self.strategy.aggregate_train(1, replies)
        assert arrays is None
        return self.strategy.outcome, dict(metrics)


def bits(contribution: Contribution) -> dict[str, bytes]:
    return {name: array.numpy().tobytes() for name, array in contribution.arrays.items()}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["implicit", "averaging", "factors"])
def test_rounds_equal_those_in_one_process_bit_for_bit_in_any_order_of_replies(
    name, seed, method, nodes, features, make_content, make_factors, wire
):
    training = LocalTraining(epochs=2, batch_size=4, learning_rate=0.01)
    alone = NodePersonalisation("none", training), UserPersonalisation("none", 5.0, 10.0)
    method = {
        "implicit": lambda: method,
        "averaging": lambda: FederatedAveraging(Network(5, (8,)), train_stacked, features, training, *alone, True, 0),
        "factors": lambda: make_factors(make_content(ITEMS)),
    }[name]()
    told: list[FinishedRound] = []
    run_rounds(method, nodes, 4, told.append)
    exchange, shuffle = Exchange(method, nodes, wire), random.Random(seed).shuffle
    found: list[tuple[RoundOutcome, str]] = []
    for _ in range(4 - method.start().round):
        replies = exchange.replies()
        shuffle(replies)
        outcome, _ = exchange.aggregate(replies)
        found.append((outcome, exchange.strategy.shared.digest()))
    learned = [each for each in found if each[0].name.number > 0]
    assert len(found) > len(learned)
    for (outcome, digest), expected in zip(learned, told, strict=True):
        assert outcome.name == RoundName(TRAINING, STAGE, expected.number)
        assert bits(outcome.total) == bits(expected.total)
        assert digest == expected.shared.digest()
        assert outcome.contributors == (0, 1, 2, 3)
    assert [outcome.bytes_up for outcome, _ in learned[1:]] == [each.bytes_up for each in told[1:]]


def test_each_member_is_asked_for_the_round_that_comes_next(method, nodes, wire):
    exchange = Exchange(method, nodes, wire)
    exchange.aggregate(exchange.replies())
    messages = list(exchange.strategy.configure_train(7, *EMPTY, None))
    assert [message.metadata.dst_node_id for message in messages] == list(IDS)
    for message in messages:
        request = read_request(wire(message))
        assert (message.metadata.message_type, message.metadata.group_id) == ("query.round", "rating 1")
        assert request.facts == {"training": TRAINING, "stage": STAGE, "round": 1}
        assert SharedModel(request.arrays).digest() == exchange.strategy.shared.digest()


@pytest.mark.parametrize("missing", [(), (2,), (0, 3)])
def test_a_quorum_is_enough(missing, method, nodes, wire):
    exchange = Exchange(method, nodes, wire, quorum=2)
    replies = {number: exchange.remote(number).reply(message) for number, message in exchange.ask().items()}
    present = [number for number in range(NODES) if number not in missing]
    outcome, metrics = exchange.aggregate([replies[number] for number in reversed(present)])
    assert outcome.contributors == tuple(present)
    assert metrics == {"contributors": len(present), "refused": 0}
    sums = method.contribute(method.start(), [nodes[number] for number in present], [None] * len(present))
    expected = ordered_sum(contribution for contribution, _ in sums)
    assert bits(outcome.total) == bits(expected)
    assert exchange.strategy.shared.digest() == method.combine(method.start(), expected).digest()
    assert exchange.strategy.shared.round == 0


def test_without_a_quorum_the_model_stays_and_the_same_round_comes_again(method, nodes, wire):
    exchange = Exchange(method, nodes, wire, quorum=3)
    exchange.aggregate(exchange.replies())
    before, replies = exchange.strategy.shared, exchange.replies()
    outcome, metrics = exchange.aggregate(replies[:2])
    assert exchange.strategy.shared is before
    assert outcome.total is None
    assert outcome.contributors == (0, 2)
    assert metrics == {"contributors": 2, "refused": 0}
    assert outcome.name.number == exchange.strategy.name.number == 1
    assert outcome.bytes_up > 0
    outcome, _ = exchange.aggregate(replies[:3])
    assert outcome.contributors == (0, 2, 3)
    assert exchange.strategy.shared.round == 1


def test_no_reply_at_all_changes_nothing(method, nodes, wire):
    exchange = Exchange(method, nodes, wire, quorum=1)
    before = exchange.strategy.shared
    outcome, metrics = exchange.aggregate([])
    assert exchange.strategy.shared is before
    assert (outcome.total, outcome.contributors, outcome.refused, outcome.bytes_up) == (None, (), (), 0)
    assert metrics == {"contributors": 0, "refused": 0}


def wild(contribution: Contribution) -> Contribution:
    arrays = {name: array.clone() for name, array in contribution.arrays.items()}
    arrays["factors"][-1, -1] = np.nan
    return Contribution(arrays)


def of_another_shape(contribution: Contribution) -> Contribution:
    return Contribution({**contribution.arrays, "factors": contribution.arrays["factors"].T})


BAD = {
    "NaN": (lambda remote, asked: remote.reply(asked, wild(remote.contribution(asked))), "not finite in factors"),
    "wrong shape": (
        lambda remote, asked: remote.reply(asked, of_another_shape(remote.contribution(asked))),
        "factors (3, 23), all_products",
    ),
    "old round": (lambda remote, asked: remote.reply(asked, round=0), "answers round 0, asked was 1"),
    "another stage": (lambda remote, asked: remote.reply(asked, stage="ease"), "answers stage 'ease'"),
    "another's number": (lambda remote, asked: remote.reply(asked, number=2), "says that it is node 2, and is node 1"),
    "error": (lambda remote, asked: Message(Error(1, "out of memory"), reply_to=asked), "failed: out of memory"),
    "error without words": (lambda remote, asked: Message(Error(1), reply_to=asked), "failed: no reason given"),
    "foreign content": (lambda remote, asked: Message(RecordDict(), reply_to=asked), "failed: cannot be read: "),
    "float32": (
        lambda remote, asked: Message(request_records(Request("round", {}, {"sum": torch.ones(1)})), reply_to=asked),
        "only float64",
    ),
}


@pytest.mark.parametrize("place", [0, 2, 3])
@pytest.mark.parametrize(("answer", "reason"), BAD.values(), ids=BAD)
def test_a_bad_answer_is_counted_with_its_reason_and_not_added(answer, reason, place, method, nodes, wire):
    exchange = Exchange(method, nodes, wire, quorum=3)
    exchange.aggregate(exchange.replies())
    before, messages = exchange.strategy.shared, exchange.ask()
    replies = [exchange.remote(number).reply(messages[number]) for number in (3, 0, 2)]
    replies.insert(place, answer(exchange.remote(1), messages[1]))
    outcome, metrics = exchange.aggregate(replies)
    assert metrics == {"contributors": 3, "refused": 1}
    assert outcome.contributors == (0, 2, 3)
    (refusal,) = outcome.refused
    assert refusal.node == "node 1"
    assert reason in refusal.reason
    others = [nodes[number] for number in (0, 2, 3)]
    expected = ordered_sum(found for found, _ in method.contribute(before, others, [None] * 3))
    assert bits(outcome.total) == bits(expected)
    assert outcome.bytes_up == 3 * expected.nbytes
    assert exchange.strategy.shared.digest() == method.combine(before, expected).digest()


@pytest.mark.parametrize("name", ["NaN", "error"])
def test_bad_answers_do_not_make_a_quorum(name, method, nodes, wire):
    exchange = Exchange(method, nodes, wire, quorum=4)
    exchange.aggregate(exchange.replies())
    before, messages = exchange.strategy.shared, exchange.ask()
    replies = [exchange.remote(number).reply(messages[number]) for number in (0, 2, 3)]
    outcome, metrics = exchange.aggregate([*replies, BAD[name][0](exchange.remote(1), messages[1])])
    assert outcome.total is None
    assert exchange.strategy.shared is before
    assert metrics == {"contributors": 3, "refused": 1}


def test_the_second_answer_of_a_node_is_counted_and_not_added(method, nodes, wire):
    exchange = Exchange(method, nodes, wire)
    replies, doubled = exchange.replies(), exchange.ask()[1]
    again = exchange.remote(1).reply(
        doubled, Contribution({name: torch.ones(shape).double() for name, shape in (("raters", ITEMS), ("users", 1))})
    )
    outcome, metrics = exchange.aggregate([*replies, again])
    assert metrics == {"contributors": 4, "refused": 1}
    assert [(refusal.node, refusal.reason) for refusal in outcome.refused] == [
        ("node 1", "a second answer to the same round")
    ]
    expected = ordered_sum(found for found, _ in method.contribute(method.start(), nodes, [None] * NODES))
    assert bits(outcome.total) == bits(expected)


def test_an_error_that_names_no_node_is_nobodys(method, nodes, wire):
    exchange = Exchange(method, nodes, wire, quorum=3)
    messages = exchange.ask()
    replies = [exchange.remote(number).reply(messages[number]) for number in (0, 2, 3)]
    error = Message(Error(1, "Node Unavailable"), reply_to=messages[1])
    error.metadata.__dict__["_src_node_id"] = 1
    outcome, metrics = exchange.aggregate([error, *replies])
    assert metrics == {"contributors": 3, "refused": 1}
    assert [(each.node, each.reason) for each in outcome.refused] == [("unknown", "failed: Node Unavailable")]


def test_nodes_are_not_asked_to_evaluate(method):
    strategy = SumStrategy(method, method.start(), TRAINING, STAGE, 1)
    strategy.members = {40: Member("node", 0)}
    assert list(strategy.configure_evaluate(1, *EMPTY, None)) == []
    assert strategy.aggregate_evaluate(1, []) is None

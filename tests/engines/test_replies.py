"""Which answers enter a sum: against a choice made answer by answer, and what a round expects against real nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hierfed.data.federation import Node
from hierfed.engines.exchange import Reply
from hierfed.engines.replies import NodeAnswer, Refusal, RoundName, accept, template
from hierfed.federated.contract import Contribution, SharedModel, SumMethod, ordered_sum
from hierfed.methods.averaging.averaging import FederatedAveraging
from hierfed.methods.averaging.network import Network
from hierfed.methods.averaging.node_level import NodePersonalisation
from hierfed.methods.averaging.stacked import train_stacked
from hierfed.methods.averaging.training import LocalTraining
from hierfed.methods.averaging.user_level import UserPersonalisation
from hierfed.methods.local.local import LocalOnly
from hierfed.methods.ranking.ease import Ease
from hierfed.methods.ranking.implicit import ImplicitFactors

few = settings(max_examples=80, deadline=None)
ASKED = RoundName("training 1", "rating", 3)
EXPECTED = Contribution({"change": torch.zeros(2, 2).double(), "rows": torch.zeros(1).double()})
MISSING = object()


def sent(value: float = 1.0, **changes: object) -> Contribution:
    """Arrays as expected, all of this value, but for those that are given; MISSING leaves one out."""
    arrays = {
        "change": torch.full((2, 2), value, dtype=torch.float64),
        "rows": torch.full((1,), value, dtype=torch.float64),
    } | changes
    return Contribution({name: array for name, array in arrays.items() if array is not MISSING})


def good(number: int, value: float = 1.0) -> NodeAnswer:
    return NodeAnswer(f"node {number}", number, Reply({**ASKED.facts(), "number": number}, sent(value)))


def with_facts(number: int, /, **changes: object) -> NodeAnswer:
    facts = {**ASKED.facts(), "number": number} | changes
    facts = {name: fact for name, fact in facts.items() if fact is not MISSING}
    return NodeAnswer(f"node {number}", number, Reply(facts, sent()))


def with_arrays(number: int, /, **changes: object) -> NodeAnswer:
    return replace(good(number), reply=Reply({**ASKED.facts(), "number": number}, sent(**changes)))


def last_is(value: float) -> torch.Tensor:
    """Zeros but for the last place."""
    return torch.tensor([[0.0, 0.0], [0.0, value]], dtype=torch.float64)


BAD: dict[str, tuple[Callable[[int], NodeAnswer], str]] = {
    "failed": (lambda n: NodeAnswer(f"node {n}", n, None, "ValueError on the node"), "failed: ValueError on the node"),
    "another training": (lambda n: with_facts(n, training="training 2"), "answers training 'training 2'"),
    "an old round": (lambda n: with_facts(n, round=2), "answers round 2, asked was 3"),
    "a round to come": (lambda n: with_facts(n, round=4), "answers round 4, asked was 3"),
    "another stage": (lambda n: with_facts(n, stage="ease"), "answers stage 'ease', asked was 'rating'"),
    "no round": (lambda n: with_facts(n, round=MISSING), "answers round None"),
    "another's number": (lambda n: with_facts(n, number=n + 1), "and is node"),
    "no number": (lambda n: with_facts(n, number=MISSING), "says that it is node None"),
    "missing array": (lambda n: with_arrays(n, rows=MISSING), "its arrays are change (2, 2), expected"),
    "no array": (lambda n: with_arrays(n, rows=MISSING, change=MISSING), "its arrays are none, expected"),
    "extra array": (lambda n: with_arrays(n, more=torch.zeros(1).double()), "more (1,), expected change (2, 2), rows"),
    "wrong shape": (lambda n: with_arrays(n, change=torch.zeros(4).double()), "its arrays are change (4,), rows (1,)"),
    "a dimension more": (lambda n: with_arrays(n, rows=torch.zeros(1, 1).double()), "rows (1, 1), expected"),
    "NaN": (lambda n: with_arrays(n, change=last_is(np.nan)), "not finite in change"),
    "inf": (lambda n: with_arrays(n, change=last_is(np.inf)), "not finite in change"),
    "-inf": (lambda n: with_arrays(n, rows=torch.tensor([-np.inf], dtype=torch.float64)), "not finite in rows"),
}
EACH_BAD = pytest.mark.parametrize(("make", "reason"), BAD.values(), ids=BAD)


def test_good_answers_are_kept_by_number_in_ascending_order():
    answers = [good(number) for number in (10, 2, 0, 7)]
    accepted, refused = accept(answers, ASKED, EXPECTED)
    assert list(accepted) == [0, 2, 7, 10]
    assert all(accepted[answer.number] is answer.reply.contribution for answer in answers)
    assert refused == []


@EACH_BAD
def test_a_bad_answer_is_refused_with_its_reason_and_the_others_are_kept(make, reason):
    answers = [good(2), make(1), good(0)]
    accepted, (refusal,) = accept(answers, ASKED, EXPECTED)
    assert list(accepted) == [0, 2]
    assert accepted[2] is answers[0].reply.contribution
    assert accepted[0] is answers[2].reply.contribution
    assert refusal.node == "node 1"
    assert reason in refusal.reason
    assert "\n" not in refusal.reason


def test_the_second_answer_of_a_node_is_refused_and_the_first_one_kept():
    first, second = good(1, value=4.0), good(1, value=5.0)
    accepted, refused = accept([good(0), first, second], ASKED, EXPECTED)
    assert accepted[1] is first.reply.contribution
    assert refused == [Refusal("node 1", "a second answer to the same round")]


@EACH_BAD
def test_a_good_answer_is_kept_where_the_nodes_first_was_bad(make, reason):
    answer = good(1)
    accepted, refused = accept([make(1), answer], ASKED, EXPECTED)
    assert accepted == {1: answer.reply.contribution}
    assert len(refused) == 1


def test_no_answers_are_nothing():
    assert accept([], ASKED, EXPECTED) == ({}, [])


values = st.sampled_from([1e16, -1e16, 1.0, 0.1, 1 / 3, -7.5])


@few
@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["good", *BAD]), values), max_size=12))
def test_any_mixture_is_judged_as_answer_by_answer(drawn):
    answers = [good(number, value) if kind == "good" else BAD[kind][0](number) for number, kind, value in drawn]
    chosen, left = {}, []
    for (number, kind, _), answer in zip(drawn, answers, strict=True):
        if kind == "good" and number not in chosen:
            chosen[number] = answer
        else:
            left.append(answer.name)
    accepted, refused = accept(answers, ASKED, EXPECTED)
    assert list(accepted) == sorted(chosen)
    assert all(accepted[number] is answer.reply.contribution for number, answer in chosen.items())
    assert [refusal.node for refusal in refused] == left


@few
@given(
    st.dictionaries(st.integers(0, 20), values, min_size=1, max_size=8).flatmap(
        lambda sums: st.tuples(st.just(sums), st.permutations(list(sums)))
    )
)
def test_the_sum_has_the_same_bits_in_whatever_order_answers_arrive(drawn):
    sums, order = drawn
    accepted, _ = accept([good(number, sums[number]) for number in order], ASKED, EXPECTED)
    expected, *others = (sums[number] for number in sorted(sums))
    for value in others:
        expected += value
    total = ordered_sum(accepted.values())
    assert total.arrays["change"].numpy().tobytes() == np.full((2, 2), expected).tobytes()
    assert total.arrays["rows"].numpy().tobytes() == np.full(1, expected).tobytes()


TRAINING = LocalTraining(epochs=2, batch_size=4, learning_rate=0.01)
USERS, ITEMS = 24, 14
NODE_OF_USER = [0] * 5 + [1] * 16 + [2, 2, 3]


def shapes(contribution: Contribution) -> dict[str, tuple[int, ...]]:
    return {name: tuple(array.shape) for name, array in contribution.arrays.items()}


def rounds_of(method: SumMethod, nodes: list[Node], rounds: int) -> Iterator[tuple[SharedModel, list[Contribution]]]:
    """The model before each round, and what each node, all by itself, sends to it."""
    shared, private = method.start(), [None] * len(nodes)
    while shared.round < rounds:
        pairs = [
            next(iter(method.contribute(shared, [node], [kept]))) for node, kept in zip(nodes, private, strict=True)
        ]
        found, private = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        yield shared, found
        shared = method.combine(shared, ordered_sum(found))


def averaging(features, start_at_mean: bool, proximal: float) -> FederatedAveraging:
    training = replace(TRAINING, proximal=proximal)
    return FederatedAveraging(
        Network(5, (8,)),
        train_stacked,
        features,
        training,
        NodePersonalisation("none", TRAINING),
        UserPersonalisation("none", 5.0, 10.0),
        start_at_mean,
        seed=0,
    )


@pytest.mark.parametrize("first_item", ["rated", "of one rater", "never rated"])
@pytest.mark.parametrize(
    ("name", "opening"),
    [
        ("averaging", 0),
        ("averaging from the mean", 1),
        ("proximal", 0),
        ("factors", 5),
        ("factors without embedding", 1),
        ("ease", 1),
        ("implicit", 1),
        ("local", 0),
    ],
)
def test_a_round_expects_exactly_the_arrays_that_nodes_send(
    name, opening, first_item, features, make_content, make_factors, make_pairs, divide_users
):
    ratings = make_pairs(USERS, ITEMS)
    others = np.flatnonzero(ratings.item != 0)
    rows = {"rated": np.arange(len(ratings)), "of one rater": np.append(others, np.flatnonzero(ratings.item == 0)[0])}
    ratings = ratings.take(rows.get(first_item, others))
    content = make_content(ITEMS)
    method: SumMethod = {
        "averaging": lambda: averaging(features[:ITEMS], False, 0.0),
        "averaging from the mean": lambda: averaging(features[:ITEMS], True, 0.0),
        "proximal": lambda: averaging(features[:ITEMS], False, 0.3),
        "factors": lambda: make_factors(content),
        "factors without embedding": lambda: make_factors(content, embedding_rank=0),
        "ease": lambda: Ease(ITEMS, least_raters=3),
        "implicit": lambda: ImplicitFactors(ITEMS, seed=1, rank=3, least_raters=3),
        "local": lambda: LocalOnly(content, (0.5, 5.0)),
    }[name]()
    # Of Ease there is one learning round, which ends it.
    rounds = 1 if name == "ease" else 4
    numbers, different = [], set()
    for shared, found in rounds_of(method, divide_users(ratings, NODE_OF_USER), rounds):
        numbers.append(shared.round + 1)
        expected = shapes(template(method, shared))
        assert [shapes(each) for each in found] == [expected] * 4
        different.add(str(expected))
    assert numbers == list(range(1 - opening, rounds + 1))
    # Opening rounds are of other arrays: first counts, then, of factors with an embedding, products of two kinds.
    assert len(different) == 1 + min(opening, 3)

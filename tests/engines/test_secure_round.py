"""A secure sum over messages is the plain sum of those who stay; who leaves, lies or speaks out of turn is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import pytest
import torch

pytest.importorskip("cryptography", reason="the privacy extra is not installed")
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from hierfed.engines.exchange import Member, Reply, Request
from hierfed.engines.replies import NodeAnswer
from hierfed.engines.secure_round import (
    DRAWN,
    MESSAGE,
    REFUSAL,
    STEPS,
    THE_SUM,
    SecureGroup,
    SecureNode,
    SecureOutcome,
    sum_securely,
)
from hierfed.federated.contract import Contribution
from hierfed.privacy.secure_sum.messages import Survivors, decode, encode
from hierfed.privacy.secure_sum.setup import colluders, smallest_threshold

SHAPES = {"counts": (3,), "sums": (2, 2)}
PHASES = ("round", *STEPS)
Meddle = Callable[[int, Request], Request | Reply | None]


def given_by(node: int) -> Contribution:
    """Values that the encoding holds exactly."""
    counts = torch.tensor([node, 2.0 * node, -7.0], dtype=torch.float64)
    return Contribution({"counts": counts, "sums": torch.full((2, 2), 0.25 * node, dtype=torch.float64)})


@dataclass
class Table:
    """Nodes that sit at one table. meddle: told whom a request goes to; gives another request in its place, a reply in
    place of the node's, or None where the node does not hear of it any more."""

    count: int
    meddle: Meddle = lambda node, request: request
    sent: list[tuple[int, str, Reply]] = field(default_factory=list)

    def __post_init__(self) -> None:
        signers = {node: Ed25519PrivateKey.generate() for node in range(self.count)}
        colluding = colluders(self.count)
        keys = {node: signer.public_key() for node, signer in signers.items()}
        self.secure_group = SecureGroup(keys, smallest_threshold(self.count, colluding), colluding)
        self.nodes = {node: SecureNode(node, signer, self.secure_group) for node, signer in signers.items()}

    def ask(self, make: Callable[[Member], Request | None], enough: int) -> list[NodeAnswer]:
        assert enough == self.secure_group.threshold
        answers = []
        for number in self.nodes:
            member = Member(f"node {number}", number)
            request = make(member)
            heard = None if request is None else self.meddle(number, request)
            if isinstance(heard, Request):
                node = self.nodes[number]
                reply = node.begin(heard, given_by(number)) if heard.kind == "round" else node.answer(heard)
                self.sent.append((number, heard.kind, reply))
                heard = reply
            if heard is not None:
                answers.append(NodeAnswer(member.name, member.number, heard))
        return answers

    def sum(self, drawn: bytes = b"first") -> SecureOutcome:
        return sum_securely(self.ask, Request("round", {"round": 1, DRAWN: drawn}), self.secure_group, SHAPES)


def without(lost: Mapping[int, str]) -> Meddle:
    """Nodes that fall silent from a phase on."""

    def meddle(node: int, request: Request) -> Request | None:
        gone = node in lost and PHASES.index(request.kind) >= PHASES.index(lost[node])
        return None if gone else request

    return meddle


def check_sum(found: SecureOutcome, nodes: tuple[int, ...]) -> None:
    assert found.contributors == nodes
    assert found.total is not None
    for name in SHAPES:
        assert torch.equal(found.total.arrays[name], sum(given_by(node).arrays[name] for node in nodes))


@given(data=st.data(), count=st.integers(2, 8))
@settings(max_examples=40, deadline=None)
def test_the_sum_is_that_of_the_nodes_that_uploaded_if_enough_stay(data, count):
    lost = data.draw(st.dictionaries(st.integers(0, count - 1), st.sampled_from(PHASES), max_size=count))
    table = Table(count, without(lost))
    found = table.sum()
    uploaded = tuple(node for node in range(count) if lost.get(node, "consent") in ("consent", "unmask"))
    if count - len(lost) >= table.secure_group.threshold:
        check_sum(found, uploaded)
        assert not found.refused
    elif len(uploaded) < table.secure_group.threshold:
        assert found.total is None
        assert found.contributors == ()
        assert [each.node for each in found.refused] == [THE_SUM]


def test_the_bytes_are_those_of_the_messages():
    asked: list[Request] = []

    def note(node: int, request: Request) -> Request:
        asked.append(request)
        return request

    table = Table(3, note)
    found = table.sum()
    assert found.bytes_up == sum(len(reply.facts[MESSAGE]) for _, _, reply in table.sent)
    assert found.bytes_down == sum(len(each.facts[MESSAGE]) for each in asked if each.kind in STEPS)
    assert len(table.sent) == len(asked) == 3 * len(PHASES)


def test_answers_hold_one_message_and_no_arrays():
    table = Table(3)
    table.sum()
    for _, _, reply in table.sent:
        assert reply.facts.keys() == {MESSAGE}
        assert not reply.contribution.arrays


@pytest.mark.parametrize("phase", PHASES)
def test_who_speaks_for_another_is_refused_and_the_others_go_on(phase):
    """Node 3 repeats what node 0 has just said."""

    def meddle(node: int, request: Request) -> Request | Reply:
        if node == 3 and request.kind == phase:
            return next(reply for sender, kind, reply in table.sent if (sender, kind) == (0, phase))
        return request

    table = Table(4, meddle)
    found = table.sum()
    assert ("node 3", "it speaks for another node") in [(each.node, each.reason) for each in found.refused]
    check_sum(found, (0, 1, 2, 3) if phase in ("consent", "unmask") else (0, 1, 2))


@pytest.mark.parametrize(
    "reply",
    [
        Reply(),
        Reply({MESSAGE: "text"}),
        Reply({MESSAGE: b""}),
        Reply({MESSAGE: b"\x00" * 99}),
        Reply({REFUSAL: "for a reason"}),
        Reply({MESSAGE: b"x"}, Contribution({"counts": torch.zeros(3, dtype=torch.float64)})),
    ],
)
@pytest.mark.parametrize("phase", PHASES)
def test_what_is_no_answer_is_refused_and_the_others_go_on(phase, reply):
    found = Table(4, lambda node, request: reply if node == 2 and request.kind == phase else request).sum()
    assert found.refused[0].node == "node 2"
    check_sum(found, (0, 1, 2, 3) if phase in ("consent", "unmask") else (0, 1, 3))


def test_a_node_that_began_again_takes_no_part_and_the_others_go_on():
    def meddle(node: int, request: Request) -> Request:
        if (node, request.kind) == (1, "mask"):
            table.nodes[1] = SecureNode(1, Ed25519PrivateKey.generate(), table.secure_group)
        return request

    table = Table(4, meddle)
    found = table.sum()
    assert [(each.node, each.reason) for each in found.refused] == [("node 1", "takes no part in this sum")]
    check_sum(found, (0, 2, 3))


def test_who_was_asked_something_else_adds_nothing_to_the_sum():
    """A server that gives one node another model could read that node from the sum."""
    arrays = {"model": torch.ones(2, dtype=torch.float64)}
    found = Table(
        4, lambda node, request: replace(request, arrays=arrays) if (node, request.kind) == (2, "round") else request
    ).sum()
    assert "node 2" in [each.node for each in found.refused]
    check_sum(found, (0, 1, 3))


@pytest.mark.parametrize(
    "other",
    [
        Request("judge", {"round": 1, DRAWN: b"first"}),
        Request("round", {"round": 2, DRAWN: b"first"}),
        Request("round", {"round": 1, DRAWN: b"second"}),
        Request("round", {"round": 1, DRAWN: b"first"}, {"model": torch.zeros(1)}),
    ],
)
def test_every_request_has_terms_of_its_own(other):
    secure_group = Table(3).secure_group
    first = Request("round", {"round": 1, DRAWN: b"first"})
    assert secure_group.setup(first, SHAPES).session != secure_group.setup(other, SHAPES).session
    assert secure_group.setup(first, SHAPES).session == secure_group.setup(replace(first), SHAPES).session


def test_two_sums_share_no_mask():
    table = Table(3)
    table.sum(b"first")
    table.sum(b"second")
    for node in range(3):
        first, second = (
            decode(reply.facts[MESSAGE]) for sender, kind, reply in table.sent if (sender, kind) == (node, "mask")
        )
        assert first.vector != second.vector


def test_a_node_that_was_told_two_sets_of_survivors_gives_its_shares_for_none():
    """Else the server could take both kinds of share of one node."""
    lied: list[int] = []

    def meddle(node: int, request: Request) -> Request:
        if request.kind == "consent" and node in (0, 1):
            told = decode(request.facts[MESSAGE])
            assert isinstance(told, Survivors)
            lied.append(node)
            return Request("consent", {MESSAGE: encode(replace(told, nodes=told.nodes[:-1]))})
        return request

    found = Table(4, meddle).sum()
    assert lied == [0, 1]
    assert found.total is None
    assert THE_SUM in [each.node for each in found.refused]


@pytest.mark.parametrize("kind", STEPS)
def test_a_step_out_of_turn_is_refused_and_ends_the_node_s_part(kind):
    table = Table(3)
    node = table.nodes[0]
    assert node.answer(Request(kind, {MESSAGE: b""})).facts == {REFUSAL: "takes no part in this sum"}
    node.begin(Request("round", {DRAWN: b"x"}), given_by(0))
    assert REFUSAL in node.answer(Request(kind, {MESSAGE: b"junk"})).facts
    assert node.answer(Request(kind, {MESSAGE: b"junk"})).facts == {REFUSAL: "takes no part in this sum"}


def test_what_cannot_be_encoded_is_refused_before_a_word_of_it():
    node = Table(3).nodes[0]
    wild = Contribution({"counts": torch.tensor([float("nan")] * 3, dtype=torch.float64)})
    reply = node.begin(Request("round"), wild)
    assert reply.facts.keys() == {REFUSAL}
    assert "counts" in str(reply.facts[REFUSAL])
    assert node.answer(Request("share", {MESSAGE: b""})).facts == {REFUSAL: "takes no part in this sum"}

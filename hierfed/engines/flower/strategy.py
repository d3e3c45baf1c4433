"""The server's half of a round as a Flower strategy: what is asked, and what the answers add up to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from hierfed.engines.exchange import Request
from hierfed.engines.flower.records import message_type, read_reply, request_records
from hierfed.engines.replies import Answer, Refusal, RoundName, accept, template
from hierfed.federated.contract import Contribution, SharedModel, SumMethod, ordered_sum


@dataclass(frozen=True)
class Member:
    """A node of the federation. number: from 0, its place in every sum."""

    name: str
    number: int


NOBODY = Member("unknown", -1)


@dataclass(frozen=True)
class RoundOutcome:
    """What a round came to. total: None where it was abandoned, for want of answers; the model is then unchanged.

    contributors: the numbers of the nodes in the sum. bytes_up: of their contributions.
    """

    name: RoundName
    total: Contribution | None
    contributors: tuple[int, ...]
    refused: tuple[Refusal, ...]
    bytes_up: int


class SumStrategy(Strategy):
    """Any SumMethod, over Flower: contributions sorted by node, added in float64, and combined.

    shared: the model so far. quorum: a round with fewer contributions leaves it as it is. outcome: of the last round.
    """

    def __init__(self, method: SumMethod, shared: SharedModel, training: str, stage: str, quorum: int):
        self.method, self.shared = method, shared
        self.training, self.stage, self.quorum = training, stage, quorum
        self.members: Mapping[int, Member] = {}
        self.outcome: RoundOutcome | None = None

    @property
    def name(self) -> RoundName:
        """Of the round that comes next."""
        return RoundName(self.training, self.stage, self.shared.round + 1)

    def message(self, node_id: int) -> Message:
        """What the node with this id of Flower's is asked in the round that comes next."""
        request = Request("round", self.name.facts(), self.shared.arrays)
        group = f"{self.stage} {self.name.number}"
        return Message(request_records(request), node_id, message_type(request.kind), group_id=group)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """A message for each member; the model is the strategy's own, which has the rounds before 1 too."""
        return [self.message(node_id) for node_id in self.members]

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Add up what can be used, and move the model on if there is a quorum; see outcome for what could not."""
        outcome = self.aggregate([self._read(reply) for reply in replies])
        return None, MetricRecord({"contributors": len(outcome.contributors), "refused": len(outcome.refused)})

    def aggregate(self, answers: Sequence[Answer]) -> RoundOutcome:
        """The same of answers whose nodes are known."""
        asked = self.name
        accepted, refused = accept(answers, asked, template(self.method, self.shared))
        total = None
        if len(accepted) >= self.quorum:
            total = ordered_sum(accepted.values())
            self.shared = self.method.combine(self.shared, total)
        sent = sum(contribution.nbytes for contribution in accepted.values())
        self.outcome = RoundOutcome(asked, total, tuple(accepted), tuple(refused), sent)
        return self.outcome

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Nothing: nodes judge models on rows of their own when they are asked to."""
        return []

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Nothing; see configure_evaluate."""
        return None

    def summary(self) -> None:
        """Nothing is logged: the run's own record says more."""

    def _read(self, message: Message) -> Answer:
        # Flower's own errors, of nodes that are gone, name no node.
        return read_answer(message, self.members.get(message.metadata.src_node_id, NOBODY))


def read_answer(message: Message, member: Member) -> Answer:
    """A node's reply, or why there is none."""
    if message.has_error():
        return Answer(member.name, member.number, None, message.error.reason or "no reason given")
    try:
        return Answer(member.name, member.number, read_reply(message))
    except (ValueError, TypeError, KeyError) as error:
        return Answer(member.name, member.number, None, f"cannot be read: {error}")

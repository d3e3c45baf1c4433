"""The server's side of a round as a Flower strategy: it makes the requests and adds up the answers."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from hierfed.engines.edge_sums import Behind, EdgeSum, accept_sums, nobody_behind
from hierfed.engines.exchange import Fact, Member, Request
from hierfed.engines.flower.records import read_reply, request_message
from hierfed.engines.replies import Look, NodeAnswer, Refusal, RoundName, accept, look_by, template
from hierfed.engines.secure_round import DRAWN, HALVING, THE_SUM, Ask, SecureGroup, sum_securely
from hierfed.errors import HierfedError
from hierfed.federated.contract import Contribution, SharedModel, SumMethod, ordered_sum
from hierfed.federated.exact_sum import total_with
from hierfed.federated.halves import Search
from hierfed.federated.rules import OPEN_SUM, Rule, rule_of_round
from hierfed.federated.steps import Known, Step, receive
from hierfed.plain_text import LONGEST, printable

NOBODY = Member("unknown", -1)


# What to do where honest sums lead nowhere.
NO_MODEL = "the sum gives no model that nodes can use"
DIVERGED = "where no node lies, training has diverged: lower training.learning_rate"


class UnfitModel(Exception):
    """A total from which no model follows that nodes could go on with; the text is the reason."""


@dataclass(frozen=True)
class RoundOutcome:
    """The result of a round.

    total: None for a round that was abandoned for want of answers; the model then stays the same.
    contributors: the numbers of the nodes in the sum.
    bytes_up: of their contributions.
    bytes_down: sent to them besides the model.
    """

    name: RoundName
    total: Contribution | None
    contributors: tuple[int, ...]
    refused: tuple[Refusal, ...]
    bytes_up: int
    bytes_down: int = 0

    def lacking(self, quorum: int) -> str:
        """The reason why there is no total."""
        of_the_sum = [each.reason for each in self.refused if each.node == THE_SUM]
        if of_the_sum:
            return of_the_sum[-1]
        told = "; ".join(dict.fromkeys(f"{each.node}: {each.reason}" for each in self.refused))
        # The message around them is cut too, and its advice must stay.
        reasons = told and f" ({printable(told, LONGEST // 2)})"
        return f"{len(self.contributors)} of at least {quorum} nodes answered{reasons}"


class SumStrategy(Strategy):
    """Any SumMethod, over Flower: contributions sorted by node, added in float64, and combined.

    shared: the model so far.
    quorum: a round with fewer contributions does not change the model.
    secure_group: the nodes that add securely; None where the server sees single contributions.
    rule: makes one total of the contributions, or of the groups' sums, that the server sees.
    steps: what changed contributions at the nodes.
    outcome: of the last round. accepted: the contributions to it of single nodes, by number.
    extra_facts: facts that go to every node with the next request.
    facts_of: gives facts for one node, by name, in their place; None for those.
    left_out: the names of nodes that the next round does not ask.
    last: the stage's last round, which no model has to be fit for.
    search: for a node that spoils secure sums.
    behind: the nodes behind members that are edges. The rule is then the exact sum.
    """

    def __init__(
        self,
        method: SumMethod,
        shared: SharedModel,
        training: str,
        stage: str,
        quorum: int,
        secure_group: SecureGroup | None = None,
        rule: Rule = OPEN_SUM,
        steps: Sequence[Step] = (),
    ):
        self.method, self.shared = method, shared
        self.training, self.stage, self.quorum = training, stage, quorum
        self.secure_group, self.rule, self.steps = secure_group, rule, steps
        self.last: float = math.inf
        self._template: Contribution | None = None
        self.members: Mapping[int, Member] = {}
        self.outcome: RoundOutcome | None = None
        self.accepted: Mapping[int, Contribution] = {}
        self.extra_facts: Mapping[str, Fact] = {}
        self.facts_of: Callable[[str], Mapping[str, Fact] | None] = lambda name: None
        self.left_out: Collection[str] = ()
        self.search = Search(len(secure_group.halvings) if secure_group else 0)
        self.behind: Behind = nobody_behind

    @property
    def name(self) -> RoundName:
        """The name of the next round."""
        return RoundName(self.training, self.stage, self.shared.round + 1)

    def message(self, node_id: int, name: str = "") -> Message:
        """The next round's request to the node with this id of Flower's, and this name."""
        own = self.facts_of(name) if name else None
        facts = self.extra_facts if own is None else own
        request = Request("round", {**self.name.facts(), **facts}, self.shared.arrays)
        return request_message(request, node_id, f"{self.stage} {self.name.number}")

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """A message for each member; the model is the strategy's own, which counts the rounds before 1 too."""
        return [self.message(node_id) for node_id in self.members]

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Add up the usable answers, and update the model if there is a quorum; `outcome` lists the refused ones."""
        outcome = self.aggregate([self._read(reply) for reply in replies])
        return None, MetricRecord({"contributors": len(outcome.contributors), "refused": len(outcome.refused)})

    def aggregate(self, answers: Sequence[NodeAnswer]) -> RoundOutcome:
        """Add up answers of known nodes; see aggregate_train."""
        asked, look = self.name, look_by(self.method, self.shared, self.steps)
        of_edges = [answer for answer in answers if self.behind(answer.name) is not None]
        of_nodes = [answer for answer in answers if self.behind(answer.name) is None]
        accepted, refused = accept(of_nodes, asked, self.expected, self.steps, look)
        self.accepted = accepted
        sums, of_sums = accept_sums(of_edges, asked, self.expected, self.behind, accepted, self._look_at_sums(of_edges))
        refused += of_sums
        contributors = tuple(sorted([*accepted, *(number for each in sums for number in each.numbers)]))
        total = None
        if len(contributors) >= self.quorum:
            try:
                total = self._ruled(accepted.items(), refused, sums)
            except UnfitModel as unfit:
                parts = {answer.name: accepted[answer.number] for answer in of_nodes if answer.number in accepted}
                parts |= {each.edge: each.total.rounded() for each in sums}
                refused += self._blamed(parts) or [Refusal(THE_SUM, str(unfit))]
        sent = {each.number: each.reply.contribution.nbytes for each in of_nodes if each.reply is not None}
        up = sum(sent[number] for number in accepted) + sum(each.nbytes for each in sums)
        self.outcome = RoundOutcome(asked, total, contributors, tuple(refused), up)
        return self.outcome

    def _look_at_sums(self, of_edges: Sequence[NodeAnswer]) -> Look:
        """The checks of edges' sums: every node in one has rounded what it sent."""
        most = max((len(self.behind(answer.name) or ()) for answer in of_edges), default=1)
        error = (most - 1) * sum(step.rounding for step in self.steps) if most > 1 else 0.0
        return look_by(self.method, self.shared, self.steps, error)

    def aggregate_securely(self, secure_group: SecureGroup, ask: Ask) -> RoundOutcome:
        """Lead the nodes through a secure sum, and update the model if enough of them stay to the end."""
        name, expected = self.name, self.expected
        shapes = {array: tuple(values.shape) for array, values in expected.arrays.items()}
        halving, facts = self.search.halving, {**name.facts(), **self.extra_facts, DRAWN: secrets.token_bytes(32)}
        groups = secure_group.parts or (secure_group,)
        if halving is not None:
            groups, facts = secure_group.halvings[halving], {**facts, HALVING: halving}
        request = Request("round", facts, self.shared.arrays)
        found = [sum_securely(ask, request, group, shapes, expected.words) for group in groups]
        look = look_by(self.method, self.shared, self.steps, secure_group.error(shapes, expected.words))
        refused = [refusal for each in found for refusal in each.refused]
        sums, spoilt = list[tuple[int, Contribution]](), list[tuple[int, ...]]()
        for each in found:
            reason = "" if each.total is None else look(each.total)
            if reason:
                refused.append(Refusal(THE_SUM, reason))
                spoilt.append(each.contributors)
                if halving is not None:
                    told = f"is in a half whose sum is spoilt: {reason}"
                    refused += [Refusal(each.names[number], told) for number in each.contributors]
            elif each.total is not None:
                sums.append((min(each.contributors), each.total))
        sums.sort(key=lambda numbered: numbered[0])
        contributors = tuple(sorted(number for each in found for number in each.contributors))
        if halving is not None:
            contributors = tuple(number for number in contributors if not any(number in half for half in spoilt))
        if sums or spoilt:
            search = self.search
            self.search = search.after_all(bool(spoilt)) if halving is None else search.after_halves(spoilt)
        total = None
        try:
            if secure_group.parts and len(contributors) >= self.quorum:
                total = self._ruled(sums, refused)
            elif sums and not secure_group.parts:
                # What the two halves add up to is what all nodes would have.
                total = self.combine(ordered_sum([part for _, part in sums]) if len(sums) > 1 else sums[0][1])
        except UnfitModel as unfit:
            refused.append(Refusal(THE_SUM, str(unfit)))
        up, down = sum(each.bytes_up for each in found), sum(each.bytes_down for each in found)
        self.outcome = RoundOutcome(name, total, contributors, tuple(refused), up, down)
        return self.outcome

    def _ruled(
        self, sums: Iterable[tuple[int, Contribution]], refused: list[Refusal], of_edges: Sequence[EdgeSum] = ()
    ) -> Contribution | None:
        """Move the model on by the rule's total; None, and a refusal more, where the rule has too few to judge by."""
        try:
            if of_edges:
                total = total_with(sums, [each.total for each in of_edges]).rounded()
            else:
                total = rule_of_round(self.rule, self.method, self.shared)(sums).total
        except HierfedError as error:
            refused.append(Refusal(THE_SUM, str(error)))
            return None
        return self.combine(total)

    @property
    def expected(self) -> Contribution:
        """A contribution to the next round, which shows the arrays of every other one."""
        if self._template is None:
            self._template = template(self.method, self.shared, self.steps)
        return self._template

    def combine(self, sent: Contribution) -> Contribution:
        """Move the model on by the total of what was sent; gives the total that the method combined.

        Raises UnfitModel, and leaves the model as it was, where no node could go on from the next one.
        """
        total = receive(self.steps, sent, Known.of(self.method, self.shared, self.steps))
        self.shared, self._template = self._next(total)
        return total

    def _next(self, total: Contribution) -> tuple[SharedModel, Contribution | None]:
        try:
            shared = self.method.combine(self.shared, total)
            if not shared.finite:
                raise UnfitModel(f"the model of round {shared.round} would not be finite: {DIVERGED}")
            expected = template(self.method, shared, self.steps) if shared.round < self.last else None
        except (ArithmeticError, RuntimeError, ValueError, IndexError) as error:
            raise UnfitModel(f"{NO_MODEL}: {type(error).__name__}: {DIVERGED}") from error
        if expected is not None and not all(array.isfinite().all() for array in expected.arrays.values()):
            raise UnfitModel(f"{NO_MODEL}: {DIVERGED}")
        return shared, expected

    def _blamed(self, parts: Mapping[str, Contribution]) -> list[Refusal]:
        """The nodes whose contribution alone, or the edges whose sum alone, gives no model that nodes can use."""
        found = []
        for name, contribution in parts.items():
            try:
                self._next(receive(self.steps, contribution, Known.of(self.method, self.shared, self.steps)))
            except UnfitModel as unfit:
                found.append(Refusal(name, f"alone, {unfit}"))
        return found if len(found) < len(parts) else []

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """No messages: nodes judge models on rows of their own, by another request."""
        return []

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """No metrics; see configure_evaluate."""
        return None

    def summary(self) -> None:
        """No log: the run's own record says more."""

    def _read(self, message: Message) -> NodeAnswer:
        # Flower's own errors, of nodes that are gone, name no node.
        return read_answer(message, self.members.get(message.metadata.src_node_id, NOBODY))


def read_answer(message: Message, member: Member) -> NodeAnswer:
    """A node's answer: its reply, or the reason why there is none."""
    if message.has_error():
        return NodeAnswer(member.name, member.number, None, printable(message.error.reason or "no reason given"))
    try:
        return NodeAnswer(member.name, member.number, read_reply(message))
    except (ValueError, TypeError, KeyError) as error:
        return NodeAnswer(member.name, member.number, None, f"cannot be read: {printable(error)}")

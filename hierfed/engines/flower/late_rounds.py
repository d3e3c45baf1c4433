"""Asynchronous rounds over Flower: the server steps whenever enough nodes have answered, and real nodes decide which.

Each round's outcome names who was in it, in the order of the answers, and who was refused; all else follows from that
(hierfed.federated.recorded), so that one process can repeat the training (hierfed.engines.asynchronous.RecordedOrder).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from hierfed.engines.asynchronous import LateSums
from hierfed.engines.exchange import Fact, Member, Request
from hierfed.engines.flower.federation import Awaited, Federation
from hierfed.engines.flower.strategy import RoundOutcome, SumStrategy, UnfitModel
from hierfed.engines.replies import Look, NodeAnswer, Refusal, RoundName, accept, look_by
from hierfed.engines.rounds import Lateness
from hierfed.engines.secure_round import THE_SUM
from hierfed.errors import HierfedError
from hierfed.federated.contract import Contribution, SharedModel, SteeredMethod

BEGINS_ANEW = "is asked anew: the server has begun again, and keeps no sums of single nodes"
AWAY = "was away"
SLOW = "is not asked: it was slow in the first round"
# Nodes and server look for messages once in about so many seconds: shorter times say nothing of a node.
LOOKING_SECONDS = 3.0

OnRound = Callable[[RoundOutcome, int, float], None]


@dataclass(frozen=True)
class _Given:
    """A model that a node works with, and what its answer has to be. expected, look: see hierfed.engines.replies."""

    shared: SharedModel
    name: RoundName
    expected: Contribution
    look: Look


@dataclass(frozen=True)
class _Answer:
    """An answer that can be used. nbytes: as it was sent."""

    member: Member
    given: _Given
    contribution: Contribution
    nbytes: int


class LateRounds:
    """The asynchronous rounds of one stage.

    strategy: holds the model, and does the rounds of everybody.
    names: of the nodes that the training began with. More may join, and fewer be there.
    facts: gives facts for a node's next request, by its name.
    on_round: see Federation.run_rounds.
    """

    def __init__(
        self,
        federation: Federation,
        strategy: SumStrategy,
        late: Lateness,
        names: Collection[str],
        facts: Callable[[str], Mapping[str, Fact]],
        on_round: OnRound,
    ):
        self._federation, self._strategy, self._late = federation, strategy, late
        self._names, self._facts, self._on_round = names, facts, on_round
        self._sums = LateSums(strategy.method, late)
        self._awaited = Awaited()
        self._given, self._asked = dict[str, _Given](), set[str]()
        self._waiting, self._refused = list[_Answer](), dict[Member, Refusal]()
        self._bytes_down = 0
        self._quorum, self._slow = strategy.quorum, frozenset[str]()

    def run(self, rounds: int) -> None:
        """Run rounds until the model has this many.

        The opening rounds are of everybody, but for those that only steer: they leave out who was slow in the first.
        The first one of sums that can only be added is of everybody too. A server that was started again in the midst
        of the training has lost the sums of single nodes, and begins with such a round.
        Raises HierfedError where too few nodes answer, or no model follows from what they send.
        """
        strategy, everybody = self._strategy, self._late.of_everybody
        if strategy.shared.round >= rounds:
            return
        if strategy.shared.round >= everybody and strategy.shared.round > strategy.method.start().round:
            refused = tuple(Refusal(name, BEGINS_ANEW) for name in self._names)
            self._on_round(RoundOutcome(strategy.name, None, (), refused, 0), 0, 0.0)
            everybody = strategy.shared.round + 1
        made_with = strategy.shared

        def of_everybody(outcome: RoundOutcome, bytes_down: int, seconds: float) -> None:
            nonlocal made_with
            told = self._with_absent(outcome)
            if outcome.total is not None:
                self._sums.begin(strategy.accepted, made_with)
                if made_with.round == strategy.method.start().round:
                    self._slow = frozenset(self._names) - self._in_time()
                made_with = strategy.shared
            self._on_round(told, bytes_down, seconds)
            self._leave_out()

        strategy.facts_of = lambda name: self._facts(name) if name in self._slow else None
        self._federation.run_rounds(strategy, min(everybody, rounds), of_everybody)
        named: Iterable[str] = self._names
        while strategy.shared.round < rounds:
            now = self._model()
            self._given |= dict.fromkeys(named, now)
            named = self._step(now)
            self._asked -= {*named}
        self._federation.stop_listening(self._awaited)

    def _in_time(self) -> frozenset[str]:
        """The nodes that steering rounds ask."""
        return frozenset(self._late.in_time(self._federation.seconds, LOOKING_SECONDS))

    def _leave_out(self) -> None:
        """Ask everybody in the next round or, where it only steers, all but the slow."""
        strategy = self._strategy
        steers = isinstance(strategy.method, SteeredMethod) and strategy.name.number in strategy.method.steering_rounds
        strategy.left_out = self._slow if steers else ()
        strategy.quorum = max(min(self._quorum, len(self._names) - len(strategy.left_out)), 1)

    def _model(self) -> _Given:
        """The model as it is."""
        strategy = self._strategy
        look = look_by(strategy.method, strategy.shared, strategy.steps)
        return _Given(strategy.shared, strategy.name, strategy.expected, look)

    def _with_absent(self, outcome: RoundOutcome) -> RoundOutcome:
        """The outcome of a round of everybody, which names everybody."""
        numbers = {self._federation.number(name): name for name in self._names}
        told = {each.node for each in outcome.refused} | {numbers.get(number) for number in outcome.contributors}
        left_out = self._strategy.left_out
        absent = [Refusal(name, SLOW if name in left_out else AWAY) for name in self._names if name not in told]
        return replace(outcome, refused=(*outcome.refused, *absent))

    def _step(self, now: _Given) -> list[str]:
        """Wait for enough answers, and move the model on from `now`; gives the names of those who work no more."""
        strategy, federation = self._strategy, self._federation
        wanted, began = self._late.wanted(now.shared, len(self._names)), federation.clock()
        federation.allow(now.expected.nbytes)
        self._awaited.failed.clear()
        self._listen(now, 0.0)
        waits = 0
        while len(self._waiting) < wanted:
            waits = 0 if self._listen(now, federation.patience.deadline) else waits + 1
            if waits >= federation.patience.attempts:
                raise HierfedError(
                    f"round {now.name.number} of '{now.name.stage}': {len(self._waiting)} of {wanted} nodes have "
                    f"answered, and none for {waits * federation.patience.deadline:g} s; the model as it was is kept: "
                    "start the server again when nodes are back"
                )
        taken, self._waiting = self._waiting[:wanted], self._waiting[wanted:]
        refused, self._refused = self._refused, {}
        for answer in taken:
            self._sums.take(answer.member.number, answer.contribution, answer.given.shared)
        self._sums.forget(member.number for member in refused)
        total, told = None, list(refused.values())
        try:
            total = strategy.combine(self._sums.total(now.shared))
        except UnfitModel as unfit:
            told.append(Refusal(THE_SUM, str(unfit)))
        numbers, up = tuple(answer.member.number for answer in taken), sum(answer.nbytes for answer in taken)
        down, self._bytes_down = self._bytes_down, 0
        self._on_round(RoundOutcome(now.name, total, numbers, tuple(told), up), down, federation.clock() - began)
        if total is None:
            raise HierfedError(f"round {now.name.number} of '{now.name.stage}': {told[-1].reason}")
        return [*(answer.member.name for answer in taken), *(member.name for member in refused)]

    def _listen(self, now: _Given, within: float) -> bool:
        """Ask those that have nothing to do, and take the next answers; True if there are any within these seconds."""
        answers = self._federation.listen(lambda member: self._request(member, now), self._awaited, within)
        for answer in answers:
            self._take(answer)
        return bool(answers)

    def _request(self, member: Member, now: _Given) -> Request | None:
        """The request to a member that has nothing to do: with the model after the step that its last answer was in."""
        if member in self._refused or any(answer.member == member for answer in self._waiting):
            return None
        given = self._given.setdefault(member.name, now)
        # Entries would end with another model than one that is not the present one, and who is asked again has them.
        newest = given is now and member.name not in self._asked
        facts = self._facts(member.name) if newest else {}
        self._asked.add(member.name)
        self._bytes_down += given.shared.nbytes
        return Request("round", {**given.name.facts(), **facts}, given.shared.arrays)

    def _take(self, answer: NodeAnswer) -> None:
        """Take an answer that can be used; of others the reason goes with the next step."""
        strategy, given = self._strategy, self._given[answer.name]
        member = Member(answer.name, answer.number)
        accepted, refused = accept([answer], given.name, given.expected, strategy.steps, given.look)
        if refused:
            self._refused[member] = refused[0]
        elif answer.reply is not None:
            sent = answer.reply.contribution.nbytes
            self._waiting.append(_Answer(member, given, accepted[answer.number], sent))

"""A node's side of a federation: it answers the server's requests from rows that stay on the node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric import ec

from hierfed.data.catalogue import Catalogue
from hierfed.data.federation import Node
from hierfed.data.reading.catalogue_file import catalogue_of_bytes, listed
from hierfed.data.reading.own import OwnRatings, own_ratings
from hierfed.deployment.batches import check_batch, note_taught, rows_taught
from hierfed.deployment.contents import check_models, check_reply, check_request, check_sum
from hierfed.deployment.local_models import judged, keep_finished
from hierfed.deployment.partners import check_partners
from hierfed.deployment.plan import Plan, check_deployable, check_update, read_finished, read_plan
from hierfed.deployment.policy import Asked, Policy
from hierfed.deployment.protocol import (
    LEDGER,
    SCALE,
    SECURE,
    UNKNOWN_SCALE,
    Introduction,
    introduce,
    is_name,
    other_version,
)
from hierfed.deployment.signing import NodeSigner, public_text
from hierfed.deployment.sources import own_source
from hierfed.deployment.state import ASKED, NodeState, Origin
from hierfed.deployment.witness import Witness
from hierfed.engines.exchange import Fact, Reply, Request
from hierfed.engines.replies import look_by
from hierfed.engines.rounds import steps_of
from hierfed.engines.secure_round import STEPS, UNMASK, SecureNode
from hierfed.errors import HierfedError, SettingsError
from hierfed.federated.contract import SharedModel, SumMethod
from hierfed.federated.private import PrivateState
from hierfed.federated.remembered import beside, of_method, of_steps
from hierfed.federated.stage import RATING
from hierfed.federated.steps import Known, send

Value = TypeVar("Value")

# Errors of a method on a model that no honest sums can have given: of another shape, singular, or beyond all numbers.
UNUSABLE = (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class RoundState:
    """The private state of a node after a round of a stage."""

    stage: str
    number: int
    state: PrivateState | None


class NodeSide:
    """One node; `answer` takes the server's requests.

    catalogue: the digest of the only catalogue that the node agrees to; "" accepts the server's.
    peers: the public keys of the only nodes that it adds with, and that by secure sums alone; empty accepts any list.
    policy: its conditions; None for the usual ones.
    tell: takes a line for each event.
    """

    def __init__(
        self,
        name: str,
        origin: Origin,
        state: NodeState,
        key: ec.EllipticCurvePrivateKey | None = None,
        catalogue: str = "",
        peers: frozenset[str] = frozenset(),
        policy: Policy | None = None,
        tell: Callable[[str], None] = lambda event: None,
    ):
        if not is_name(name):
            raise SettingsError(f"--name {name!r}: expected one line of text without a slash")
        self.name, self.origin, self.state = name, origin, state
        self._agreed, self._peers, self._policy, self._tell = catalogue, peers, policy or Policy(), tell
        self._identity = state.begin(name, origin)
        for event in state.mend():
            tell(event)
        self._key = key or state.key()
        self._public = public_text(self._key.public_key())
        self._witness = Witness(name, state.folder, tell)
        self._source = own_source(state, origin)
        self._catalogue: Catalogue | None = None
        self._own: OwnRatings | None = None
        self._plan: Plan | None = None
        self._number = 0
        self._asked = Asked("", {})
        self._taught: dict[str, str] = {}
        self._securely = False
        self._secure: SecureNode | None = None
        self._releasing = 0
        self._round_state = RoundState("", 0, None)
        self._models: dict[str, SharedModel] = {}
        self._methods: dict[str, SumMethod] = {}
        self.over = False

    def answer(self, request: Request) -> Reply:
        """The reply to any request; raises HierfedError where the federation ends for this node.

        Requests and replies hold what hierfed.deployment.contents declares, and nothing else.
        """
        check_request(request, "" if self._plan is None else self._plan.settings.method)
        handlers = {
            "hello": self._hello,
            "setup": self._setup,
            "round": self._round,
            **dict.fromkeys(STEPS, self._step),
            "finish": self._finish,
            "judge": self._judge,
            "ledger": lambda _: Reply(),
            "goodbye": self._goodbye,
        }
        signature_facts = self._witness.countersign(request, self._models)
        self._begin_anew()
        reply = handlers[request.kind](request)
        self._witness.note_contribution(request, reply)
        reply = replace(reply, facts={**reply.facts, **signature_facts})
        check_reply(request, reply)
        return reply

    def _hello(self, request: Request) -> Reply:
        reason = other_version(request)
        if reason:
            return self._refuse(reason)
        found, nonce = request.facts.get("catalogue"), request.facts.get("nonce")
        if not isinstance(found, bytes) or not isinstance(nonce, bytes):
            return self._refuse("the server's greeting cannot be read")
        catalogue = catalogue_of_bytes(found)
        if self._agreed and listed(catalogue).digest() != self._agreed:
            return self._refuse("the server has another catalogue than the one that --catalogue names")
        securely = request.facts.get("sums") == SECURE
        if not securely and (self._peers or self._policy.sums == "secure"):
            asks = "--peer" if self._peers else "--policy"
            return self._refuse(f"the server would see this node's own contributions, and {asks} asks for secure sums")
        if self._securely and not securely:
            return self._refuse("the server promised secure sums before, and takes that back")
        self._witness.meet(str(request.facts.get(LEDGER)))
        self._securely = securely
        own = own_ratings(self._source, catalogue, self.origin.test_share)
        self._catalogue, self._own = catalogue, own
        asked = request.facts.get(SCALE) == UNKNOWN_SCALE and not self._securely
        left_out = f", {own.unknown:,} left out whose items the catalogue does not know" if own.unknown else ""
        for warning in own.warnings:
            self._tell(f"warning: {warning}")
        self._tell(f"{len(own.train):,} ratings to learn from, {len(own.test):,} to be judged on{left_out}")
        limits = own.limits if asked else None
        return introduce(
            Introduction(
                self.name, self._identity, self._public, self._witness.public, self.state.tag(own.digest), limits
            ),
            nonce,
            self._key,
        )

    def _setup(self, request: Request) -> Reply:
        catalogue = self._known(self._catalogue)
        asked = read_plan(request.facts, catalogue)
        check_deployable(asked.settings)
        check_update(asked)
        self._policy.check(asked)
        self._check_budget(asked)
        finished = read_finished(request)
        check_models(asked.settings.method, finished)
        if sum(len(shared.arrays) for shared in finished.values()) != len(request.arrays):
            raise HierfedError("the server's plan holds arrays of no stage that is over")
        own = self._known(self._own)
        asked.settings.data.limits(own.limits)
        self._taught = rows_taught(self.state, own, catalogue)
        check_batch(self.state, asked, self._taught, self._policy.least_users)
        self.state.keep_plan(request, catalogue)
        plan, number = self._known(self.state.plan())
        self._plan, self._number = plan, number
        self._asked = Asked(plan.training, self.state.record(ASKED))
        self._secure = self._joined(plan, number)
        self._round_state, self._models, self._methods = RoundState("", 0, None), {}, {}
        for stage, shared in finished.items():
            self._take(stage, shared)
        lines = request.facts.get(LEDGER)
        self._witness.begin(plan, lines if isinstance(lines, bytes) else b"")
        self._begin_anew()
        return Reply()

    def _begin_anew(self) -> None:
        """Forget the private states of stages in which the server has not used the last answer."""
        for stage in self._witness.begun_anew():
            self._round_state = RoundState("", 0, None)
            self.state.rounds.forget(stage)

    def _check_budget(self, plan: Plan) -> None:
        """Raise HierfedError for a plan that would cost the users twice what they were promised."""
        spent, rounds = self.state.released()
        if plan.private and spent not in ("", plan.training):
            raise HierfedError(
                f"this node's users have spent their budget in training {spent} ({len(rounds)} releases); another one "
                "costs them as much again: begin with another --state where that is meant"
            )

    def _joined(self, plan: Plan, number: int) -> SecureNode | None:
        """This node's part in secure sums; raises HierfedError for a plan that this node does not agree to."""
        if plan.secure_group is None:
            if self._securely:
                raise HierfedError("the server promised secure sums, and its plan has none")
            return None
        check_partners(plan.keys, number, self._public, self._peers, self.state, self._tell)
        return SecureNode(number, NodeSigner(self._key), plan.secure_group)

    def _step(self, request: Request) -> Reply:
        if request.kind == UNMASK and self._releasing:
            self.state.release(self._known(self._plan).training, self._releasing)
        return self._known(self._secure).answer(request)

    def _round(self, request: Request) -> Reply:
        plan, own = self._known(self._plan), self._known(self._own)
        training, stage, number = (request.facts[name] for name in ("training", "stage", "round"))
        if training != plan.training:
            raise HierfedError("the server asks for a round of another training than it told of")
        stage, number = str(stage), int(number)
        if plan.private and number in self.state.released()[1]:
            raise HierfedError(f"the server asks again for round {number}, whose sum was opened: it would cost twice")
        self._asked.note(request, plan, self._policy.most_requests)
        self.state.keep_record(ASKED, self._asked.record())
        self._releasing = number if plan.private else 0
        shared = SharedModel(request.arrays, number - 1)
        if stage not in self._methods:
            streams = self.state.streams(plan.training) if plan.private else None
            self._methods[stage] = plan.trainer(stage, self._models, streams)
        method, node = self._methods[stage], self._node()
        steps, before = steps_of(plan.settings), self._recall_last(stage, number - 1)
        try:
            note_taught(self.state, plan, self._taught)
            contribution, kept = next(iter(method.contribute(shared, [node], [of_method(before)])))
            check_sum(plan.settings.method, stage, contribution)
            # Steps may turn what is not finite into words or bits that hide it.
            if not all(array.isfinite().all() for array in contribution.arrays.values()):
                return self._refuse(f"its part of {stage}, round {number}, is not finite: the model diverges")
            known = Known.of(method, shared, steps)
            contribution, remembered = send(steps, contribution, known, self._number, of_steps(before))
            kept = beside(kept, remembered)
            # The server sees a contribution of its own where sums are open, and looks at it there.
            reason = "" if self._secure is None else look_by(method, shared, steps)(contribution)
        except UNUSABLE as error:
            # The error's text may disclose rows, so the server gets the kind alone.
            return self._refuse(f"cannot use the server's model of {stage}, round {number - 1}: {type(error).__name__}")
        if reason:
            return self._refuse(f"does not send its part of {stage}, round {number}: {reason}")
        if kept is not None:
            self._round_state = RoundState(stage, number, kept)
            self.state.rounds.keep(plan.training, stage, number, own.digest, kept)
        facts: dict[str, Fact] = {"training": training, "stage": stage, "round": number, "number": self._number}
        self._tell(f"{stage}, round {number}")
        return Reply(facts, contribution) if self._secure is None else self._secure.begin(request, contribution)

    def _finish(self, request: Request) -> Reply:
        self._take(str(request.facts["stage"]), SharedModel(request.arrays, int(request.facts["round"])))
        return Reply()

    def _take(self, stage: str, shared: SharedModel) -> None:
        """Keep the finished model of a stage."""
        plan, known = self._known(self._plan), self.state.model(stage)
        if known is not None and known.digest() != shared.digest():
            raise HierfedError(f"the server hands out another finished model of {stage[:40]!r} than before")
        self._models[stage] = shared
        self._plan = keep_finished(self.state, plan, stage, self._models)

    def _judge(self, request: Request) -> Reply:
        """Sums of squared errors before and after personalisation, on rows that were never learned from."""
        self._refuse_without_noise()
        plan, own, shared = self._known(self._plan), self._known(self._own), self._known(self._models.get(RATING))
        kept = of_method(self._recall(RATING, shared.round))
        try:
            (model,) = plan.method.personalise(shared, [self._node()], [kept])
            sums = judged(plan, shared, model, len(own.train), own.test)
        except UNUSABLE as error:
            return self._refuse(f"cannot use the finished model: {type(error).__name__}")
        return Reply(contribution=sums) if self._secure is None else self._secure.begin(request, sums)

    def _goodbye(self, request: Request) -> Reply:
        self.over = True
        reason = str(request.facts.get("reason", ""))
        if reason:
            raise HierfedError(f"the server refuses this node: {reason}")
        return Reply()

    def _refuse_without_noise(self) -> None:
        if self._known(self._plan).private:
            raise HierfedError("the server asks for a sum without noise in a training with differential privacy")

    def _refuse(self, reason: str) -> Reply:
        self._tell(reason)
        return Reply({"refusal": reason})

    def _recall(self, stage: str, number: int) -> PrivateState | None:
        """The private state of exactly that round; None without one."""
        if (self._round_state.stage, self._round_state.number) == (stage, number):
            return self._round_state.state
        plan, own = self._known(self._plan), self._known(self._own)
        return self.state.rounds.recall(plan.training, stage, number, own.digest)

    def _recall_last(self, stage: str, number: int) -> PrivateState | None:
        """The private state of that round, or of the last round before it that this node took part in."""
        if self._round_state.stage == stage and self._round_state.number <= number:
            return self._round_state.state
        plan, own = self._known(self._plan), self._known(self._own)
        return self.state.rounds.recall_last(plan.training, stage, number, own.digest)

    def _node(self) -> Node:
        own = self._known(self._own)
        return Node(self._number, self.name, own.train, own.test)

    def _known(self, value: Value | None) -> Value:
        if value is None:
            raise HierfedError("the server asks before it has told what a node must know")
        return value

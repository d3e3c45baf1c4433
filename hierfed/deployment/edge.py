"""An edge: a node to its server, a server to its own nodes, whose exact sum it sends up in the place of theirs.

It hands the server's requests down as they are, looks at each contribution as a server does, and adds. It keeps no
model and no ledger: after a restart the server tells it again what it must know, and its nodes come back by themselves.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric import ec

from hierfed.data.catalogue import Catalogue
from hierfed.data.reading.catalogue_file import catalogue_of_bytes
from hierfed.deployment.admission import NodeAdmission, ServerObserver
from hierfed.deployment.agreement import honest_sums
from hierfed.deployment.contents import EDGE_ASKED, check_models, check_reply, check_request
from hierfed.deployment.edge_admission import INTRODUCED_WITHIN, EdgeAdmission, Relay
from hierfed.deployment.edge_state import EdgeState
from hierfed.deployment.edges import NUMBERS, EdgeIntroduction, introduce_edge, why_no_edges
from hierfed.deployment.node import UNUSABLE
from hierfed.deployment.plan import Plan, check_deployable, read_finished, read_plan
from hierfed.deployment.protocol import (
    ENTRIES,
    LEDGER,
    SCALE,
    SECURE,
    natural,
    other_version,
)
from hierfed.deployment.server import Requirements
from hierfed.deployment.signing import public_text
from hierfed.engines.edge_sums import edge_reply
from hierfed.engines.exchange import REFUSAL, Reply, Request
from hierfed.engines.flower.federation import Federation
from hierfed.engines.replies import RoundName, accept, look_by, template
from hierfed.engines.rounds import steps_of
from hierfed.errors import HierfedError
from hierfed.federated.contract import SharedModel, SumMethod, ordered_sum
from hierfed.federated.exact_sum import exact_total
from hierfed.plain_text import LONGEST, plural, printable
from hierfed.sealed import MALFORMED

Value = TypeVar("Value")

SECURE_SUMS = "an edge adds open sums alone, and the server asks for secure sums: let nodes join the server themselves"


class EdgeSide:
    """One edge; `answer` takes the server's requests.

    key: the edge's own; None for that of its state.
    connect: makes the federation of the nodes that an admission lets in.
    allow: called before a round with the bytes of a node's contribution to it.
    """

    def __init__(
        self,
        state: EdgeState,
        key: ec.EllipticCurvePrivateKey | None,
        requirements: Requirements,
        connect: Callable[[NodeAdmission], Federation],
        observer: ServerObserver,
        allow: Callable[[int], None] = lambda contribution: None,
    ):
        self.name, self.state = state.name, state
        self._key = key or state.key()
        self._requirements, self._connect, self._observer, self._allow = requirements, connect, observer, allow
        self._admission: EdgeAdmission | None = None
        self._relay: Relay | None = None
        self._federation: Federation | None = None
        self._plan: Plan | None = None
        self._methods: dict[str, SumMethod] = {}
        self.over = False

    def answer(self, request: Request) -> Reply:
        """The reply to any request; raises HierfedError where the federation ends for this edge.

        Requests and replies hold what hierfed.deployment.contents declares for edges, and nothing else.
        """
        check_request(request, "" if self._plan is None else self._plan.settings.method, EDGE_ASKED)
        handlers = {
            "hello": self._hello,
            "setup": self._setup,
            "round": self._round,
            "finish": self._finish,
            "judge": self._judge,
            "ledger": self._hand_down,
            "goodbye": self._goodbye,
        }
        entries = request.facts.get(ENTRIES)
        if isinstance(entries, bytes):
            self._known(self._relay).follow(entries)
        reply = handlers[request.kind](request)
        if isinstance(entries, bytes):
            reply = replace(reply, facts={**reply.facts, **self._known(self._relay).signed()})
        check_reply(request, reply, EDGE_ASKED)
        return reply

    def dismiss(self) -> None:
        """Send the nodes away once all is over."""
        if self._federation is not None:
            self._federation.dismiss()

    def _hello(self, request: Request) -> Reply:
        reason = other_version(request)
        if reason:
            return self._refuse(reason)
        if request.facts.get("sums") == SECURE:
            return self._refuse(SECURE_SUMS)
        found, nonce, public = (request.facts.get(name) for name in ("catalogue", "nonce", LEDGER))
        if not isinstance(found, bytes) or not isinstance(nonce, bytes) or not isinstance(public, str):
            return self._refuse("the server's greeting cannot be read")
        catalogue = catalogue_of_bytes(found)
        if self._admission is None:
            try:
                scale = json.loads(str(request.facts.get(SCALE)))
                scale = None if scale is None else (float(scale[0]), float(scale[1]))
            except MALFORMED:
                return self._refuse("the scale in the server's greeting cannot be read")
            self._open(catalogue, public, scale)
        admission = self._known(self._admission)
        if (admission.catalogue.digest(), admission.ledger.public) != (catalogue.digest(), public):
            return self._refuse("the server has another catalogue or key than before: start the edge again")
        if not self.state.group:
            self._gather(admission)
        own = EdgeIntroduction(self.name, self.state.identity, public_text(self._key.public_key()), self.state.group)
        return introduce_edge(own, nonce, self._key)

    def _open(self, catalogue: Catalogue, public: str, scale: tuple[float, float] | None) -> None:
        group = self.state.group
        self._relay = Relay(public, {node.name: node.ledger for node in group})
        admission = EdgeAdmission(catalogue, self._requirements.keys, self._observer, self._relay, scale=scale)
        admission.edges.refused = "an edge joins a server, and no other edge"
        if group:
            admission.settled = frozenset(node.name for node in group)
            admission.nodes = {node.name: node.identity for node in group}
            admission.tags = {node.name: node.tag for node in group}
        self._admission, self._federation = admission, self._connect(admission)

    def _gather(self, admission: EdgeAdmission) -> None:
        """Wait for the nodes, and settle who they are."""
        federation = self._known(self._federation)
        admission.introduced_by = time.monotonic() + INTRODUCED_WITHIN
        federation.gather(self._requirements.nodes)
        admission.introduced_by = None
        names = sorted((member.name for member in federation.members.values()), key=natural)
        self.state.settle([admission.introduced[name] for name in names])
        admission.settled = frozenset(names)

    def _setup(self, request: Request) -> Reply:
        admission = self._known(self._admission)
        plan = read_plan(request.facts, admission.catalogue)
        check_deployable(plan.settings)
        reason = why_no_edges(plan.settings)
        if reason:
            raise HierfedError(f"the server's plan is for no edge: {reason}")
        if self._plan is not None and self._plan.training != plan.training:
            raise HierfedError("the server has begun another training: start the edge again")
        finished = read_finished(request)
        check_models(plan.settings.method, finished)
        try:
            told = json.loads(bytes(request.facts[NUMBERS]))  # type: ignore[arg-type]
            numbers = {str(name): int(number) for name, number in told.items()}
        except MALFORMED as error:
            raise HierfedError(f"the server's numbers of nodes cannot be read: {printable(error)}") from error
        if numbers.keys() != {node.name for node in self.state.group} or len({*numbers.values()}) < len(numbers):
            raise HierfedError("the server numbers other nodes than those of this edge, or two alike")
        self._plan, self._methods = plan.after(finished), {}
        admission.plan, admission.numbers = self._plan, numbers
        admission.finished, admission.over = finished, plan.rounds_left(finished) == 0
        self._known(self._relay).begin(bytes(request.facts.get(LEDGER, b"")))  # type: ignore[arg-type]
        return Reply()

    def _round(self, request: Request) -> Reply:
        plan, federation = self._known(self._plan), self._known(self._federation)
        stage, number = str(request.facts["stage"]), int(request.facts["round"])
        asked = RoundName(str(request.facts["training"]), stage, number)
        if asked.training != plan.training:
            raise HierfedError("the server asks for a round of another training than it told of")
        if stage not in self._methods:
            self._methods[stage] = plan.trainer(stage, self._known(self._admission).finished)
        method, shared, steps = self._methods[stage], SharedModel(request.arrays, number - 1), steps_of(plan.settings)
        try:
            expected, look = template(method, shared, steps), look_by(method, shared, steps)
        except UNUSABLE as error:
            return self._refuse(f"cannot use the model of {stage}, round {number - 1}: {type(error).__name__}")
        self._allow(expected.nbytes)
        quorum = self._requirements.quorum
        answers = federation.ask(lambda _: request, quorum)
        accepted, refused = accept(answers, asked, expected, steps, look)
        refused += federation.late()
        told = "; ".join(dict.fromkeys(f"{each.node}: {each.reason}" for each in refused))
        if told:
            self._observer.warn(f"{stage}, round {number}: refused: {told}")
        if len(accepted) < quorum:
            reasons = told and f" ({printable(told, LONGEST // 2)})"
            return self._refuse(f"{len(accepted)} of at least {quorum} nodes answered{reasons}")
        number_of = self._known(self._admission).number
        left_out = {number_of(each.node): each.reason for each in refused if number_of(each.node) not in accepted}
        try:
            total, _ = exact_total(accepted.items())
            reply = edge_reply(asked, total, accepted.keys(), left_out)
        except HierfedError as error:
            return self._refuse(str(error))
        self._observer.tell(
            f"{stage}, round {number}: the sum of {plural(len(accepted), 'node')}, {total.nbytes:,} bytes"
        )
        return reply

    def _finish(self, request: Request) -> Reply:
        admission = self._known(self._admission)
        stage, shared = str(request.facts["stage"]), SharedModel(request.arrays, int(request.facts["round"]))
        admission.finished[stage] = shared
        admission.plan = self._plan = self._known(self._plan).after(admission.finished)
        return self._hand_down(request)

    def _hand_down(self, request: Request) -> Reply:
        self._known(self._federation).ask(lambda _: request, 1)
        return Reply()

    def _judge(self, request: Request) -> Reply:
        """The sums of the nodes' errors; see hierfed.deployment.agreement."""
        answers = self._known(self._federation).ask(lambda _: request, 1)
        sums = {
            each.name: each.reply.contribution for each in answers if each.reply and REFUSAL not in each.reply.facts
        }
        good = honest_sums(sums, self._known(self._plan).limits, self._observer.tell)
        return Reply(contribution=ordered_sum(good)) if good else self._refuse("none of its nodes has judged the model")

    def _goodbye(self, request: Request) -> Reply:
        self.over = True
        reason = str(request.facts.get("reason", ""))
        if reason:
            raise HierfedError(f"the server refuses this edge: {printable(reason)}")
        # The next training begins with the nodes that are there then, and with their ratings of then.
        self.state.settle(())
        return Reply()

    def _refuse(self, reason: str) -> Reply:
        self._observer.warn(reason)
        return Reply({REFUSAL: reason})

    def _known(self, value: Value | None) -> Value:
        if value is None:
            raise HierfedError("the server asks before it has told what an edge must know")
        return value

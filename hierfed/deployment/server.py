"""The server's side: it admits nodes, runs and resumes rounds, hands out models, and adds up the gain."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from hierfed.data.catalogue import Catalogue
from hierfed.deployment.agreement import agree, gain
from hierfed.deployment.bookkeeping import Bookkeeper
from hierfed.deployment.checkpoint import Checkpoint, load_checkpoint
from hierfed.deployment.plan import Plan
from hierfed.deployment.protocol import Introduction, hello, natural, new_nonce, read_introduction
from hierfed.deployment.round_log import append_round, missing_rounds, read_rounds
from hierfed.engines.exchange import Member, Reply, Request
from hierfed.engines.flower.federation import AdmissionRefused, Change, Federation, Patience
from hierfed.engines.flower.strategy import RoundOutcome, SumStrategy
from hierfed.engines.replies import NodeAnswer
from hierfed.engines.rounds import rule_of, steps_of
from hierfed.evaluation.collection import collect_federation
from hierfed.federated.contract import SharedModel
from hierfed.federated.groups import GroupSums
from hierfed.federated.halves import Search
from hierfed.federated.stage import RATING
from hierfed.private_randomness import KEY_BYTES, PrivateStreams
from hierfed.results import DeployedRound, RefusedAnswer, Result
from hierfed.runs.models import KeptModel, save_model, save_ranking
from hierfed.settings import Settings

SPOILS = "was put out: every sum that it is in is beyond what ratings can give"


@dataclass(frozen=True)
class Requirements:
    """The conditions of a federation.

    nodes: the number of nodes to begin with, and to resume with.
    quorum: the least number of contributions in a round.
    keys: the public keys of nodes that may join; None for all.
    """

    nodes: int
    quorum: int
    patience: Patience
    keys: frozenset[str] | None = None


class ServerObserver:
    """Observes a server; each method may be overridden."""

    def tell(self, event: str) -> None:
        """Takes a line for each event."""

    def warn(self, event: str) -> None:
        """Takes a line for an event that somebody should look at."""
        self.tell(event)

    def on_change(self, change: Change) -> None:
        """A node has joined, is gone, or is refused."""
        (self.tell if change.kind == "joined" else self.warn)(str(change))

    def on_contact(self, name: str) -> None:
        """A node has answered."""

    def on_plan(self, rounds: int) -> None:
        """Training begins or resumes; rounds: the number to come, opening rounds included."""

    def on_round(self, record: DeployedRound) -> None:
        """A round has ended, or was abandoned."""

    def check(self) -> None:
        """Called again and again while the server waits; an exception ends the wait."""


@dataclass
class NodeAdmission:
    """Admits nodes, numbers them and sets them up; see Admission.

    secure_sums: True if nodes add securely; a node outside the plan then cannot join any more.
    scale: the lowest and the highest possible rating; None asks nodes for theirs.
    nodes: each node's identity by its name, in the order of their numbers.
    finished: the models of the finished stages.
    introduced: the introductions of nodes that joined since this server started.
    nonces: of greetings without an answer yet.
    tags: the name of each node's ratings; see Introduction.
    over: True once no more is learned: nodes may then come back with other ratings.
    put_out: nodes that spoilt sums, and may not come back.
    """

    catalogue: Catalogue
    keys: frozenset[str] | None
    observer: ServerObserver
    ledger: Bookkeeper
    secure_sums: bool = False
    scale: tuple[float, float] | None = None
    plan: Plan | None = None
    nodes: dict[str, str] = field(default_factory=dict)
    finished: dict[str, SharedModel] = field(default_factory=dict)
    introduced: dict[str, Introduction] = field(default_factory=dict)
    nonces: set[bytes] = field(default_factory=set)
    tags: dict[str, str] = field(default_factory=dict)
    over: bool = False
    put_out: set[str] = field(default_factory=set)

    def hello(self) -> Request:
        """The catalogue, and a nonce to sign."""
        nonce = new_nonce()
        self.nonces.add(nonce)
        return hello(self.catalogue, nonce, self.ledger.public, self.secure_sums, self.scale)

    def admit(self, reply: Reply) -> str:
        """The node's own name, which no other node has; raises AdmissionRefused."""
        value = reply.facts.get("nonce")
        nonce = value if isinstance(value, bytes) else b""
        found = read_introduction(reply, nonce, self.keys)
        if isinstance(found, str):
            raise AdmissionRefused(found)
        if nonce not in self.nonces:
            raise AdmissionRefused("its introduction answers no greeting of this server")
        self.nonces.remove(nonce)
        if (found.limits is None) != (self.secure_sums or self.scale is not None):
            raise AdmissionRefused("it says more or less of its ratings than it was asked")
        if self.plan is not None and self.plan.keys and found.key not in self.plan.keys:
            raise AdmissionRefused("the nodes that add securely were settled before it came")
        if self.nodes.setdefault(found.name, found.identity) != found.identity:
            raise AdmissionRefused(f"another node is already called '{found.name}': choose another --name")
        if found.name in self.put_out:
            raise AdmissionRefused(f"node '{found.name}' {SPOILS}")
        if self.plan is not None and self.tags.get(found.name, found.tag) != found.tag and not self.over:
            raise AdmissionRefused(
                f"node '{found.name}' comes back with other ratings than it began this training with: give it those, "
                "or begin a training anew with another --name"
            )
        self.tags.setdefault(found.name, found.tag)
        if self.ledger.known_key(found.name) not in (None, found.ledger):
            raise AdmissionRefused("the ledger has another key of it to countersign with")
        self.introduced[found.name] = found
        return found.name

    def number(self, name: str) -> int:
        """Its place among the names."""
        return list(self.nodes).index(name)

    def setup(self, member: Member) -> Request | None:
        """The plan, once there is one."""
        if self.plan is None:
            return None
        return self.ledger.with_lines(self.plan.request(member.number, self.finished))

    def on_answer(self, answer: NodeAnswer) -> None:
        """Keep the countersignature in the answer, if there is one."""
        if answer.reply is not None:
            self.observer.on_contact(answer.name)
        event = self.ledger.keep_countersignature(answer)
        if event:
            self.tell(event)

    def ledger_keys(self) -> dict[str, str]:
        """The ledger keys of nodes that joined since this server started."""
        return {name: found.ledger for name, found in self.introduced.items()}

    def changed(self, change: Change) -> None:
        """Pass the change to the observer."""
        self.observer.on_change(change)

    def tell(self, event: str) -> None:
        """Pass the event to the observer."""
        self.observer.tell(event)

    def check(self) -> None:
        """Let the observer end the wait."""
        self.observer.check()


def conduct(
    settings: Settings,
    catalogue: Catalogue,
    folder: Path,
    connect: Callable[[NodeAdmission], Federation],
    requirements: Requirements,
    observer: ServerObserver,
) -> Result:
    """Train with the nodes that join, from the last checkpoint in `folder` if there is one, and keep the models there.

    connect: makes the federation that this admission serves.
    Raises HierfedError if rounds fail again and again.
    """
    began = time.monotonic()
    checkpoint = load_checkpoint(folder, settings, catalogue, observer.tell)
    scale, secure_sums = settings.data.scale or None, settings.privacy.secure_sums
    admission = NodeAdmission(catalogue, requirements.keys, observer, Bookkeeper(folder), secure_sums, scale)
    observer.tell(f"signs its ledger with the key {admission.ledger.fingerprint}")
    # A damaged line is refused before anything is trained.
    lacking = missing_rounds(folder, admission.ledger.rounds)
    if lacking:
        observer.tell(lacking)
    if checkpoint is not None:
        admission.plan, admission.nodes = checkpoint.plan, dict(checkpoint.nodes)
        admission.tags, admission.put_out = dict(checkpoint.tags), set(checkpoint.put_out)
        admission.ledger.append(checkpoint.entry)
        finished = checkpoint.plan.rounds_left(checkpoint.models) == 0
        rounds = max((model.round for model in checkpoint.models.values()), default=0)
        anew = "was trained before, and is handed out again; choose another --name to train anew"
        admission.over = finished
        observer.tell(anew if finished else f"goes on after round {rounds}")
    federation = connect(admission)
    waited_for = requirements.nodes - len(admission.put_out)
    observer.tell(f"waiting for {waited_for} nodes")
    federation.gather(waited_for)
    if checkpoint is None:
        names = sorted((member.name for member in federation.members.values()), key=natural)
        admission.nodes = {name: admission.nodes[name] for name in names}
        admission.plan = agree(settings, catalogue, [admission.introduced[name] for name in names], requirements.quorum)
        opening = admission.ledger.opening(admission.plan, {name: admission.introduced[name].ledger for name in names})
        admission.tags = {name: admission.introduced[name].tag for name in names}
        checkpoint = Checkpoint(admission.plan, admission.nodes, opening, tags=admission.tags)
        checkpoint.save(folder)
        admission.ledger.append(checkpoint.entry)
    plan = admission.plan = checkpoint.plan
    observer.on_plan(plan.rounds_left(checkpoint.models))
    training = _Training(plan, checkpoint, federation, admission, requirements, folder)
    for stage in plan.stages():
        training.run(stage.name, stage.rounds)
    plan, models = training.plan, training.checkpoint.models
    rating = models[RATING]
    save_model(folder, KeptModel(settings, plan.limits, catalogue, rating, {"digest": rating.digest()}), plan.method)
    save_ranking(folder, {name: models[name] for name in models if name != RATING and name not in plan.earlier})
    learned, gained = (0, None) if plan.private else gain(federation, plan, requirements.patience, observer.tell)
    if not admission.ledger.ended:
        seal = admission.ledger.seal(training.checkpoint.models)
        federation.ask(lambda _: seal, 1)
        end = admission.ledger.end()
        federation.ask(lambda _: end, 1)
    federation.dismiss()
    return collect_federation(
        folder.name,
        settings,
        nodes=list(admission.nodes),
        items=len(catalogue),
        ratings=learned,
        rounds=read_rounds(folder),
        gain=gained,
        privacy=plan.record(rating.round),
        digest=rating.digest(),
        seconds=time.monotonic() - began,
        scale=plan.limits,
    )


class _Training:
    """The rounds of each stage, with a checkpoint after every one. plan: includes the finished earlier stages."""

    def __init__(
        self,
        plan: Plan,
        checkpoint: Checkpoint,
        federation: Federation,
        admission: NodeAdmission,
        requirements: Requirements,
        folder: Path,
    ):
        self.plan, self.checkpoint, self._federation = plan, checkpoint, federation
        self._admission, self._requirements, self._folder = admission, requirements, folder
        self.records: list[DeployedRound] = []
        self._search: Search | None = None
        if plan.secure_group is not None:
            halvings = len(plan.secure_group.halvings)
            self._search = Search(halvings, checkpoint.halvings, over=checkpoint.halvings > 0)

    def run(self, stage: str, rounds: int) -> None:
        """Run the remaining rounds of a stage, and hand out its model."""
        # The server draws noise only for `template`, a contribution of one made-up rating that shows the arrays.
        streams = PrivateStreams(secrets.token_bytes(KEY_BYTES)) if self.plan.private else None
        method = self.plan.trainer(stage, self.checkpoint.models, streams)
        shared = self.checkpoint.models.get(stage) or method.start()
        quorum, secure_group, rule = self._requirements.quorum, self.plan.secure_group, rule_of(self.plan.settings)
        if secure_group is not None and isinstance(rule, GroupSums):
            rule = rule.rule  # The nodes of a group have added already.
        steps = steps_of(self.plan.settings)
        strategy = SumStrategy(method, shared, self.plan.training, stage, quorum, secure_group, rule, steps)
        strategy.last, ledger = rounds, self._admission.ledger
        strategy.extra_facts = ledger.facts()
        strategy.search = self._search or strategy.search

        def on_round(outcome: RoundOutcome, bytes_down: int, seconds: float) -> None:
            self._follow(strategy.search)
            released = self.plan.record(strategy.shared.round)
            names, keys = list(self._admission.nodes), self._admission.ledger_keys()
            line = ledger.round(outcome, strategy.shared, names, keys, released)
            if outcome.total is not None:
                self.checkpoint = replace(
                    self.checkpoint.with_model(stage, strategy.shared),
                    nodes=dict(self._admission.nodes),
                    tags=dict(self._admission.tags),
                    put_out=frozenset(self._admission.put_out),
                    halvings=strategy.search.used,
                    entry=line,
                )
                self.checkpoint.save(self._folder)
            ledger.append(line)
            strategy.extra_facts = ledger.facts()
            self.records.append(self._record(outcome, bytes_down, seconds))
            append_round(self._folder, self.records[-1], ledger.rounds)
            self._admission.observer.on_round(self.records[-1])

        self._federation.run_rounds(strategy, rounds, on_round)
        self._admission.finished[stage] = strategy.shared
        self.plan = self.plan.after(self._admission.finished)
        finished = Request(
            "finish", {"stage": stage, "round": strategy.shared.round, **ledger.facts()}, strategy.shared.arrays
        )
        self._federation.ask(lambda _: finished, 1)

    def _follow(self, search: Search) -> None:
        """Tell of a search by halves, and put out the node that it has found."""
        before, self._search = self._search, search
        if search == before:
            return
        tell = self._admission.tell
        if search.found is not None and (before is None or before.found is None):
            name = list(self._admission.nodes)[search.found]
            self._admission.put_out.add(name)
            self._federation.put_out(name, f"it {SPOILS}")
        elif search.over or (search.used == search.halvings > 0 and search.found is None):
            tell("the search by halves has found no node: more than one spoils sums, or one does so now and then")
        elif search.halving is not None:
            tell(
                f"two sums in a row were spoilt: the next round is added by halves, {search.used + 1} of the "
                f"{search.halvings} that there are"
            )

    def _record(self, outcome: RoundOutcome, bytes_down: int, seconds: float) -> DeployedRound:
        names, losses = list(self._admission.nodes), list[float]()
        if outcome.name.stage == RATING and outcome.name.number > 0 and outcome.total:
            losses = self.plan.method.train_loss(outcome.total)
        return DeployedRound(
            stage=outcome.name.stage,
            round=outcome.name.number,
            contributors=[names[number] for number in outcome.contributors],
            refused=[RefusedAnswer(node=each.node, reason=each.reason) for each in outcome.refused],
            abandoned=outcome.total is None,
            train_loss=losses,
            bytes_up=outcome.bytes_up,
            bytes_down=bytes_down,
            seconds=seconds,
        )

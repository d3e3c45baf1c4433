"""The server's side: it runs and resumes rounds, hands out models, and adds up the gain."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from hierfed.data.catalogue import Catalogue
from hierfed.deployment.admission import SPOILS, NodeAdmission, ServerObserver
from hierfed.deployment.agreement import agree, gain
from hierfed.deployment.bookkeeping import Bookkeeper
from hierfed.deployment.checkpoint import Checkpoint, load_checkpoint
from hierfed.deployment.edges import why_no_edges
from hierfed.deployment.former import Former
from hierfed.deployment.plan import Plan
from hierfed.deployment.protocol import natural
from hierfed.deployment.round_log import append_round, missing_rounds, read_rounds
from hierfed.engines.exchange import Member, Request
from hierfed.engines.flower.federation import Federation
from hierfed.engines.flower.late_rounds import LateRounds
from hierfed.engines.flower.patience import Patience
from hierfed.engines.flower.strategy import RoundOutcome, SumStrategy
from hierfed.engines.going_on import OPENING, begun
from hierfed.engines.rounds import lateness_of, rule_of, steps_of
from hierfed.errors import HierfedError
from hierfed.evaluation.collection import collect_federation
from hierfed.federated.contract import SharedModel, SumMethod
from hierfed.federated.groups import GroupSums
from hierfed.federated.halves import Search
from hierfed.federated.stage import RATING
from hierfed.plain_text import plural
from hierfed.private_randomness import KEY_BYTES, PrivateStreams
from hierfed.results import DeployedRound, RefusedAnswer, Result
from hierfed.runs.models import KeptModel, save_model, save_ranking
from hierfed.settings import Settings


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


def conduct(
    settings: Settings,
    catalogue: Catalogue,
    folder: Path,
    connect: Callable[[NodeAdmission], Federation],
    requirements: Requirements,
    observer: ServerObserver,
    former: Former | None = None,
) -> Result:
    """Train with the nodes that join, from the last checkpoint in `folder` if there is one, and keep the models there.

    connect: makes the federation that this admission serves. former: see read_former; catalogue has its items first.
    Raises HierfedError if rounds fail again and again.
    """
    began = time.monotonic()
    checkpoint = load_checkpoint(folder, settings, catalogue, observer.tell)
    _check_begun(folder, checkpoint, former)
    scale, secure_sums = settings.data.scale or None, settings.privacy.secure_sums
    ledger = Bookkeeper(folder)
    admission = NodeAdmission(catalogue, requirements.keys, observer, ledger, secure_sums, scale)
    admission.edges.refused = why_no_edges(settings)
    observer.tell(f"signs its ledger with the key {ledger.fingerprint}")
    # A damaged line is refused before anything is trained.
    lacking = missing_rounds(folder, ledger.rounds)
    if lacking:
        observer.tell(lacking)
    if checkpoint is not None:
        _take_up(checkpoint, admission, ledger)
    elif former is not None:
        admission.identities = former.nodes
        told = f"round {former.update.round} of the model {former.update.model[:12]}"
        observer.tell(f"goes on from {told}, for {former.update.rounds} rounds")
    federation = connect(admission)
    waited_for = requirements.nodes - len(admission.put_out)
    observer.tell(f"waiting for {plural(waited_for, 'node')}")
    federation.gather(waited_for)
    if checkpoint is None:
        checkpoint = _agreed(settings, federation, admission, ledger, requirements.quorum, former)
        checkpoint.save(folder)
        ledger.append(checkpoint.entry)
    plan = admission.plan = checkpoint.plan
    ledger.go_on(plan)
    observer.on_plan(plan.rounds_left(checkpoint.models))
    training = _Training(plan, checkpoint, federation, admission, ledger, requirements, folder)
    for stage in plan.stages():
        training.run(stage.name, stage.rounds)
    plan, models = training.plan, training.checkpoint.models
    rating = models[RATING]
    save_model(folder, KeptModel(settings, plan.limits, catalogue, rating, {"digest": rating.digest()}), plan.method)
    save_ranking(folder, {name: models[name] for name in plan.beside})
    learned, gained = (0, None) if plan.private else gain(federation, plan, requirements.patience, observer.tell)
    if not ledger.ended:
        seal = ledger.seal(training.checkpoint.models)
        federation.ask(lambda _: seal, 1)
        end = ledger.end()
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
        updates=[] if former is None else [former.record(rating.round, len(catalogue), learned)],
    )


def _check_begun(folder: Path, checkpoint: Checkpoint | None, former: Former | None) -> None:
    """Raise HierfedError for a training that was begun otherwise than it is gone on with."""
    if checkpoint is not None and checkpoint.plan.update != (None if former is None else former.update):
        raise HierfedError(
            f"{folder}: this training was begun with another --update, or another --rounds or --keep-embedding of it: "
            "say the same, choose another --name, or --begin-anew"
        )


def _take_up(checkpoint: Checkpoint, admission: NodeAdmission, ledger: Bookkeeper) -> None:
    """Let an admission know what the server knew when it stopped."""
    admission.plan, admission.nodes = checkpoint.plan, dict(checkpoint.nodes)
    admission.tags, admission.put_out = dict(checkpoint.tags), set(checkpoint.put_out)
    ledger.append(checkpoint.entry)
    admission.over = checkpoint.plan.rounds_left(checkpoint.models) == 0
    rounds = max((model.round for model in checkpoint.models.values()), default=0)
    anew = "was trained before, and is handed out again; choose another --name to train anew"
    admission.tell(anew if admission.over else f"goes on after round {rounds}")


def _agreed(
    settings: Settings,
    federation: Federation,
    admission: NodeAdmission,
    ledger: Bookkeeper,
    quorum: int,
    former: Former | None,
) -> Checkpoint:
    """The checkpoint of a training that begins with the nodes that are there."""
    present = [name for member in federation.members.values() for name in admission.nodes_of(member.name)]
    names = sorted(present, key=natural)
    introduced = {name: admission.introduced[name] for name in names}
    admission.nodes = {name: admission.nodes[name] for name in names}
    plan = agree(settings, admission.catalogue, list(introduced.values()), quorum, former)
    opening = ledger.opening(plan, {name: each.ledger for name, each in introduced.items()})
    admission.tags = {name: each.tag for name, each in introduced.items()}
    begins = None if former is None else former.shared
    return Checkpoint(plan, admission.nodes, opening, tags=admission.tags, former=begins)


class _Training:
    """The rounds of each stage, with a checkpoint after every one. plan: includes the finished earlier stages."""

    def __init__(
        self,
        plan: Plan,
        checkpoint: Checkpoint,
        federation: Federation,
        admission: NodeAdmission,
        ledger: Bookkeeper,
        requirements: Requirements,
        folder: Path,
    ):
        self.plan, self.checkpoint, self._federation = plan, checkpoint, federation
        self._admission, self._ledger, self._requirements, self._folder = admission, ledger, requirements, folder
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
        shared = self.checkpoint.models.get(stage) or self._first(stage, method)
        quorum, secure_group, rule = self._requirements.quorum, self.plan.secure_group, rule_of(self.plan.settings)
        if secure_group is not None and isinstance(rule, GroupSums):
            rule = rule.rule  # The nodes of a group have added already.
        steps = steps_of(self.plan.settings)
        strategy = SumStrategy(method, shared, self.plan.training, stage, quorum, secure_group, rule, steps)
        strategy.last, ledger = rounds, self._ledger
        strategy.extra_facts = ledger.facts()
        strategy.search = self._search or strategy.search
        strategy.behind = self._admission.behind

        def on_round(outcome: RoundOutcome, bytes_down: int, seconds: float) -> None:
            self._follow(strategy.search)
            released = self.plan.record(strategy.shared.round)
            names, keys = list(self._admission.nodes), self._admission.ledger_keys()
            outcome = self._admission.edges.spread(outcome, names)
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

        if is_late := stage == RATING and self.plan.settings.federation.mode == "async":
            late, names = lateness_of(self.plan.settings), list(self._admission.nodes)[: self.plan.nodes]
            LateRounds(self._federation, strategy, late, names, ledger.facts, on_round).run(rounds)
        else:
            self._federation.run_rounds(strategy, rounds, on_round)
        self._admission.finished[stage] = strategy.shared
        self.plan = self.plan.after(self._admission.finished)
        shared = strategy.shared

        def finished(member: Member) -> Request:
            facts = {"stage": stage, "round": shared.round, **ledger.facts(member.name if is_late else "")}
            return Request("finish", facts, shared.arrays)

        self._federation.ask(finished, 1)

    def _first(self, stage: str, method: SumMethod) -> SharedModel:
        """The model that a stage begins with."""
        models, former = self.checkpoint.models, self.checkpoint.former
        if stage == RATING and former is not None:
            return begun(self.plan.method, models[OPENING], former)
        if stage == OPENING and former is not None and self.plan.update is not None and self.plan.update.keeps:
            return self.plan.method.reopened(former)
        return method.start()

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

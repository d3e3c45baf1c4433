"""A server and a node that are watched: what happens to them becomes their status."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hierfed.deployment.admission import ServerObserver
from hierfed.deployment.status import MOST_REFUSALS, Member, Refused, Status, StatusFile
from hierfed.engines.exchange import Reply, Request
from hierfed.engines.flower.admission import Change
from hierfed.plain_text import plural
from hierfed.results import DeployedRound, Result


class WatchedServer(ServerObserver):
    """Passes on what another observer is told, keeps the server's status, and warns where a quorum is missing.

    strangers: gives lines on nodes that were not let in since it was asked last.
    """

    def __init__(
        self,
        folder: Path,
        nodes: int,
        quorum: int,
        inner: ServerObserver,
        strangers: Callable[[], Sequence[str]] = tuple,
        clock: Callable[[], float] = time.time,
    ):
        self._strangers = strangers
        first = Status(kind="server", name=folder.name, nodes=nodes, quorum=quorum)
        self.file, self._inner = StatusFile(folder, first, clock), inner

    @property
    def status(self) -> Status:
        """The status now."""
        return self.file.status

    def tell(self, event: str) -> None:
        """See ServerObserver."""
        self._inner.tell(event)

    def warn(self, event: str) -> None:
        """See ServerObserver."""
        self._inner.warn(event)

    def check(self) -> None:
        """Look for nodes that were not let in; see ServerObserver."""
        for reason in self._strangers():
            self._inner.warn(f"a node is refused: {reason}")
            self._refuse(Refused(at=self.file.clock(), node="", reason=reason))
        self._inner.check()

    def on_change(self, change: Change) -> None:
        """Note who is there; see ServerObserver."""
        self._inner.on_change(change)
        members, now = dict(self.status.members), self.file.clock()
        if change.kind == "refused":
            self._refuse(Refused(at=now, node=change.name, reason=change.reason))
        if change.kind == "joined":
            members[change.name] = Member(present=True, last_contact=now)
        elif change.name in members:
            members[change.name] = members[change.name].model_copy(update={"present": False})
        self.file.change(members=members)
        self._look()

    def on_contact(self, name: str) -> None:
        """Note the time; see ServerObserver."""
        self._inner.on_contact(name)
        member = Member(present=True, last_contact=self.file.clock())
        self.file.touch(members={**self.status.members, name: member})

    def on_plan(self, rounds: int) -> None:
        """See ServerObserver."""
        self._inner.on_plan(rounds)
        self.file.change(phase="training", rounds=rounds, done=0)
        self._look()

    def on_round(self, record: DeployedRound) -> None:
        """Note the round and its refusals; see ServerObserver."""
        self._inner.on_round(record)
        where = f"{record.stage} {record.round}"
        for answer in record.refused:
            self._refuse(Refused(at=self.file.clock(), node=answer.node, reason=answer.reason, round=where))
        done, abandoned = self.status.done + (not record.abandoned), self.status.abandoned + record.abandoned
        self.file.change(stage=record.stage, round=record.round, done=done, abandoned=abandoned)

    def on_failure(self, reason: str) -> None:
        """The server ends too early."""
        self.file.change(phase="stopped", problem=reason)

    def on_end(self, result: Result) -> None:
        """The training is over, and the nodes have been told to leave."""
        members = {name: member.model_copy(update={"present": False}) for name, member in self.status.members.items()}
        self.file.change(phase="finished", members=members, problem="")

    def _refuse(self, refused: Refused) -> None:
        kept = [*self.status.refused, refused][-MOST_REFUSALS:]
        self.file.change(refused=kept, refusals=self.status.refusals + 1)

    def _look(self) -> None:
        """Say so once where a round cannot have its quorum, and once where it can again."""
        present, needed = len(self.status.present), self.status.quorum
        missing = self.status.phase == "training" and present < needed
        if missing and not self.status.problem:
            problem = f"the quorum is missing: {present} of the {needed} nodes that a round needs are there"
            self.file.change(problem=problem)
            self._inner.warn(problem)
        elif self.status.problem and not missing:
            self.file.change(problem="")
            self._inner.tell(f"the quorum is there again: {plural(present, 'node')}")


class WatchedNode:
    """Keeps a node's status: the last request that it answered, its last contact, and why it has none."""

    def __init__(self, folder: Path, name: str, clock: Callable[[], float] = time.time):
        self.file, self._unreached = StatusFile(folder, Status(kind="node", name=name), clock), False

    @property
    def status(self) -> Status:
        """The status now."""
        return self.file.status

    def answered(self, request: Request, reply: Reply) -> None:
        """Note a request that was answered."""
        stage, number = request.facts.get("stage"), request.facts.get("round")
        refusal = str(reply.facts.get("refusal", ""))
        values: dict[str, object] = {"last_contact": self.file.clock()}
        if refusal:
            values["problem"] = f"does not take part: {refusal}"
        elif request.kind == "goodbye":
            values |= {"phase": "finished", "problem": ""}
        elif request.kind in ("round", "finish"):
            values |= {"phase": "training", "stage": str(stage), "round": int(str(number)), "problem": ""}
        self.file.change(**values)

    def contact(self) -> None:
        """Note that the server was reached."""
        now = self.file.clock()
        if self._unreached:
            self._unreached = False
            self.file.change(last_contact=now, problem="")
        else:
            self.file.touch(last_contact=now)

    def unreached(self, reason: str) -> None:
        """Note why the server is not reached."""
        self._unreached = True
        self.file.change(problem=reason)

    def failed(self, reason: str) -> None:
        """Note why the node has ended too early."""
        self.file.change(phase="stopped", problem=reason)

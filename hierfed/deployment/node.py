"""A node's half of everything: it answers the server's requests from rows that it keeps to itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from cryptography.hazmat.primitives.asymmetric import ec
from torch import Tensor

from hierfed.data.assembly import Source
from hierfed.data.catalogue import Catalogue
from hierfed.data.catalogue_file import catalogue_of_bytes
from hierfed.data.features import tally
from hierfed.data.federation import Node
from hierfed.data.own import OwnRatings, own_ratings
from hierfed.data.ratings import Ratings
from hierfed.data.sources import read_ratings
from hierfed.deployment.plan import EASE, IMPLICIT, RATING, Plan, read_finished
from hierfed.deployment.protocol import SECURE, Introduction, Overview, introduce, is_name, other_version
from hierfed.deployment.signing import NodeSigner, public_text
from hierfed.deployment.state import NodeState, Origin
from hierfed.engines.exchange import Fact, Reply, Request
from hierfed.engines.secure_round import STEPS, SecureNode
from hierfed.errors import HierfedError, SettingsError
from hierfed.evaluation.judging import half_width
from hierfed.federated.contract import Contribution, SharedModel, SumMethod
from hierfed.federated.tallies import sent_tallies
from hierfed.personal.private import PersonalModel, PrivateState, UncertainModel
from hierfed.storage import save_model, save_private, save_ranking

Value = TypeVar("Value")
# What nodes add up of held-out rows, one number each.
JUDGED = ("rows", "squares_before", "squares_after", "within", "intervals")


@dataclass(frozen=True)
class Kept:
    """What the node kept from a round of a stage."""

    stage: str
    number: int
    state: PrivateState | None


class NodeSide:
    """One node; `answer` takes the server's requests. tell: told what a person who watches wants to know.

    catalogue: the digest of the only catalogue that the node agrees to, or "" for the server's, whichever it is. peers:
    the public keys of the only nodes that it adds with, and then only by secure sums; none for what the server says.
    """

    def __init__(
        self,
        name: str,
        origin: Origin,
        state: NodeState,
        key: ec.EllipticCurvePrivateKey | None = None,
        catalogue: str = "",
        peers: frozenset[str] = frozenset(),
        tell: Callable[[str], None] = lambda event: None,
    ):
        if not is_name(name):
            raise SettingsError(f"--name {name!r}: expected one line of text without a slash")
        self.name, self.origin, self.state = name, origin, state
        self._agreed, self._peers, self._tell = catalogue, peers, tell
        self._identity = state.begin(name, origin)
        self._key = key or state.key()
        self._public = public_text(self._key.public_key())
        self._source = read_source(origin)
        self._catalogue: Catalogue | None = None
        self._own: OwnRatings | None = None
        self._plan: Plan | None = None
        self._number = 0
        self._securely = False
        self._secure: SecureNode | None = None
        self._kept = Kept("", 0, None)
        self._models: dict[str, SharedModel] = {}
        self._methods: dict[str, SumMethod] = {}
        self.over = False

    def answer(self, request: Request) -> Reply:
        """The reply to any request; raises HierfedError where the federation ends for this node."""
        handlers = {
            "hello": self._hello,
            "setup": self._setup,
            "tally": self._tally,
            "round": self._round,
            **dict.fromkeys(STEPS, self._step),
            "finish": self._finish,
            "judge": self._judge,
            "goodbye": self._goodbye,
        }
        return handlers[request.kind](request)

    def _hello(self, request: Request) -> Reply:
        reason = other_version(request)
        if reason:
            return self._refuse(reason)
        found, nonce = request.facts["catalogue"], request.facts["nonce"]
        if not isinstance(found, bytes) or not isinstance(nonce, bytes):
            return self._refuse("the server's greeting cannot be read")
        catalogue = catalogue_of_bytes(found)
        if self._agreed and catalogue.digest() != self._agreed:
            return self._refuse("the server has another catalogue than the one that --catalogue names")
        self._securely = request.facts.get("sums") == SECURE
        if self._peers and not self._securely:
            return self._refuse("the server would see this node's own contributions, and --peer asks for secure sums")
        own = own_ratings(self._source, catalogue, self.origin.test_share)
        self._catalogue, self._own = catalogue, own
        rows = None
        if not self._securely:
            rows = Overview(own.limits, tally([own.train], len(catalogue)), own.unknown)
        left_out = f", {own.unknown:,} left out whose items the catalogue does not know" if own.unknown else ""
        self._tell(f"{len(own.train):,} ratings to learn from, {len(own.test):,} to be judged on{left_out}")
        return introduce(Introduction(self.name, self._identity, self._public, rows), nonce, self._key)

    def _setup(self, request: Request) -> Reply:
        self.state.keep_plan(request, self._known(self._catalogue))
        plan, number = self._known(self.state.plan())
        self._plan, self._number = plan, number
        self._secure = self._joined(plan, number)
        self._kept, self._models, self._methods = Kept("", 0, None), {}, {}
        for stage, shared in read_finished(request).items():
            self._take(stage, shared)
        return Reply()

    def _joined(self, plan: Plan, number: int) -> SecureNode | None:
        """This node's part in secure sums; raises HierfedError where the plan is not what this node agrees to."""
        if plan.circle is None:
            if self._securely:
                raise HierfedError("the server promised secure sums, and its plan has none")
            return None
        if len(set(plan.keys)) < len(plan.keys) or number >= len(plan.keys) or plan.keys[number] != self._public:
            raise HierfedError("the server's list of nodes that add securely has a key twice, or this node's not")
        strangers = set(plan.keys) - self._peers - {self._public}
        if self._peers and strangers:
            raise HierfedError(f"the server's list of nodes has a key that no --peer names: {min(strangers)}")
        plan.settings.data.limits(self._known(self._own).limits)
        return SecureNode(number, NodeSigner(self._key), plan.circle)

    def _tally(self, request: Request) -> Reply:
        own, catalogue = self._known(self._own), self._known(self._catalogue)
        return self._known(self._secure).begin(request, sent_tallies(tally([own.train], len(catalogue))))

    def _step(self, request: Request) -> Reply:
        return self._known(self._secure).answer(request)

    def _round(self, request: Request) -> Reply:
        plan, own = self._known(self._plan), self._known(self._own)
        training, stage, number = (request.facts[name] for name in ("training", "stage", "round"))
        if training != plan.training:
            raise HierfedError("the server asks for a round of another training than it told of")
        stage, number = str(stage), int(number)
        shared = SharedModel(request.arrays, number - 1)
        if stage not in self._methods:
            self._methods[stage] = plan.stage(stage, self._models.get(RATING))
        method, node = self._methods[stage], self._node()
        contribution, kept = next(iter(method.contribute(shared, [node], [self._recall_last(stage, number - 1)])))
        if kept is not None:
            self._kept = Kept(stage, number, kept)
            self.state.keep(plan.training, stage, number, own.digest, kept)
        facts: dict[str, Fact] = {"training": training, "stage": stage, "round": number, "number": self._number}
        self._tell(f"{stage}, round {number}")
        return Reply(facts, contribution) if self._secure is None else self._secure.begin(request, contribution)

    def _finish(self, request: Request) -> Reply:
        self._take(str(request.facts["stage"]), SharedModel(request.arrays, int(request.facts["round"])))
        return Reply()

    def _take(self, stage: str, shared: SharedModel) -> None:
        """Keep the finished model of a stage."""
        plan = self._known(self._plan)
        self._models[stage] = shared
        self.state.keep_model(stage, shared)
        if stage == RATING:
            header = {"digest": shared.digest(), "settings": plan.settings.model_dump_json(exclude={"data"})}
            save_model(self.state.folder, plan.settings.method, plan.method, shared, plan.catalogue, header)
        elif stage == IMPLICIT:
            save_ranking(self.state.folder, {name: self._models[name] for name in (EASE, IMPLICIT)})

    def _judge(self, request: Request) -> Reply:
        """Sums of squared errors before and after personalisation, on rows that were never learned from."""
        plan, own, shared = self._known(self._plan), self._known(self._own), self._known(self._models.get(RATING))
        kept = self._recall(RATING, shared.round)
        (model,) = plan.method.personalise(shared, [self._node()], [kept])
        sums = judged(plan, shared, model, own.test)
        return Reply(contribution=sums) if self._secure is None else self._secure.begin(request, sums)

    def _goodbye(self, request: Request) -> Reply:
        self.over = True
        reason = str(request.facts.get("reason", ""))
        if reason:
            raise HierfedError(f"the server refuses this node: {reason}")
        return Reply()

    def _refuse(self, reason: str) -> Reply:
        self._tell(reason)
        return Reply({"refusal": reason})

    def _recall(self, stage: str, number: int) -> PrivateState | None:
        """What was kept from that round, and from no other."""
        if (self._kept.stage, self._kept.number) == (stage, number):
            return self._kept.state
        plan, own = self._known(self._plan), self._known(self._own)
        return self.state.recall(plan.training, stage, number, own.digest)

    def _recall_last(self, stage: str, number: int) -> PrivateState | None:
        """What was kept from that round; from an earlier one where this node has missed it."""
        found = self._recall(stage, number)
        missed = self._kept.stage == stage and self._kept.number < number
        return self._kept.state if found is None and missed else found

    def _node(self) -> Node:
        own = self._known(self._own)
        return Node(self._number, self.name, own.train, own.test)

    def _known(self, value: Value | None) -> Value:
        if value is None:
            raise HierfedError("the server asks before it has told what a node must know")
        return value


def read_source(origin: Origin) -> Source:
    """A node's ratings, as they are at their source now."""
    return read_ratings(origin.source, columns=origin.columns or None, test=origin.test or None, query=origin.query)


def judged(plan: Plan, shared: SharedModel, model: PersonalModel, test: Ratings) -> Contribution:
    """Sums over held-out rows: their number, squared errors of the shared and of the personal model, and how many
    ratings lie in their 90% intervals, of those that have one."""
    sums = dict.fromkeys(JUDGED, 0.0)
    user, item, value = (torch.from_numpy(column) for column in (test.user, test.item, test.value))
    if len(test):
        before, after = plan.method.predict(shared, test), model.predict(user.long(), item.long())
        sums |= {"rows": len(test), "squares_before": _squares(before, test), "squares_after": _squares(after, test)}
    if len(test) and isinstance(model, UncertainModel):
        mean, variance = model.distribution(user.long(), item.long())
        inside = (mean - value).abs() <= half_width(variance.sqrt())
        sums |= {"within": float(inside.sum()), "intervals": float(len(test))}
    return Contribution({name: torch.tensor([total], dtype=torch.float64) for name, total in sums.items()})


def personalise(state: NodeState) -> int:
    """Fit the models of a node's users, on this node alone, and keep each in a file of its own; gives how many users.

    The users learn from the rows that took part in the federation, and from those that have come since. Raises
    HierfedError where no federation has finished with this node.
    """
    known, shared = state.plan(), state.model(RATING)
    if known is None or shared is None:
        raise HierfedError(
            f"--state {state.folder}: no federation has finished here yet; `hierfed node` takes part in one"
        )
    plan, number = known
    own = own_ratings(read_source(state.origin), plan.catalogue, state.origin.test_share)
    kept = state.recall(plan.training, RATING, shared.round, own.digest)
    node = Node(number, state.name, own.train, own.test)
    (model,) = plan.method.personalise(shared, [node], [kept])
    save_private(state.folder, plan.settings.method, {f"node-{state.name}": model}, own.user_ids)
    return len(np.unique(own.train.user))


def _squares(predicted: Tensor, rows: Ratings) -> float:
    return float((predicted - torch.from_numpy(rows.value).double()).square().sum())

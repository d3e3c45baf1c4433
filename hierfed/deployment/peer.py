"""A peer from its command's options to the end: it meets the others, agrees with them, and trains in step with them."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import grpc

from hierfed import __version__
from hierfed.data.catalogue import Catalogue
from hierfed.data.federation import Node
from hierfed.data.reading.own import own_ratings
from hierfed.deployment.contents import check_sum
from hierfed.deployment.keys import read_key, read_public_key
from hierfed.deployment.local_models import judged, keep_finished
from hierfed.deployment.plan import Plan, check_deployable
from hierfed.deployment.policy import Policy
from hierfed.deployment.protocol import VERSION, is_name, limits_in, natural
from hierfed.deployment.signing import NodeSigner, PublicKey, fingerprint, public_text
from hierfed.deployment.sources import own_source
from hierfed.deployment.state import NodeState, Origin
from hierfed.engines.exchange import Fact, Request
from hierfed.engines.peers.absent import AbsentSums
from hierfed.engines.peers.grpc_post import GrpcPost, certificate_at, channel_to, key_of, listening
from hierfed.engines.peers.letters import Inbox, Waiting
from hierfed.engines.peers.rounds import PeerRounds, Terms
from hierfed.engines.replies import look_by
from hierfed.errors import HierfedError, SettingsError
from hierfed.federated.contract import Contribution, SharedModel, SumMethod
from hierfed.federated.private import PrivateState
from hierfed.federated.stage import RATING, Stage
from hierfed.federated.tables import GRAPHS
from hierfed.ledger.keys import is_public, kept_key
from hierfed.ledger.keys import public_text as ledger_text
from hierfed.ledger.shared import PeersOpening, SharedLedger, former_training
from hierfed.methods import kind_of
from hierfed.models.threads import one_torch_thread
from hierfed.plain_text import printable
from hierfed.settings import Settings

HELLO, JUDGE = "hello", "judge"
RETRY_SECONDS, HELLO_SECONDS = 0.5, 10.0
_SAME = {
    "version": "version of the protocol",
    "hierfed": "release of hierfed",
    "settings": "settings",
    "catalogue": "catalogue",
}


@dataclass(frozen=True)
class Gathering:
    """Where a peer listens, and whom it meets.

    peers: HOST and port of each other peer. keys: the files of their public keys. key: of this peer's private one.
    quorum: the fewest that go on; 0 for more than half.
    """

    listen: tuple[str, int]
    peers: Sequence[tuple[str, int]]
    keys: Sequence[Path]
    key: Path | None = None
    quorum: int = 0
    waiting: Waiting = field(default_factory=Waiting)


def gossip(
    settings: Settings,
    catalogue: Catalogue,
    gathering: Gathering,
    name: str,
    origin: Origin,
    folder: Path,
    policy: Policy,
    tell: Callable[[str], None],
) -> SharedModel:
    """Train with the other peers until all is over; gives this peer's model of ratings, kept in its state `folder`."""
    check_deployable(settings, "gossip")
    if not is_name(name):
        raise SettingsError(f"--name {name!r}: expected one line of text without a slash")
    others = frozenset(read_public_key(path) for path in gathering.keys)
    if len(others) != len(gathering.peers) or not others:
        raise SettingsError(
            f"{len(gathering.peers)} --peer and {len(others)} different --allow-key: give the address and the public "
            "key of each other peer"
        )
    state = NodeState(folder)
    try:
        return _Peer(settings, catalogue, gathering, name, origin, state, policy, tell, others).run()
    finally:
        state.close()


class _Peer:
    """One peer, from the meeting to the end."""

    def __init__(
        self,
        settings: Settings,
        catalogue: Catalogue,
        gathering: Gathering,
        name: str,
        origin: Origin,
        state: NodeState,
        policy: Policy,
        tell: Callable[[str], None],
        others: frozenset[str],
    ):
        self._settings, self._catalogue, self._gathering = settings, catalogue, gathering
        self._name, self._state, self._policy, self._tell, self._others = name, state, policy, tell, others
        state.begin(name, origin)
        # A damaged ledger is refused before the others count on this peer.
        former_training(state.folder)
        self._key = read_key(gathering.key) if gathering.key is not None else state.key()
        self._public = public_text(self._key.public_key())
        self._own = own_ratings(own_source(state, origin), catalogue, origin.test_share)
        # Before the ledger's key is read: the training begins anew, and an earlier ledger is kept under its own name.
        self._ledger_key = kept_key(state.folder)
        self._inbox, self._training, self._numbers = Inbox(), "", dict[str, int]()
        self._introduction: dict[str, Fact] = {
            "version": VERSION,
            "hierfed": __version__,
            "name": name,
            "ledger": ledger_text(self._ledger_key),
            "settings": settings.digest(),
            "catalogue": catalogue.digest(),
            "limits": json.dumps(settings.data.scale or self._own.limits),
            "nonce": secrets.token_hex(16),
        }

    def run(self) -> SharedModel:
        """See gossip."""
        host, port = self._gathering.listen
        allowed = {key: PublicKey(key) for key in self._others}
        self._tell(f"listens at {host}:{port} as {fingerprint(self._public)}")
        self._tell(f"{len(self._own.train):,} ratings to learn from, {len(self._own.test):,} to be judged on")
        with one_torch_thread(), listening(host, port, self._key, self._public, allowed, self._deliver):
            post, introduced = self._meet()
            plan, names = self._agree(introduced)
            self._policy.check(plan)
            self._state.keep_plan(plan.request(names.index(self._name), {}), self._catalogue)
            opening = PeersOpening(
                training=plan.training,
                settings=self._settings.digest(),
                catalogue=self._catalogue.digest(),
                limits=plan.limits,
                peers={name: str(introduced[key]["ledger"]) for name, key in zip(names, self._by_name, strict=True)},
            )
            ledger = SharedLedger(opening, self._state.folder)
            post.met = {number: self._channels[key] for number, key in enumerate(self._by_name) if key != self._public}
            self._numbers = {key: number for number, key in enumerate(self._by_name)}
            # From here on letters are taken.
            self._training = plan.training
            federation, quorum = self._settings.federation, self._gathering.quorum or len(names) // 2 + 1
            terms = Terms(
                names,
                names.index(self._name),
                quorum,
                GRAPHS[federation.graph],
                plan.settings.seed,
                federation.exchanges,
            )
            rounds = PeerRounds(terms, post, self._inbox, ledger, self._ledger_key, self._gathering.waiting, self._tell)
            return self._train(plan, terms.me, rounds)

    def _deliver(self, key: str, letter: Request) -> Mapping[str, Fact]:
        if letter.kind == HELLO:
            return self._introduction
        if not self._training or letter.facts.get("training") != self._training:
            raise ValueError("a letter of another training, or before this peer has met all others")
        self._inbox.put(self._numbers[key], letter)
        return {}

    def _meet(self) -> tuple[GrpcPost, dict[str, Mapping[str, Fact]]]:
        """The introductions of all peers by their keys, this one's too; waits until all are there."""
        post = GrpcPost(self._public, NodeSigner(self._key))
        introduced: dict[str, Mapping[str, Fact]] = {self._public: self._introduction}
        self._channels: dict[str, tuple[str, grpc.Channel]] = {}
        missing = list(self._gathering.peers)
        self._tell(f"waits for {len(missing)} peers")
        while missing:
            for host, port in list(missing):
                try:
                    certificate = certificate_at(host, port)
                    key = key_of(certificate)
                    if key not in self._others:
                        raise HierfedError(
                            f"--peer {host}:{port}: shows the key {fingerprint(key)}, which no --allow-key names"
                        )
                    if key in self._channels:
                        raise SettingsError(f"--peer {host}:{port}: the same peer as at another --peer")
                    channel = channel_to(host, port, certificate)
                    introduced[key] = post.ask(key, channel, Request(HELLO), HELLO_SECONDS)
                except grpc.RpcError as error:
                    if error.code() == grpc.StatusCode.PERMISSION_DENIED:
                        raise HierfedError(f"--peer {host}:{port}: does not allow this peer's key") from error
                    continue
                except OSError:
                    continue
                except ValueError as error:
                    raise HierfedError(f"--peer {host}:{port}: does not introduce itself as peers do") from error
                self._channels[key] = key, channel
                missing.remove((host, port))
                self._tell(f"has met {printable(str(introduced[key].get('name')))} at {host}:{port}")
            if missing:
                time.sleep(RETRY_SECONDS)
        return post, introduced

    def _agree(self, introduced: Mapping[str, Mapping[str, Fact]]) -> tuple[Plan, list[str]]:
        """The plan that follows from all introductions, the same for all, and the names by number."""
        limits = []
        for key, each in introduced.items():
            name = printable(str(each.get("name")))
            for fact, what in _SAME.items():
                if each.get(fact) != self._introduction[fact]:
                    raise HierfedError(f"peer {name} has another {what} than this one: all need the same")
            told = limits_in(each.get("limits"))
            if told is None or not is_name(str(each.get("name"))) or not is_public(str(each.get("ledger"))):
                raise HierfedError(f"the peer with key {fingerprint(key)} does not introduce itself as peers do")
            limits.append(told)
        self._by_name = sorted(introduced, key=lambda key: natural(str(introduced[key]["name"])))
        names = [str(introduced[key]["name"]) for key in self._by_name]
        if len(set(names)) < len(names):
            raise HierfedError("two peers have one name: choose another --name")
        agreed = json.dumps([[key, dict(introduced[key])] for key in self._by_name], sort_keys=True)
        training = hashlib.sha256(agreed.encode()).hexdigest()[:16]
        scale = min(low for low, _ in limits), max(high for _, high in limits)
        plan = Plan(training, self._settings, self._catalogue, scale, nodes=len(names))
        return plan, names

    def _train(self, plan: Plan, number: int, rounds: PeerRounds) -> SharedModel:
        node, models = Node(number, self._name, self._own.train, self._own.test), dict[str, SharedModel]()
        kept: dict[str, PrivateState | None] = {}
        for stage in plan.stages():
            models[stage.name], kept[stage.name] = self._stage(plan, stage, node, models, rounds)
            plan = keep_finished(self._state, plan, stage.name, models)
        shared = models[RATING]
        (model,) = plan.method.personalise(shared, [node], [kept[RATING]])
        sums = judged(plan, shared, model, len(self._own.train), self._own.test)
        _, total = rounds.run(JUDGE, 1, sums, lambda total: SharedModel(total.arrays))
        rounds.end()
        self._tell_gain(total)
        self._tell(f"digest {shared.digest()}; {rounds.sent:,} bytes of sums sent")
        return shared

    def _stage(
        self, plan: Plan, stage: Stage, node: Node, finished: Mapping[str, SharedModel], rounds: PeerRounds
    ) -> tuple[SharedModel, PrivateState | None]:
        method: SumMethod = plan.trainer(stage.name, finished)
        shared, private = method.start(), None
        # As in asynchronous rounds: where arrays are averaged, an old one would hold the others back.
        replaced = stage.name == RATING and not kind_of(plan.settings).averaged
        absent = AbsentSums(method) if replaced else None
        while shared.round < stage.rounds:
            given, private = next(iter(method.contribute(shared, [node], [private])))
            check_sum(plan.settings.method, stage.name, given)
            reason = look_by(method, shared)(given)
            if reason:
                raise HierfedError(f"does not send its part of {stage.name}, round {shared.round + 1}: {reason}")
            number, combine = shared.round + 1, partial(method.combine, shared)
            shared, _ = rounds.run(stage.name, number, given, combine, absent, shared)
            if private is not None:
                self._state.rounds.keep(plan.training, stage.name, shared.round, self._own.digest, private)
            self._tell(f"{stage.name}, round {shared.round}: {len(rounds.members)} peers")
        return shared, private

    def _tell_gain(self, total: Contribution) -> None:
        sums = {name: float(array) for name, array in total.arrays.items()}
        if sums["rows"] > 0:
            before, after = (max(sums[name], 0) / sums["rows"] for name in ("squares_before", "squares_after"))
            self._tell(
                f"on {sums['rows']:,.0f} held-out ratings of all peers: RMSE {before**0.5:.4f} before personalisation, "
                f"{after**0.5:.4f} after"
            )

"""A server and a node from their commands' options to the end; nothing stays behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from hierfed.addresses import is_loopback
from hierfed.atomic import held, write_atomically
from hierfed.data.catalogue import Catalogue
from hierfed.data.reading.catalogue_file import read_catalogue
from hierfed.deployment.admission import NodeAdmission, ServerObserver
from hierfed.deployment.checkpoint import check_version, has_checkpoint
from hierfed.deployment.edges import why_no_edges
from hierfed.deployment.former import read_former
from hierfed.deployment.health import health_of
from hierfed.deployment.keys import read_key, read_public_key
from hierfed.deployment.node import NodeSide
from hierfed.deployment.plan import check_deployable
from hierfed.deployment.policy import Policy
from hierfed.deployment.server import Requirements, conduct
from hierfed.deployment.signing import fingerprint
from hierfed.deployment.state import NodeState, Origin
from hierfed.deployment.status import SERVER_LOCK
from hierfed.deployment.watched import WatchedNode, WatchedServer
from hierfed.engines.exchange import Reply, Request
from hierfed.engines.flower.federation import Federation
from hierfed.engines.flower.fleet import ServerAddress, Traffic, client_app, serve
from hierfed.engines.flower.patience import Patience
from hierfed.engines.flower.superlink import Certificates, Listening, Stranger, new_strangers, raise_limit, superlink
from hierfed.errors import HierfedError, SettingsError, storing
from hierfed.ledger.entries import FILE as LEDGER
from hierfed.ledger.keys import KEY
from hierfed.models.threads import one_torch_thread
from hierfed.results import Result, write_record
from hierfed.runs.folder import ROUNDS
from hierfed.runs.reports import write_report
from hierfed.settings import Settings

FLOWER, RESULT, LOCK = "flower", "result.json", SERVER_LOCK
BEFORE = "before-"


@dataclass(frozen=True)
class Hosting:
    """The server's address and protection.

    tls: its certificate; None without TLS.
    keys: the files of the public keys of nodes that may join.
    insecure: allows other machines without TLS and keys.
    health: the address of /healthz and /metrics; None for none.
    """

    host: str
    port: int
    tls: Certificates | None = None
    keys: Sequence[Path] = ()
    insecure: bool = False
    health: tuple[str, int] | None = None


@dataclass(frozen=True)
class Update:
    """What a training goes on from.

    former: the folder of a finished server. rounds: how many, after the opening ones. keeps: see GoingOn.
    """

    former: Path
    rounds: int
    keeps: bool = False


def host(
    settings: Settings,
    catalogue: Catalogue,
    folder: Path,
    hosting: Hosting,
    nodes: int,
    quorum: int,
    patience: Patience,
    observer: ServerObserver,
    begin_anew: bool = False,
    update: Update | None = None,
) -> Result:
    """Run a server until its training is over, and write `result.json`, the models and the settings into `folder`.

    begin_anew: whether to keep what is there as `before-1` and so on, and to begin it anew.
    update: what to go on from; None trains from the start. Its items come first, then those that only catalogue has.
    """
    check_deployable(settings)
    former = None if update is None else read_former(update.former, settings, update.rounds, update.keeps)
    if update is not None and former is not None:
        if folder.resolve() == update.former.resolve():
            raise SettingsError(f"--update {update.former}: a training cannot go on from itself; choose another --name")
        catalogue = former.grown(settings, catalogue)
    check_protected(hosting)
    _check_secure_sums(settings, nodes)
    if settings.federation.answers > nodes:
        raise SettingsError(f"federation.answers: --nodes {nodes} never give {settings.federation.answers}: lower it")
    if quorum > nodes:
        raise SettingsError(f"--quorum {quorum} is more than --nodes {nodes}: no round could have it when all begins")
    allowed = frozenset(read_public_key(path) for path in hosting.keys) if hosting.keys else None
    listening = Listening(hosting.host, hosting.port, hosting.tls, tuple(hosting.keys) if hosting.keys else None)
    # A run that was stopped leaves its rounds alone; a server's have a ledger beside them.
    stopped = (folder / ROUNDS).exists() and not (folder / LEDGER).exists()
    if ((folder / RESULT).exists() or stopped) and not has_checkpoint(folder) and not begin_anew:
        raise SettingsError(f"{folder}: holds a run that no server has made; choose another --name")
    if not begin_anew:
        check_version(folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = held(folder / LOCK)
    except BlockingIOError as error:
        raise SettingsError(f"{folder}: another server is using it; choose another --name") from error
    if begin_anew:
        _set_aside(folder, observer)
    write_atomically(folder / "settings.toml", settings.to_toml().encode())
    requirements = Requirements(nodes, quorum, patience, allowed)
    watched = WatchedServer(folder, nodes, quorum, observer, Strangers(folder / FLOWER, allowed or frozenset()))
    health = health_of(hosting.health, lambda: watched.status, observer.tell)

    with lock, one_torch_thread(), health, superlink(listening, folder / FLOWER) as grid:
        protected = "without TLS" if hosting.tls is None else "with TLS"
        observer.tell(
            f"listens at {hosting.host}:{hosting.port}, {protected}; {len(catalogue):,} items in the catalogue"
        )
        # An edge's key lets all of its nodes in.
        if allowed is not None and len(allowed) < nodes and why_no_edges(settings):
            observer.warn(
                f"warning: {len(allowed)} {'keys are' if len(allowed) != 1 else 'key is'} allowed, and {nodes} nodes "
                "must be there to begin: add an --allow-key for each node, or lower --nodes"
            )

        def connect(admission: NodeAdmission) -> Federation:
            return Federation(grid, admission, patience, allow=partial(raise_limit, folder / FLOWER))

        try:
            result = conduct(settings, catalogue, folder, connect, requirements, watched, former)
        except HierfedError as error:
            watched.on_failure(str(error))
            raise
        watched.on_end(result)
    write_report(result, folder)
    write_record(result, folder / RESULT)
    return result


class Strangers:
    """Lines on the nodes that Flower did not let in, each once; allowed: the public keys of those that may join."""

    def __init__(self, home: Path, allowed: frozenset[str]):
        self._home, self._allowed, self._known = home, allowed, 0

    def __call__(self) -> list[str]:
        """The lines since the last call."""
        found = new_strangers(self._home, self._known)
        self._known += len(found)
        # A node that comes back too soon is not let in either, and tries again.
        return [self._told(each) for each in found if each.key not in self._allowed]

    @staticmethod
    def _told(stranger: Stranger) -> str:
        key = f"the key {fingerprint(stranger.key)}" if stranger.key else "no key that can be read"
        return f"from {stranger.host}, with {key}, which no --allow-key names"


def _set_aside(folder: Path, observer: ServerObserver) -> None:
    """Move a training's files into a folder of their own; the server's keys stay."""
    stay = (LOCK, FLOWER, KEY, f"{KEY}.pub")
    found = [path for path in folder.iterdir() if path.name not in stay and not path.name.startswith(BEFORE)]
    if not found:
        return
    place = folder / f"{BEFORE}{sum(path.name.startswith(BEFORE) for path in folder.iterdir()) + 1}"
    with storing(place):
        place.mkdir()
        for path in found:
            path.rename(place / path.name)
    observer.tell(f"begins anew; what was there is in {place}")


@dataclass(frozen=True)
class Joining:
    """A node's connection to its server, and its conditions.

    address: the server's HOST:PORT.
    ca: the file of the authority that signed the server's certificate.
    key: the file of the node's private key.
    insecure: allows another machine without TLS.
    catalogue: the file of the only catalogue that the node agrees to.
    patience: seconds; see ServerAddress.
    peers: the files of the public keys of the only nodes that it adds with, and that by secure sums alone.
    policy: see NodeSide.
    health: the address of /healthz and /metrics; None for none.
    """

    address: str
    ca: Path | None = None
    key: Path | None = None
    insecure: bool = False
    catalogue: Path | None = None
    patience: float = 120.0
    peers: Sequence[Path] = ()
    policy: Policy = field(default_factory=Policy)
    health: tuple[str, int] | None = None


def take_part(
    joining: Joining,
    name: str,
    origin: Origin,
    folder: Path,
    tell: Callable[[str], None],
    warn: Callable[[str], None] | None = None,
) -> Traffic:
    """Run a node until the server ends the training; gives its traffic in bytes.

    folder: the node's state.
    tell: takes a line for each event.
    warn: takes those that somebody should look at; by default as `tell` does.
    """
    check_joining(joining, "--server")
    key = None if joining.key is None else read_key(joining.key)
    agreed = "" if joining.catalogue is None else read_catalogue(joining.catalogue).digest()
    state = NodeState(folder)
    try:
        peers = frozenset(read_public_key(path, "--peer") for path in joining.peers)
        side = NodeSide(name, origin, state, key, agreed, peers, joining.policy, tell)
        where = ServerAddress(joining.address, joining.ca, joining.patience)
        watched = WatchedNode(folder, name)

        def answer(request: Request) -> Reply:
            reply = side.answer(request)
            watched.answered(request, reply)
            return reply

        def unreached(reason: str) -> None:
            watched.unreached(reason)
            (warn or tell)(reason)

        try:
            with one_torch_thread(), health_of(joining.health, lambda: watched.status, tell):
                return serve(where, key, client_app(answer), lambda: side.over, unreached, watched.contact)
        except HierfedError as error:
            watched.failed(str(error))
            raise
    finally:
        state.close()


def check_joining(joining: Joining, option: str) -> None:
    """Raise SettingsError for another machine that is reached without TLS. option: gives the address."""
    if joining.ca is None and not joining.insecure and not is_this_machine(joining.address.rpartition(":")[0]):
        raise SettingsError(
            f"{option} {joining.address}: another machine is reached with --ca (and --key), or with --insecure, "
            "which anyone on the way can read and change"
        )


def is_this_machine(host: str) -> bool:
    """True for a host that is this machine itself; an IPv6 address may be in brackets."""
    return is_loopback(host.strip("[]") if ":" in host else host)


def _check_secure_sums(settings: Settings, nodes: int) -> None:
    if not settings.privacy.secure_sums:
        return
    if nodes < 2:
        raise SettingsError("--nodes 1: a sum over one node is its own contribution; secure sums need two or more")
    if not settings.data.scale:
        raise SettingsError(
            "data.scale: under secure sums no node tells its lowest and highest rating; say what there can be, such as "
            "--set scale=[0.5,5]"
        )


def check_protected(hosting: Hosting) -> None:
    """Raise SettingsError for a server that other machines reach without TLS and keys."""
    if is_this_machine(hosting.host) or hosting.insecure:
        return
    if hosting.tls is None or not hosting.keys:
        lacking = "--tls-cert, --tls-key and --ca" if hosting.tls is None else "--allow-key for each node"
        raise SettingsError(
            f"--listen {hosting.host}:{hosting.port}: other machines reach it, so it needs {lacking}; "
            "`hierfed keys` makes them, and --insecure does without, where anyone on the way can read and change all"
        )

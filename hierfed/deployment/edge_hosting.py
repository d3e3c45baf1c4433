"""An edge from its command's options to the end; nothing stays behind."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hierfed.deployment.admission import NodeAdmission, ServerObserver
from hierfed.deployment.edge import EdgeSide
from hierfed.deployment.edge_state import EdgeState
from hierfed.deployment.hosting import FLOWER, Hosting, Joining, Strangers, check_joining, check_protected
from hierfed.deployment.keys import read_key, read_public_key
from hierfed.deployment.server import Requirements
from hierfed.engines.flower.federation import Federation
from hierfed.engines.flower.fleet import ServerAddress, Traffic, client_app, serve
from hierfed.engines.flower.patience import LEAST_GRACE, SLOWEST, Patience
from hierfed.engines.flower.superlink import Listening, raise_limit, superlink, wait_for_nodes
from hierfed.errors import SettingsError
from hierfed.models.threads import one_torch_thread
from hierfed.plain_text import plural


@dataclass(frozen=True)
class Edging:
    """The two sides of an edge, and the nodes that it begins with.

    joining: its connection upstream; of this, the address, the authority, the key, `insecure` and the patience count.
    hosting: where its nodes reach it; see Hosting.
    nodes: how many must be there to begin. quorum: the least of them in a sum. deadline: seconds for their answers.
    """

    joining: Joining
    hosting: Hosting
    nodes: int
    quorum: int
    deadline: float


def stand_between(edging: Edging, name: str, folder: Path, observer: ServerObserver) -> Traffic:
    """Run an edge until the server ends the training; gives its traffic with the server, in bytes.

    folder: the edge's state.
    """
    joining, hosting = edging.joining, edging.hosting
    check_joining(joining, "--upstream")
    check_protected(hosting)
    if edging.quorum > edging.nodes:
        raise SettingsError(f"--quorum {edging.quorum} is more than --nodes {edging.nodes}: no sum could have it")
    allowed = frozenset(read_public_key(path) for path in hosting.keys) if hosting.keys else None
    key = None if joining.key is None else read_key(joining.key)
    patience = patience_of(edging)
    listening = Listening(hosting.host, hosting.port, hosting.tls, tuple(hosting.keys) if hosting.keys else None)
    state, strangers = EdgeState(folder, name), Strangers(folder / FLOWER, allowed or frozenset())
    watched = _Watchful(observer, strangers)
    try:
        with one_torch_thread(), superlink(listening, folder / FLOWER) as grid:
            protected = "without TLS" if hosting.tls is None else "with TLS"
            observer.tell(f"listens at {hosting.host}:{hosting.port}, {protected}")
            allow = partial(raise_limit, folder / FLOWER)

            def connect(admission: NodeAdmission) -> Federation:
                return Federation(grid, admission, patience)

            requirements = Requirements(edging.nodes, edging.quorum, patience, allowed)
            side = EdgeSide(state, key, requirements, connect, watched, allow)
            if not state.group:
                # The server waits for an edge that it has greeted, but not for ever.
                observer.tell(f"waiting for {plural(edging.nodes, 'node')}")
                wait_for_nodes(grid, edging.nodes, watched.check)
            where = ServerAddress(joining.address, joining.ca, joining.patience)
            traffic = serve(where, key, client_app(side.answer), lambda: side.over, observer.warn)
            side.dismiss()
            return traffic
    finally:
        state.close()


def patience_of(edging: Edging) -> Patience:
    """An edge's limits on waiting: it gives up a slow node before the server gives up the edge."""
    return Patience(deadline=edging.deadline, grace=LEAST_GRACE / 2, slowest=SLOWEST / 2)


class _Watchful(ServerObserver):
    """Passes on what another observer is told, and looks for nodes that were not let in."""

    def __init__(self, inner: ServerObserver, strangers: Strangers):
        self.tell, self.warn = inner.tell, inner.warn  # type: ignore[method-assign]
        self._strangers = strangers

    def check(self) -> None:
        """See ServerObserver."""
        for reason in self._strangers():
            self.warn(f"a node is refused: {reason}")

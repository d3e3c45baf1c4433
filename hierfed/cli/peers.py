"""The command of a peer: a federation without a server."""

from __future__ import annotations

import logging
import socket
from pathlib import Path
from typing import Annotated

import typer

from hierfed.cli.federation import (
    NODE_SOURCES,
    LeastNodes,
    LeastRaters,
    PolicyFile,
    State,
    TestShare,
    TestTable,
    address_of,
    origin_of,
    require_flower,
)
from hierfed.cli.interruption import end_on_sigterm
from hierfed.cli.logs import LogFormat, log_to_stderr
from hierfed.cli.options import DataOptions, Preset, Query, Quiet, Sets, TableOptions, settings_of, taking
from hierfed.cli.output import print_path

_NO_TABLE_OPTIONS = TableOptions()


@taking(TableOptions)
def peer(
    data: Annotated[str, typer.Option("--data", help=f"This peer's ratings: {NODE_SOURCES}")],
    state: State,
    catalogue: Annotated[Path, typer.Option(help="The items, as `hierfed data --catalogue` writes them.")],
    listen: Annotated[str, typer.Option(help="HOST:PORT by which the other peers reach this one.")],
    peer: Annotated[list[str], typer.Option("--peer", help="HOST:PORT of another peer; repeat for each.")],
    allow_key: Annotated[list[Path], typer.Option(help="Another peer's public key, KEY.pub; repeat for each.")],
    preset: Preset = "hierarchical",
    key: Annotated[Path | None, typer.Option(help="This peer's private key; its state's own if not given.")] = None,
    name: Annotated[str | None, typer.Option(help="What the peer is called; this machine's name if not given.")] = None,
    quorum: Annotated[
        int | None, typer.Option(min=1, help="The fewest peers that go on when others are gone; else more than half.")
    ] = None,
    deadline: Annotated[float, typer.Option(min=1, help="Seconds for a peer that is there and says nothing.")] = 600.0,
    patience: Annotated[
        float,
        typer.Option(
            min=1, help="Seconds for a peer that cannot be reached in a training; the first meeting waits for all."
        ),
    ] = 30.0,
    query: Query = None,
    tables: TableOptions = _NO_TABLE_OPTIONS,
    test: TestTable = None,
    test_share: TestShare = 0.1,
    least_nodes: LeastNodes = None,
    least_raters: LeastRaters = None,
    policy: PolicyFile = None,
    set_: Sets = None,
    quiet: Quiet = False,
    log_format: LogFormat = "text",
) -> None:
    """Train with other peers and no server: each has its ratings, which stay with it, and a copy of the model."""
    require_flower("gRPC")
    log_to_stderr(log_format, logging.ERROR if quiet else logging.INFO)
    settings = settings_of(preset, DataOptions(), seed=None, sets=["topology=gossip", *(set_ or [])])
    where, others = address_of("--listen", listen), [address_of("--peer", each) for each in peer]
    from hierfed.engines.flower.surroundings import settle  # noqa: PLC0415

    settle(state / "flower")
    from hierfed.cli.watching import LoggedLines  # noqa: PLC0415
    from hierfed.data.reading.catalogue_file import read_catalogue  # noqa: PLC0415
    from hierfed.deployment.peer import Gathering, gossip  # noqa: PLC0415
    from hierfed.deployment.policy import read_policy  # noqa: PLC0415
    from hierfed.engines.peers.letters import Waiting  # noqa: PLC0415

    end_on_sigterm()
    own = read_policy(policy, {"least_nodes": least_nodes, "least_raters": least_raters})
    gathering = Gathering(where, others, tuple(allow_key), key, quorum or 0, Waiting(patience, deadline))
    origin, lines = origin_of(data, query, tables, test, test_share), LoggedLines()
    gossip(settings, read_catalogue(catalogue), gathering, name or socket.gethostname(), origin, state, own, lines.tell)
    print_path("The model, and the ledger that all peers signed", state)

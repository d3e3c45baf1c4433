"""The command of an edge: a node to its server, and a server to its own nodes."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Annotated

import typer

from hierfed.cli.federation import Insecure, address_of, certificates_of, require_flower
from hierfed.cli.interruption import end_on_sigterm
from hierfed.cli.logs import LogFormat, log_to_stderr


def edge(
    upstream: Annotated[str, typer.Option(help="HOST:PORT of the server.")],
    listen: Annotated[str, typer.Option(help="HOST:PORT by which the edge's nodes reach it.")],
    state: Annotated[Path, typer.Option("--state", help="The edge's own folder, readable by its owner only.")],
    nodes: Annotated[int, typer.Option(min=1, help="How many nodes must be there to begin.")] = 3,
    quorum: Annotated[
        int | None, typer.Option(min=1, help="The fewest nodes in a sum; more than half of --nodes if not given.")
    ] = None,
    deadline: Annotated[
        float, typer.Option(min=1, help="Seconds for the nodes' answers to a round; less than the server's.")
    ] = 300.0,
    name: Annotated[str | None, typer.Option(help="What the edge is called; this machine's name if not given.")] = None,
    ca: Annotated[Path | None, typer.Option(help="The authority that signed the server's certificate.")] = None,
    key: Annotated[Path | None, typer.Option(help="The edge's private key, as `hierfed keys new` makes it.")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="The edge's own certificate, for its nodes.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="The private key of the certificate.")] = None,
    tls_ca: Annotated[Path | None, typer.Option(help="The authority that signed the edge's certificate.")] = None,
    allow_key: Annotated[list[Path] | None, typer.Option(help="A node's public key, KEY.pub; repeatable.")] = None,
    insecure: Insecure = False,
    patience: Annotated[
        float, typer.Option(min=1, help="Seconds to try again where the server is gone, once all own nodes are there.")
    ] = 120.0,
    log_format: LogFormat = "text",
) -> None:
    """Stand between a server and some of its nodes: it adds up what they send, and sends the exact sum alone."""
    require_flower()
    log_to_stderr(log_format)
    address_of("--upstream", upstream)
    host, port = address_of("--listen", listen)
    tls = certificates_of(tls_cert, tls_key, tls_ca, "--tls-ca")
    from hierfed.engines.flower.surroundings import settle  # noqa: PLC0415

    settle(state / "flower")
    from hierfed.cli.watching import LoggedLines  # noqa: PLC0415
    from hierfed.deployment.edge_hosting import Edging, stand_between  # noqa: PLC0415
    from hierfed.deployment.hosting import Hosting, Joining  # noqa: PLC0415

    end_on_sigterm()
    lines = LoggedLines()
    joining = Joining(upstream, ca, key, insecure, patience=patience)
    hosting = Hosting(host, port, tls, tuple(allow_key or ()), insecure)
    least = quorum if quorum is not None else nodes // 2 + 1
    own_name = name or socket.gethostname()
    traffic = stand_between(Edging(joining, hosting, nodes, least, deadline), own_name, state, lines)
    lines.tell(f"over; {traffic.sent:,} bytes sent to the server, {traffic.received:,} received")

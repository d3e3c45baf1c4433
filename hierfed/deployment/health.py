"""/healthz and /metrics of a server or a node, for monitors on the same machine or network.

They tell what `hierfed status` tells: names of nodes, rounds, reasons. Nothing of a rating, an item or a user.
"""

from __future__ import annotations

import importlib.util
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from hierfed.addresses import is_loopback
from hierfed.deployment.status import Status
from hierfed.errors import HierfedError, reason_of

if TYPE_CHECKING:
    from prometheus_client.core import Metric

TOO_LONG = 10.0


@contextmanager
def health_of(
    where: tuple[str, int] | None, status: Callable[[], Status], tell: Callable[[str], None]
) -> Iterator[tuple[str, int] | None]:
    """Answer at this address while the block runs; gives the address, with the port that was free for port 0.

    where: host and port; None answers nowhere.
    Raises HierfedError where the address cannot be listened at, or prometheus-client is missing.
    """
    if where is None:
        yield None
        return
    host, port = where
    if importlib.util.find_spec("prometheus_client") is None:
        raise HierfedError("--health takes one more package: pip install 'hierfed[health]'")

    class Handler(BaseHTTPRequestHandler):
        """Answers two paths, and keeps no log."""

        timeout = TOO_LONG

        def do_GET(self) -> None:
            """Answer."""
            code, kind, content = answer(self.path, status())
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def version_string(self) -> str:
            """The server's name alone: which Python it runs is nobody's business."""
            return "hierfed"

        def log_message(self, format: str, *args: object) -> None:
            """Monitors ask every few seconds."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    try:
        server = Server((host, port), Handler)
    except OSError as error:
        raise HierfedError(f"cannot listen at {host}:{port}: {reason_of(error)}; choose another --health") from error
    found = host, int(server.server_address[1])
    tell(f"answers monitors at http://{host}:{found[1]}/healthz and /metrics")
    if not is_loopback(host):
        tell("warning: --health is open to other machines, without TLS: they can read names of nodes, and rounds")
    thread = threading.Thread(target=server.serve_forever, name="health", daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def answer(path: str, status: Status) -> tuple[int, str, bytes]:
    """The status code, type and content of a path's answer; /healthz is 503 where something is wrong."""
    if path == "/healthz":
        told = {"status": status.problem or "ok", "phase": status.phase, "stage": status.stage, "round": status.round}
        return 503 if status.problem else 200, "application/json", json.dumps(told).encode()
    if path == "/metrics":
        from prometheus_client import CONTENT_TYPE_LATEST  # noqa: PLC0415 - an extra

        return 200, CONTENT_TYPE_LATEST, measurements(status)
    return 404, "text/plain", b"there is /healthz, and /metrics\n"


def measurements(status: Status) -> bytes:
    """The status as Prometheus reads it."""
    from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415 - an extra

    registry = CollectorRegistry()
    registry.register(_Collected(status))
    return generate_latest(registry)


class _Collected:
    """A status as a collector of prometheus-client's."""

    def __init__(self, status: Status):
        self._status = status

    def collect(self) -> Iterator[Metric]:
        """The measurements."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily  # noqa: PLC0415 - an extra

        status = self._status
        rounds = GaugeMetricFamily("hierfed_round", "The last round of each stage that is under way.", labels=["stage"])
        if status.stage:
            rounds.add_metric([status.stage], status.round)
        yield rounds
        yield CounterMetricFamily("hierfed_rounds_abandoned", "Rounds without a quorum.", value=status.abandoned)
        yield GaugeMetricFamily(
            "hierfed_problem", "1 where something is wrong, as /healthz says.", bool(status.problem)
        )
        yield GaugeMetricFamily("hierfed_began_timestamp_seconds", "When it was started.", status.began)
        if status.kind == "node":
            reached = "hierfed_last_contact_timestamp_seconds"
            yield GaugeMetricFamily(reached, "When the server was reached.", status.last_contact)
            return
        yield GaugeMetricFamily("hierfed_rounds_done", "Rounds since it was started.", status.done)
        yield GaugeMetricFamily("hierfed_rounds_planned", "Rounds to come when it was started.", status.rounds)
        yield GaugeMetricFamily("hierfed_quorum", "Contributions that a round needs.", status.quorum)
        yield GaugeMetricFamily("hierfed_nodes_present", "Nodes that are there.", len(status.present))
        yield CounterMetricFamily("hierfed_refused", "Nodes and answers that were refused.", value=status.refusals)
        present = GaugeMetricFamily("hierfed_node_present", "1 for a node that is there.", labels=["node"])
        contact = GaugeMetricFamily("hierfed_node_last_contact_timestamp_seconds", "Its last answer.", labels=["node"])
        for name, member in status.members.items():
            present.add_metric([name], member.present)
            contact.add_metric([name], member.last_contact)
        yield present
        yield contact

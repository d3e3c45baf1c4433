"""The HTTP interface of a run or of a node's state: its parts put together, and the server that runs it."""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.middleware.trustedhost import TrustedHostMiddleware

from hierfed import __version__
from hierfed.errors import HierfedError, reason_of
from hierfed.models.threads import one_torch_thread
from hierfed.page.bundle import HEADERS, page_files
from hierfed.service.access import EVERYONE, Rate, Tokens
from hierfed.service.answering import add_answers
from hierfed.service.current import Current
from hierfed.service.guard import Asking, Guard, Measurements, problem
from hierfed.service.people import add_sessions, asking
from hierfed.service.sessions import Sessions

LOG = logging.getLogger("hierfed.service")
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript", "json": "application/json"}


@dataclass(frozen=True)
class Limits:
    """The bounds of a service.

    rate: requests of a client a second. hosts: the names under which it answers, so that no other page's name can be
    pointed at it.
    """

    rate: float = 200.0
    hosts: tuple[str, ...] = LOOPBACK


def create_app(current: Current, tokens: Tokens | None = None, limits: Limits = Limits()) -> FastAPI:
    """The application for one run or one node's state; see Guard for tokens.

    The page for browsers lies under /page/, where the method has one.
    """
    sessions = Sessions()
    measurements = Measurements(current, sessions)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        current.start()
        yield
        current.stop()

    app = FastAPI(title="hierfed", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.add_middleware(Guard, tokens=tokens, rate=Rate(limits.rate), measurements=measurements)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(limits.hosts))
    app.exception_handler(HierfedError)(lambda _, error: problem(422, str(error)))
    add_answers(app, current, sessions)
    add_sessions(app, current, sessions)
    _add_page(app, current)

    @app.get("/healthz")
    def healthz() -> dict[str, Any]:
        """Say that a model answers, and which."""
        served = current.answering.model.served
        return {"status": "ok", "method": served.settings.method, "digest": served.header.get("digest", "")}

    @app.get("/metrics")
    def metrics(who: Annotated[Asking, Depends(asking)]) -> Response:
        """Numbers for Prometheus."""
        if who.user != EVERYONE:
            raise HTTPException(403, "this token is a user's, and measurements are of all")
        return Response(generate_latest(measurements.registry), media_type=CONTENT_TYPE_LATEST)

    return app


def _add_page(app: FastAPI, current: Current) -> None:
    @app.get("/page/{name:path}")
    def page(name: str = "") -> Response:
        """The page that computes in the visitor's browser; it publishes the shared model."""
        here = current.answering
        found: dict[str, bytes] = here.kept("page", lambda: page_files(current.folder))
        content = found.get(name or "index.html")
        if content is None:
            raise HTTPException(404, "no such file of the page")
        kind = KINDS[(name or "index.html").rpartition(".")[2]]
        return Response(content, media_type=kind, headers=HEADERS)


def serve(folder: Path, app: FastAPI, host: str, port: int, certificate: Path | None, key: Path | None) -> None:
    """Answer until the process is told to stop. Raises HierfedError where nobody can listen."""
    import uvicorn  # noqa: PLC0415 - for this command alone

    _refuse_port_in_use(host, port)
    LOG.info("serves %s", folder)
    # Requests share the cores already.
    with one_torch_thread():
        uvicorn.run(
            app,
            host=host,
            port=port,
            ssl_certfile=certificate,
            ssl_keyfile=key,
            access_log=False,
            server_header=False,
            limit_concurrency=200,
            timeout_keep_alive=10,
            h11_max_incomplete_event_size=16 * 1024,
        )


def _refuse_port_in_use(host: str, port: int) -> None:
    """Raise HierfedError where nobody can listen; the server itself would say it in several lines."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        reason = reason_of(error)
        raise HierfedError(
            f"--port {port}: cannot listen at {host}: {reason}; choose another --host or --port"
        ) from error

"""The guard of each request: token, rate and size before it is answered; measurements and the log afterwards."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hierfed.service.access import EVERYONE, Rate, Tokens
from hierfed.service.current import Current
from hierfed.service.sessions import Sessions

LOG = logging.getLogger("hierfed.service")
LARGEST_BODY = 64 * 1024
# Asked for by those who only look whether the service lives.
OPEN = ("/healthz",)


@dataclass(frozen=True)
class Asking:
    """The one who asks: the user of a token; EVERYONE for a token of all, or where no tokens are asked for."""

    user: str

    def allows(self, user: str) -> bool:
        """Whether answers about this user may be given."""
        return self.user in (EVERYONE, user)


class Measurements:
    """Numbers for Prometheus, in a registry of their own; no user and no item is among them."""

    def __init__(self, current: Current, sessions: Sessions):
        self.registry = CollectorRegistry()
        self.requests = Counter("hierfed_requests", "By route and status.", ["route", "status"], registry=self.registry)
        self.seconds = Histogram("hierfed_request_seconds", "By route.", ["route"], registry=self.registry)
        for name, words, value in (
            ("hierfed_sessions", "Sessions in memory.", lambda: len(sessions.kept)),
            ("hierfed_swaps", "Newer models that took the place.", lambda: current.swaps),
            ("hierfed_swap_failures", "Newer models that could not be read.", lambda: current.failures),
        ):
            Gauge(name, words, registry=self.registry).set_function(value)


@dataclass
class Guard:
    """Refuses what may not be asked, and measures what was; everything else goes on to the application.

    tokens: None lets everyone who reaches the service ask for every user.
    """

    app: ASGIApp
    tokens: Tokens | None
    rate: Rate
    measurements: Measurements

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, request, status = time.perf_counter(), Request(scope), 500

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["Cache-Control"] = "no-store"
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        try:
            await (self._refused(request) or self.app)(scope, receive, send_with_headers)
        finally:
            spent, route = time.perf_counter() - began, getattr(scope.get("route"), "path", "other")
            self.measurements.requests.labels(route, status).inc()
            self.measurements.seconds.labels(route).observe(spent)
            # Neither a query nor a body is logged: they hold users and ratings.
            LOG.info("%s %s %d %.1f ms", request.method, route, status, 1000 * spent)

    def _refused(self, request: Request) -> Response | None:
        """The refusal of a request before anything is done for it; None where it may go on."""
        client = request.client.host if request.client else ""
        request.state.asking = Asking(EVERYONE)
        # Before the token is looked at, so that nobody tries tokens faster.
        if not self.rate.allows(client):
            return problem(429, f"more than {self.rate.a_second:g} requests a second", {"Retry-After": "1"})
        if self.tokens is not None and request.url.path not in OPEN:
            user = self.tokens.user_of(request.headers.get("authorization", ""))
            if user is None:
                return problem(401, "a token is asked for: Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})
            request.state.asking = Asking(user)
        length = request.headers.get("content-length", "0")
        if request.headers.get("transfer-encoding") or not (length.isascii() and length.isdecimal()):
            return problem(411, "a body needs its Content-Length")
        if len(length) > 9 or int(length) > LARGEST_BODY:
            return problem(413, f"a body holds at most {LARGEST_BODY} bytes")
        return None


def problem(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """A refusal in one line."""
    return JSONResponse({"detail": detail}, status, headers)

"""A page of the small films, in a headless Chromium, from a file and over HTTP under a sub-path."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from hierfed.page.bundle import HEADERS, write_page


@pytest.fixture(scope="session")
def site(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A web root with the page under /some/place/."""
    root = tmp_path_factory.mktemp("site")
    write_page(model.served.folder, root / "some" / "place")
    return root


class Handler(SimpleHTTPRequestHandler):
    """A plain web server that adds the page's headers and counts requests."""

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_: Any) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]


@pytest.fixture(scope="session")
def web(site: Path) -> Iterator[ThreadingHTTPServer]:
    """A web server of the site; `asked` lists the paths that were asked for."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(site)))
    server.asked = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(params=["file", "sub-path"])
def address(request: pytest.FixtureRequest, site: Path, web: ThreadingHTTPServer) -> str:
    """The page's address, as a file and on a web server."""
    if request.param == "file":
        return (site / "some" / "place" / "index.html").as_uri()
    return f"http://127.0.0.1:{web.server_address[1]}/some/place/"


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    """A tab of its own, with its own storage, as narrow as a phone."""
    context = chromium.new_context(viewport={"width": 360, "height": 740})
    yield context.new_page()
    context.close()

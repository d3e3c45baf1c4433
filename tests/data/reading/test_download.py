"""The download is checked, cached, unpacked by name only, and fails in one line."""

import hashlib
import http.client
import http.server
import io
import threading
import urllib.error
import zipfile
from pathlib import Path

import pytest

from hierfed.data.reading.download import MEMBERS, fetch_movielens_small
from hierfed.errors import DataError


def archive(names) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as packed:
        for name in names:
            packed.writestr(name, f"content of {name}")
    return memory.getvalue()


GOOD = archive([f"ml-latest-small/{name}" for name in MEMBERS] + ["../escaped.txt", "ml-latest-small/other.csv"])


def fetch(cache: Path, content: bytes = GOOD, sha256: str | None = None, **options) -> Path:
    digest = sha256 or hashlib.sha256(content).hexdigest()
    return fetch_movielens_small(cache=cache, url="x", sha256=digest, opener=lambda _: io.BytesIO(content), **options)


def never(_: str) -> io.BytesIO:
    raise AssertionError("the cache should have been used")


def test_over_http_with_progress(tmp_path):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(GOOD)))
            self.end_headers()
            self.wfile.write(GOOD)

        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    seen: list[tuple[int, int | None]] = []
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        folder = fetch_movielens_small(
            cache=tmp_path,
            url=f"http://127.0.0.1:{server.server_port}/x.zip",
            sha256=hashlib.sha256(GOOD).hexdigest(),
            progress=lambda done, total: seen.append((done, total)),
        )
    assert sorted(path.name for path in folder.iterdir()) == sorted(MEMBERS)
    assert seen[-1] == (len(GOOD), len(GOOD))


def test_the_second_time_comes_from_the_cache(tmp_path):
    first = fetch(tmp_path)
    digest = hashlib.sha256(GOOD).hexdigest()
    assert fetch_movielens_small(cache=tmp_path, url="x", sha256=digest, opener=never) == first
    assert [path.name for path in tmp_path.iterdir()] == [first.name]


def test_only_expected_members_are_unpacked(tmp_path):
    fetch(tmp_path / "cache")
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == set(MEMBERS)


@pytest.mark.parametrize(
    "content, expected",
    [(b"no zip", "not the expected archive"), (archive(["ml-latest-small/ratings.csv"]), "not the expected archive")],
)
def test_another_archive(tmp_path, content, expected):
    with pytest.raises(DataError, match=expected):
        fetch(tmp_path, content)
    assert list(tmp_path.iterdir()) == []


def test_another_sha256_leaves_nothing_behind(tmp_path):
    with pytest.raises(DataError, match=r"sha256 is .*, expected 00ff.*--data DIR"):
        fetch(tmp_path, sha256="00ff")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error", [urllib.error.URLError("no route to host"), TimeoutError("timed out"), http.client.BadStatusLine("?")]
)
def test_offline_is_one_line_that_names_the_alternatives(tmp_path, error):
    def offline(_: str) -> io.BytesIO:
        raise error

    with pytest.raises(DataError) as caught:
        fetch_movielens_small(cache=tmp_path, opener=offline)
    message = str(caught.value)
    assert "\n" not in message
    assert all(part in message for part in ("grouplens.org", "cannot be downloaded", "--data DIR", "--data embedded"))


def test_a_server_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="cannot be downloaded"):
        fetch_movielens_small(cache=tmp_path, url="http://127.0.0.1:9/x.zip")


def test_a_server_that_never_ends(tmp_path):
    class Endless(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            return bytes(size)

    with pytest.raises(DataError, match="more than 50000000 bytes"):
        fetch_movielens_small(cache=tmp_path, url="x", opener=lambda _: Endless())

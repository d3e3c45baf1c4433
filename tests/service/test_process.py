"""`hierfed serve` as a process of its own: it answers, refuses, takes a newer model, and ends when it is told to."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

import hierfed
from hierfed.data.settings import DataSettings
from hierfed.serving.update import update_run

pytest.importorskip("uvicorn", reason="uvicorn is not here: pip install '.[serve]'")


@dataclass
class Service:
    """A process that serves a run's folder on a port of its own.

    log: what it tells, a file: once a pipe that nobody reads is full, the process would stand still.
    """

    process: subprocess.Popen[bytes]
    folder: Path
    port: int
    log: Path

    def ask(self, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Status and content; a body is posted as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {} if body is None else {"Content-Type": "application/json"}
        connection.request("GET" if body is None else "POST", path, body, headers)
        answer = connection.getresponse()
        found = answer.status, answer.read()
        connection.close()
        return found

    def swaps(self) -> int:
        """How often a newer model has taken the place."""
        found = re.search(r"^hierfed_swaps (\d+)", self.ask("/metrics")[1].decode(), re.MULTILINE)
        assert found
        return int(found[1])


@pytest.fixture(scope="module")
def service(model, tmp_path_factory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("served") / "run"
    shutil.copytree(model.served.folder, folder)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["-m", "hierfed", "serve", str(folder), "--port", str(port), "--rate", "100000"]
    log = folder.parent / "log"
    with log.open("wb") as told:
        process = subprocess.Popen([sys.executable, *words], stderr=told)
    while "running on" not in log.read_text():
        with suppress(subprocess.TimeoutExpired):
            pytest.fail(f"it ended with {process.wait(0.1)}: {log.read_text()}")
    yield Service(process, folder, port, log)
    process.kill()
    process.wait()


@pytest.mark.slow
def test_a_process_answers_refuses_and_takes_a_newer_model_while_it_answers(service, model, tmp_path):
    def listed(answer: bytes) -> list[str]:
        return [each["item"] for each in json.loads(answer)["items"]]

    asked = "/recommendations?user=4&k=5"
    assert listed(service.ask(asked)[1]) == [each.item for each in model.recommend("4", k=5).items]
    assert service.ask("/ratings", b"{")[0] == 422
    assert service.ask("/ratings", b'{"ratings": {"9": 1e999}}')[0] == 422
    assert service.ask("/ratings", b" " * 10**6)[0] == 413
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as raw:
        raw.sendall(b"\x00\xff no request at all\r\n\r\n")
        assert b" 400 " in raw.recv(4096).splitlines()[0]
    with ThreadPoolExecutor(16) as clients:
        users = [f"/recommendations?user={user}&k=3" for user in range(1, 41)]
        assert {status for status, _ in clients.map(service.ask, 4 * users)} == {200}
    asked = "/recommendations?user=anna&k=5"
    assert not json.loads(service.ask(asked)[1])["known"]
    table = tmp_path / "new.csv"
    table.write_text("user,item,rating\nanna,1,5\nanna,2,0.5\nanna,3,4\n")
    update_run(service.folder, str(table), how=DataSettings())
    while service.swaps() == 0:
        assert {service.ask(path)[0] for path in users} == {200}
    found = service.ask(asked)[1]
    assert json.loads(found)["known"]
    assert listed(found) == [each.item for each in hierfed.load(service.folder).recommend("anna", k=5).items]


@pytest.mark.slow
def test_a_process_ends_when_it_is_told_to(service):
    assert service.ask("/healthz")[0] == 200
    service.process.send_signal(signal.SIGTERM)
    service.process.wait(timeout=60)
    told = service.log.read_text()
    assert service.process.returncode in (0, -signal.SIGTERM, 128 + signal.SIGTERM), told
    assert "Traceback" not in told
    with pytest.raises(OSError, match="refused"):
        service.ask("/healthz")

"""An edge's files: who it is, and the nodes that it was settled with; only their owner can read them."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from hierfed.atomic import held, write_atomically
from hierfed.deployment.edges import read_group, write_group
from hierfed.deployment.keys import new_key, read_key
from hierfed.deployment.protocol import Introduction, is_name
from hierfed.errors import HierfedError, SettingsError, reason_of
from hierfed.sealed import MALFORMED, damaged, read_json, sealed_json

FORMAT = "hierfed edge 1"
EDGE, KEY, LOCK = "edge.json", "edge.key", "lock"
ANEW = "put it back from a copy, or begin with another --state and --name"


class EdgeState:
    """The folder of one edge, held by one process at a time.

    identity: a secret that is the same at each start. group: the introductions of its nodes in a training.
    """

    def __init__(self, folder: Path, name: str):
        if not is_name(name):
            raise SettingsError(f"--name {name!r}: expected one line of text without a slash")
        self.folder, self.name = folder, name
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
            self._lock = held(folder / LOCK)
        except BlockingIOError as error:
            raise HierfedError(f"--state {folder}: another process is using it; each edge needs its own") from error
        except OSError as error:
            raise HierfedError(f"--state {folder}: cannot be used: {reason_of(error)}") from error
        self.identity, self.group = secrets.token_hex(16), tuple[Introduction, ...]()
        self._read()
        self._write()

    def close(self) -> None:
        """Let another process use the folder."""
        self._lock.close()

    def key(self) -> ec.EllipticCurvePrivateKey:
        """The edge's own private key, the same at each start."""
        path = self.folder / KEY
        if not path.is_file():
            new_key(path)
        return read_key(path, ANEW)

    def settle(self, group: Sequence[Introduction]) -> None:
        """Keep the nodes of the edge, which stay the same until the training is over; none then."""
        self.group = tuple(group)
        self._write()

    def _write(self) -> None:
        group = json.loads(write_group(self.group))
        record = {"format": FORMAT, "name": self.name, "identity": self.identity, "group": group}
        write_atomically(self.folder / EDGE, sealed_json(record), 0o600)

    def _read(self) -> None:
        path = self.folder / EDGE
        if not path.is_file():
            return
        record = read_json(path, ANEW, always=True)
        if record.get("format") != FORMAT:
            raise HierfedError(f"{path}: not the state of an edge of this version of hierfed ({FORMAT}): {ANEW}")
        if record.get("name") != self.name:
            raise HierfedError(f"--state {self.folder}: belongs to edge '{record.get('name')}', not '{self.name}'")
        try:
            self.identity, self.group = str(record["identity"]), read_group(json.dumps(record["group"]).encode())
        except MALFORMED as error:
            raise damaged(path, error, ANEW) from error

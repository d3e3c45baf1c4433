"""Access: tokens, each for one user or for all, and how often."""

from __future__ import annotations

import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hierfed.errors import HierfedError, reason_of

EVERYONE = "*"
SHORTEST = 20
# Of so many clients at most, the newest, the rates are remembered.
MOST_CLIENTS = 10_000


@dataclass(frozen=True)
class Tokens:
    """The user of each token, by the token's sha256, so that a look-up takes no longer for a better guess.

    EVERYONE is the user of a token that may ask for all.
    """

    users: Mapping[str, str]

    def user_of(self, authorization: str) -> str | None:
        """The user of an `Authorization` header; None for an unknown token."""
        kind, _, token = authorization.partition(" ")
        return self.users.get(_digest(token.strip())) if kind.lower() == "bearer" else None


def read_tokens(path: Path) -> Tokens:
    """The tokens of a file: a line each, `TOKEN USER`, where the user * stands for all users.

    Raises HierfedError for a file that others may read, and for a line that is none.
    """
    try:
        readable, text = path.stat().st_mode & 0o077, path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise HierfedError(f"--tokens {path}: cannot be read: {reason_of(error)}") from error
    if readable:
        raise HierfedError(f"--tokens {path}: others than its owner may read it: chmod 600 {path}")
    users = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        token, _, user = line.strip().partition(" ")
        if not re.fullmatch(r"[\x21-\x7e]+", token) or len(token) < SHORTEST or not user.strip():
            raise HierfedError(f"--tokens {path}: line {number}: expected TOKEN USER, a token of {SHORTEST} or more")
        users[_digest(token)] = user.strip()
    if not users:
        raise HierfedError(f"--tokens {path}: no token in it: a line is TOKEN USER, with * for all users")
    return Tokens(users)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


@dataclass
class Rate:
    """At most so many requests of each client a second, and twice as many at once."""

    a_second: float
    now: Callable[[], float] = time.monotonic
    left: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)

    def allows(self, client: str) -> bool:
        """Count a request of this client; False where it is one too many."""
        now, most = self.now(), 2 * self.a_second
        tokens, since = self.left.pop(client, (most, now))
        tokens = min(most, tokens + (now - since) * self.a_second)
        allowed = tokens >= 1
        self.left[client] = (tokens - 1 if allowed else tokens, now)
        if len(self.left) > MOST_CLIENTS:
            self.left.popitem(last=False)
        return allowed

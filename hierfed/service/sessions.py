"""Ratings of people whom the run does not know, kept in memory for as long as they ask."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

MOST_SESSIONS, MOST_RATINGS = 10_000, 1000


@dataclass(frozen=True)
class Session:
    """Stars by item id. owner: the user whose token made it; seen: when it was last asked for, in seconds."""

    ratings: Mapping[str, float]
    owner: str
    seen: float


@dataclass
class Sessions:
    """Sessions by their names, which no one can guess; the oldest go first.

    lasts: seconds after which a session that nobody asks for is forgotten.
    """

    lasts: float = 3600.0
    now: Callable[[], float] = time.monotonic
    kept: OrderedDict[str, Session] = field(default_factory=OrderedDict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, ratings: Mapping[str, float], owner: str, name: str | None = None) -> tuple[str, int] | None:
        """Keep ratings, added to those of a session that is named; gives its name and the number of its ratings.

        None for a session that is not this owner's, or is no more, and for too many ratings.
        """
        with self.lock:
            before: Mapping[str, float] = {}
            if name is not None:
                found = self._of(name, owner)
                if found is None:
                    return None
                before = found.ratings
            name, whole = name or secrets.token_urlsafe(18), {**before, **ratings}
            if len(whole) > MOST_RATINGS:
                return None
            self.kept[name] = Session(whole, owner, self.now())
            self.kept.move_to_end(name)
            while len(self.kept) > MOST_SESSIONS:
                self.kept.popitem(last=False)
            return name, len(whole)

    def ratings(self, name: str, owner: str) -> Mapping[str, float] | None:
        """The ratings of a session; None where it is not this owner's, or is no more."""
        with self.lock:
            found = self._of(name, owner)
            if found is None:
                return None
            self.kept[name] = Session(found.ratings, owner, self.now())
            self.kept.move_to_end(name)
            return found.ratings

    def forget(self, name: str, owner: str) -> bool:
        """Forget a session; False where there was none of this owner."""
        with self.lock:
            return self._of(name, owner) is not None and self.kept.pop(name, None) is not None

    def _of(self, name: str, owner: str) -> Session | None:
        while self.kept and self.now() - next(iter(self.kept.values())).seen > self.lasts:
            self.kept.popitem(last=False)
        found = self.kept.get(name)
        return found if found is not None and found.owner == owner else None

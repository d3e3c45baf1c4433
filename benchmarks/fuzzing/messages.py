"""Every message of a federation, damaged on its way: at the node that is asked, and at the server that is answered."""

from __future__ import annotations

import collections
import importlib.util
import itertools
import random
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from fuzzing import mutations
from fuzzing.trial import LONG, LONGEST, REFUSED, SAME, TRACEBACK, Verdict

from hierfed.engines.exchange import REFUSAL
from hierfed.engines.flower.fleet import client_app
from hierfed.engines.flower.records import ARRAYS, FACTS, read_reply
from hierfed.errors import HierfedError
from hierfed.settings import load_settings


def _village() -> Any:
    """The village of the tests; some package installs a `tests` of its own, so it is loaded by its path."""
    path = Path(__file__).parents[2] / "tests" / "deployment" / "conftest.py"
    spec = importlib.util.spec_from_file_location("village_of_the_tests", path)
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = found
    spec.loader.exec_module(found)
    return found


tests = _village()

VICTIM = "node 10"
# Beside it, where no secure sum needs them to go on: one federation then shows its server several damaged replies.
MORE_VICTIMS = ("node 11", "node 12", "node 13")
# Damaged requests before each right one: in the tests, and where time is no matter.
FEW, MANY = 6, 40
OPEN = ("hello", "setup", "round", "finish", "judge", "ledger", "goodbye")
SECURE = ("round", "share", "mask", "consent", "unmask", "judge")
KINDS = [(kind, False) for kind in OPEN] + [(kind, True) for kind in SECURE]
ODD: tuple[Any, ...] = (-1, 0, 2**62, 1e308, float("nan"), "", "x" * 5000, "\x1b[31m", "[]", "{}", "null", b"", b"\xff")


def hurt_records(content: RecordDict, rng: random.Random) -> RecordDict:
    """Records with one fact, or the arrays, other than they were."""
    facts = dict(content[FACTS]) if isinstance(content.get(FACTS), ConfigRecord) else {}
    names = [name for name in facts if name != "unlike"]
    kind, odd = rng.randrange(8), rng.choice(ODD)
    if kind == 0 or not names:
        facts[rng.choice(["more", "refusal", "x" * 200, "number", "halving"])] = odd
    elif kind == 1:
        del facts[rng.choice(names)]
    elif kind == 2:
        facts[rng.choice(names)] = odd
    elif kind == 3:
        return rng.choice([
            RecordDict({}), RecordDict({FACTS: ConfigRecord(facts), "more": ConfigRecord({})}),
            RecordDict({FACTS: ConfigRecord(facts), ARRAYS: ArrayRecord({ARRAYS: Array("", (3,), "npy", b"abc")})}),
        ])  # fmt: skip
    else:
        name = ARRAYS if ARRAYS in facts and rng.random() < 0.6 else rng.choice(names)
        facts[name] = _hurt(name, facts[name], rng)
    return RecordDict({FACTS: ConfigRecord(facts)})


def _hurt(name: str, value: Any, rng: random.Random) -> Any:
    """A value of the same type that is not what it was."""
    if isinstance(value, bytes) and value:
        return (mutations.tensors if name == ARRAYS else mutations.binary)(value, rng)
    if isinstance(value, str) and value:
        mutate = mutations.record if value[0] in "{[" and len(value) > 2 else mutations.text
        return mutate(value.encode(), rng).decode("utf-8", "replace")
    if isinstance(value, int | float):
        return rng.choice([value + 1, value - 1, -value, value * 1000, 0])
    return value


def verdict_of(error: BaseException) -> Verdict:
    """What an error is to the user: a line, or a traceback."""
    if isinstance(error, HierfedError):
        told = str(error)
        return Verdict(REFUSED if len(told) <= LONGEST and told.isprintable() else LONG, told)
    where = traceback.extract_tb(error.__traceback__)[-1]
    return Verdict(TRACEBACK, f"{type(error).__name__} at {Path(where.filename).name}:{where.lineno}: {error}"[:300])


@dataclass
class Damaging(tests.Grid):
    """A grid that hurts some nodes' messages of one kind: one node's requests, all victims' replies."""

    kind: str = ""
    requests: bool = True
    each: int = FEW
    rng: random.Random = field(default_factory=random.Random)
    found: list[Verdict] = field(default_factory=list)

    def on_request(self, side: Any, message: Message) -> None:
        """Deliver some damaged requests before the right one."""
        kind = message.metadata.message_type.rpartition(".")[2]
        if not self.requests or side.name != VICTIM or kind != self.kind:
            return
        right = message.content
        for _ in range(self.each):
            message.content = hurt_records(right, self.rng)
            try:
                reply = client_app(side.answer)(message, Context(1, 1, {}, RecordDict(), {}))
                taken = REFUSAL in read_reply(reply).facts
                self.found.append(Verdict(REFUSED if taken else SAME))
            except BaseException as error:  # noqa: BLE001 - the outcome itself
                self.found.append(verdict_of(error))
        message.content, side.over = right, False

    def on_reply(self, name: str, kind: str, reply: Message) -> Message:
        """The node's reply, damaged."""
        if self.requests or name not in (VICTIM, *MORE_VICTIMS) or kind != self.kind or reply.has_error():
            return reply
        reply.content = hurt_records(reply.content, self.rng)
        self.found.append(Verdict(SAME))
        return reply


def federation(data: Any, kind: str, secure: bool, requests: bool, seed: int, each: int = FEW) -> list[Verdict]:
    """The outcomes of all damaged messages of this kind in one federation; the last one is the server's.

    each: damaged requests before a right one.
    """
    rng = random.Random(f"{kind} {secure} {requests} {seed}")
    changes = {"secure_sums": True, "rank_items": False} if secure else {}
    settings = load_settings("item_biases", {**tests.SMALL["item_biases"], "scale": [0.5, 5.0], **changes})
    found: list[Verdict] = []

    def grid(*given: Any) -> Damaging:
        return Damaging(*given, kind=kind, requests=requests, each=each, rng=rng, found=found)

    place = Path(tempfile.mkdtemp())
    village = tests.Village(place, data, settings, make_grid=grid)
    try:
        village.start("node 1", "node 2", VICTIM)
        if not requests and (kind == "judge" or not secure):
            for name in MORE_VICTIMS:
                village.start(name, origin=village.sides[VICTIM].origin)
        village.serve(quorum=2, nodes=len(village.sides) if kind not in ("hello", "setup") else 2)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        if not requests and found:
            found[-1] = verdict_of(error)
        elif not isinstance(error, HierfedError):
            found.append(verdict_of(error))
    finally:
        village.close()
        shutil.rmtree(place)
    return found


def over_kinds(
    first: int, most: int, time_left: Callable[[], bool] = lambda: True
) -> dict[str, collections.Counter[str]]:
    """Counts of outcomes by kind; prints each failure as it is found.

    first: the first seed. most: a kind with so many damages is left alone from then on.
    """
    for name in ("_task_id", "_run_id", "_node_id"):
        setattr(TaskIdentity, name, 1)
    ways = [(kind, secure, requests) for kind, secure in KINDS for requests in (True, False)]
    names = [f"{kind}{', secure' * secure}, {'to node' if to_node else 'to server'}" for kind, secure, to_node in ways]
    counts = {name: collections.Counter[str]() for name in names}
    with tempfile.TemporaryDirectory() as folder:
        data = tests.make_data(Path(folder))
        for seed in itertools.count(first):
            left = [(name, way) for name, way in zip(names, ways, strict=True) if counts[name].total() < most]
            for name, (kind, secure, requests) in left:
                if not time_left():
                    return counts
                for verdict in federation(data, kind, secure, requests, seed, MANY):
                    counts[name][verdict.outcome] += 1
                    if verdict.outcome in (TRACEBACK, LONG):
                        print(f"{name}, damage {seed}: {verdict.outcome}: {verdict.told}", flush=True)
            if not left:
                break
    return counts

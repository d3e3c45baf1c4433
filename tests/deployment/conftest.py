"""A federation in one process: the server's own code and the nodes' own code, with a grid between them that is a list.

Nothing waits: the clock moves when somebody sleeps.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from hierfed.data.catalogue import Catalogue
from hierfed.data.federation import Node
from hierfed.data.ratings import Ratings
from hierfed.data.reading.catalogue_file import read_catalogue
from hierfed.engines.in_process import run_rounds
from hierfed.engines.stages import after_earlier_stages
from hierfed.evaluation.judging import judge_intervals, judge_node, judge_users
from hierfed.federated.contract import SharedModel
from hierfed.federated.method import Method
from hierfed.federated.private import PrivateState
from hierfed.methods import Case, prepare, stages_from_rating
from hierfed.methods.hierarchical.hierarchical import HierarchicalFactors
from hierfed.settings import Settings, load_settings

if TYPE_CHECKING:
    from flwr.app import Message

    from hierfed.deployment.former import Former
    from hierfed.deployment.node import NodeSide
    from hierfed.results import DeployedRound, Result

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
collect_ignore_glob = [] if importlib.util.find_spec("flwr") else ["test_*.py"]
os.environ |= {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}

USERS, ITEMS, PER_USER, HELD_OUT = 36, 30, 11, 2
FIRST_USER, FIRST_ITEM = 7_310_001, 501
# In the order of their numbers, which is not the order of their names as text.
NAMES = ("node 1", "node 2", "node 10")
SMALL: dict[str, dict[str, Any]] = {
    "item_biases": {"nodes": 3, "personal_nodes": 3, "min_raters": 3},
    "network": {"rounds": 3, "hidden": [6, 4], "local_epochs": 1, "batch_size": 16, "user_level": "bias"},
    "hierarchical": {
        "rounds": 4,
        "rank": 2,
        "embedding_rank": 3,
        "embedding_rounds": 1,
        "min_raters": 3,
        "implicit_rank": 3,
        "implicit_rounds": 2,
        "least_raters": 3,
    },
}


class Stopped(Exception):
    """The server's process ends here."""


@dataclass(frozen=True)
class Reference:
    """What the same training gives in one process, from nodes whose users are numbered together."""

    method: Method
    nodes: list[Node]
    models: dict[str, SharedModel]
    rmse_before: float
    rmse_after: float
    coverage: float | None


@dataclass(frozen=True)
class Data:
    """Ratings of all nodes' users, as files and as numbers. table: columns user, item, rating, node, held."""

    place: Path
    table: pl.DataFrame
    catalogue: Catalogue

    def file(self, name: str, held: bool) -> str:
        return str(self.place / f"{name}{' test' if held else ''}.parquet")

    def rows(self, name: str, held: bool) -> Ratings:
        """A node's rows with users and items numbered over all nodes."""
        own = self.table.filter((pl.col("node") == name) & (pl.col("held") == held))
        return Ratings(
            (own["user"].to_numpy() - FIRST_USER).astype(np.int32),
            (own["item"].to_numpy() - FIRST_ITEM).astype(np.int32),
            own["rating"].to_numpy().astype(np.float32),
        )

    def nodes(self) -> list[Node]:
        return [Node(number, name, self.rows(name, False), self.rows(name, True)) for number, name in enumerate(NAMES)]


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """Everybody's ratings."""
    return make_data(tmp_path_factory.mktemp("ratings"))


def make_data(place: Path) -> Data:
    """The users take turns among the nodes; each holds out two rows."""
    rng = np.random.default_rng(11)
    quality, taste = rng.normal(0, 0.7, ITEMS), rng.normal(0, 0.5, USERS)
    rows = [
        (
            FIRST_USER + user,
            FIRST_ITEM + item,
            float(np.clip(round(2 * (3.4 + quality[item] + taste[user] + rng.normal(0, 0.4))) / 2, 0.5, 5)),
            NAMES[user % len(NAMES)],
            turn < HELD_OUT,
        )
        for user in range(USERS)
        for turn, item in enumerate(rng.choice(ITEMS, PER_USER, replace=False).tolist())
    ]
    table = pl.DataFrame(rows, schema=["user", "item", "rating", "node", "held"], orient="row").sort("user", "item")
    items = pl.DataFrame(
        {
            "item_id": range(FIRST_ITEM, FIRST_ITEM + ITEMS),
            "title": [f"The {('river', 'night', 'stone')[item % 3]} {item}" for item in range(ITEMS)],
            "year": rng.integers(1950, 2020, ITEMS),
            "genres": [["Action", "Drama"][: 1 + item % 2] for item in range(ITEMS)],
        }
    )
    items.write_parquet(place / "catalogue.parquet")
    found = Data(place, table, read_catalogue(place / "catalogue.parquet"))
    for name in NAMES:
        for held in (False, True):
            own = table.filter((pl.col("node") == name) & (pl.col("held") == held))
            own.select("user", "item", "rating").write_parquet(found.file(name, held))
    return found


def settings_for(preset: str, **changes: Any) -> Settings:
    return load_settings(preset, {**SMALL[preset], **changes})


@pytest.fixture(scope="session")
def make_settings() -> Callable[..., Settings]:
    """The small settings of a preset, with changes."""
    return settings_for


def refer(data: Data, preset: str) -> Reference:
    settings, nodes = settings_for(preset), data.nodes()
    values = data.table["rating"]
    limits = float(values.min()), float(values.max())  # type: ignore[arg-type]
    case = after_earlier_stages(Case(settings, data.catalogue, limits), nodes)
    method, models = prepare(case).method, dict(case.models)
    trained = run_rounds(method, nodes, settings.training.rounds)
    models["rating"] = trained.shared
    for stage in stages_from_rating(case)[1:]:
        models[stage.name] = run_rounds(stage.build(models), nodes, stage.rounds).shared
    personal = method.personalise(trained.shared, nodes, trained.private)
    judged = [judge_node(method, trained.shared, node, model)[1] for node, model in zip(nodes, personal, strict=True)]
    users, intervals = judge_users(judged), judge_intervals(judged)
    coverage = None if intervals is None else intervals.coverage
    return Reference(method, nodes, models, users.rmse_before, users.rmse_after, coverage)


@pytest.fixture(scope="session")
def reference(data: Data) -> Callable[[str], Reference]:
    """The reference of a preset, computed once."""
    known: dict[str, Reference] = {}

    def find(preset: str) -> Reference:
        if preset not in known:
            known[preset] = refer(data, preset)
        return known[preset]

    return find


class Clock:
    """Sleeping takes no time, and nothing else does."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


Meddle = Callable[[str, str, Mapping[str, Any]], str]


def leave_alone(name: str, kind: str, facts: Mapping[str, Any]) -> str:
    return ""


@dataclass
class Grid:
    """Flower's grid, as far as a server uses it: a message is answered as it is sent.

    meddle: told node, kind and facts of each message; it says "lost" for one that never comes, "late" for one whose
    answer comes in the round after, "stop" where the server ends before it hears any more answers.
    """

    sides: dict[int, NodeSide]
    meddle: Meddle
    sent: list[tuple[str, str, Message]]
    replies: dict[str, Message] = field(default_factory=dict)
    held_back: dict[str, Message] = field(default_factory=dict)
    round: Any = None
    messages: int = 0
    stopped: bool = False

    def on_request(self, side: NodeSide, message: Message) -> None:
        """A request is about to reach a node."""

    def on_reply(self, name: str, kind: str, reply: Message) -> Message:
        """A node's reply, as it reaches the server."""
        return reply

    def get_nodes(self) -> list[Any]:
        present = [node_id for node_id, side in self.sides.items() if not side.over]
        return [SimpleNamespace(node_id=node_id, last_activated_at="") for node_id in present]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        return [self._push(message) for message in messages]

    def _push(self, message: Message) -> str:
        from flwr.app import Context, Error, Message, RecordDict

        from hierfed.engines.flower.fleet import client_app
        from hierfed.engines.flower.records import read_request

        node_id = message.metadata.dst_node_id
        side = self.sides.get(node_id)
        if side is None:
            return ""
        self.messages += 1
        name = f"message {self.messages}"
        message.metadata.__dict__["_message_id"] = name
        request = read_request(message)
        what = self.meddle(side.name, request.kind, request.facts)
        self.on_request(side, message)
        if what == "lost":
            return name
        try:
            reply = client_app(side.answer)(message, Context(1, node_id, {}, RecordDict(), {}))
            self.sent.append((side.name, request.kind, reply))
        except Exception as error:  # noqa: BLE001 - whatever a node says, the server goes on
            reply = Message(Error(0, type(error).__name__), reply_to=message)
            side.__dict__.setdefault("failure", error)
        reply = self.on_reply(side.name, request.kind, reply)
        reply.metadata.__dict__["_src_node_id"] = node_id
        if request.facts.get("round") != self.round:
            self.replies |= self.held_back
            self.held_back, self.round = {}, request.facts.get("round")
        self.stopped = self.stopped or what == "stop"
        (self.held_back if what == "late" else self.replies)[name] = reply
        return name

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        if self.stopped:
            raise Stopped
        return [self.replies.pop(name) for name in message_ids if name in self.replies]


@dataclass
class Village:
    """Three nodes with their folders, and a server with its own; either may end and begin again."""

    place: Path
    data: Data
    settings: Settings
    sides: dict[str, NodeSide] = field(default_factory=dict)
    sent: list[tuple[str, str, Message]] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    records: list[DeployedRound] = field(default_factory=list)
    planned: list[int] = field(default_factory=list)
    make_grid: Callable[..., Grid] = Grid

    @property
    def server(self) -> Path:
        return self.place / "server"

    def start(self, *names: str, **changes: Any) -> None:
        """Start nodes, anew where they run."""
        from hierfed.deployment.node import NodeSide
        from hierfed.deployment.policy import Policy
        from hierfed.deployment.state import NodeState, Origin

        for name in names:
            if name in self.sides:
                self.sides[name].state.close()
            origin = Origin(self.data.file(name, False), test=self.data.file(name, True))
            policy = Policy(least_nodes=1, least_raters=1)
            own = {"origin": origin, "state": NodeState(self.place / name), "policy": policy}
            self.sides[name] = NodeSide(name, **own | changes)

    def serve(
        self,
        meddle: Meddle = leave_alone,
        on_round: Callable[[DeployedRound], None] = lambda record: None,
        former: Former | None = None,
        **wants: Any,
    ) -> Result:
        """Run a server from its folder to the end; former: the training that it goes on from."""
        from hierfed.deployment.admission import ServerObserver
        from hierfed.deployment.server import Requirements, conduct
        from hierfed.engines.flower.federation import Federation
        from hierfed.engines.flower.patience import Patience

        village, patience, clock = self, Patience(deadline=5.0), Clock()
        self.server.mkdir(parents=True, exist_ok=True)

        class Noting(ServerObserver):
            def tell(self, event: str) -> None:
                village.events.append(event)

            def on_plan(self, rounds: int) -> None:
                village.planned.append(rounds)

            def on_round(self, record: DeployedRound) -> None:
                village.records.append(record)
                on_round(record)

        # Flower numbers connections anew for each server.
        self.grid = self.make_grid(
            {7 * number + 3: side for number, side in enumerate(self.sides.values())}, meddle, self.sent
        )
        wanted = Requirements(**{"nodes": len(self.sides), "quorum": 1, "patience": patience} | wants)
        return conduct(
            self.settings,
            self.data.catalogue if former is None else former.grown(self.settings, self.data.catalogue),
            self.server,
            lambda admission: Federation(self.grid, admission, patience, clock.monotonic, clock.sleep),  # type: ignore[arg-type]
            wanted,
            Noting(),
            former,
        )

    def finished(self, rounds: int, keeps: bool = False) -> Former:
        """The training that is over, for an update of so many rounds; the server's folder is free for another one."""
        from hierfed.deployment.former import read_former

        if not (self.place / "former").is_dir():
            (self.server / "result.json").write_text("{}")
            self.server.rename(self.place / "former")
        return read_former(self.place / "former", self.settings, rounds, keeps)

    def models(self, former: Former | None = None) -> dict[str, SharedModel]:
        """The server's models, as its checkpoint has them; former: the training that it goes on from."""
        from hierfed.deployment.checkpoint import load_checkpoint

        catalogue = self.data.catalogue if former is None else former.grown(self.settings, self.data.catalogue)
        found = load_checkpoint(self.server, self.settings, catalogue)
        assert found is not None
        return dict(found.models)

    def close(self) -> None:
        for side in self.sides.values():
            side.state.close()


@contextmanager
def villages(data: Data, place: Path) -> Iterator[Callable[..., Village]]:
    """Makes a village of these settings whose nodes run, all three if none is named."""
    from flwr.supercore.task_identity import TaskIdentity

    made: list[Village] = []

    def make(settings: Settings, *names: str) -> Village:
        found = Village(place / f"village {len(made)}", data, settings)
        made.append(found)
        found.start(*(names or NAMES))
        return found

    with pytest.MonkeyPatch.context() as patch:
        # Tests of hierfed.atomic see to it that files reach the disk.
        patch.setattr(os, "fsync", lambda descriptor: None)
        for name in ("_task_id", "_run_id", "_node_id"):
            patch.setattr(TaskIdentity, name, 1)
        yield make
        for each in made:
            each.close()


@pytest.fixture
def village(data: Data, tmp_path: Path) -> Iterator[Callable[..., Village]]:
    """Makes villages of one test."""
    with villages(data, tmp_path) as make:
        yield make


@pytest.fixture
def train_by_hand() -> Callable[..., SharedModel]:
    """A training in which only some nodes contribute to a round: absent maps a round's number to the nodes' numbers."""

    def train(
        method: Method, nodes: list[Node], rounds: int, absent: Mapping[int, set[int]]
    ) -> tuple[SharedModel, list[PrivateState | None]]:
        from hierfed.federated.contract import ordered_sum

        assert isinstance(method, HierarchicalFactors)
        shared: SharedModel = method.start()
        private: list[PrivateState | None] = [None] * len(nodes)
        while shared.round < rounds:
            there = [node for node in nodes if node.number not in absent.get(shared.round + 1, set())]
            sums = []
            for node in there:
                ((sent, private[node.number]),) = method.contribute(shared, [node], [private[node.number]])
                sums.append(sent)
            shared = method.combine(shared, ordered_sum(sums))
        return shared, private

    return train  # type: ignore[return-value]

"""Judge, then learn: at every block of time each strategy is judged on the block, and then learns from it.

Source: Dawid, Present position and potential developments: the prequential approach, 1984.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from hierfed.data.federation import Node
from hierfed.data.ratings import Ratings, concatenated
from hierfed.engines.going_on import resumed_training
from hierfed.engines.in_process import run_rounds
from hierfed.errors import DataError, SettingsError
from hierfed.evaluation.half_life import AgedErrors
from hierfed.exports import Tabular
from hierfed.federated.contract import SharedModel
from hierfed.federated.method import Method, Restorer, Trained
from hierfed.federated.private import PersonalModel

STRATEGIES = ("frozen", "users", "rounds", "forgetting", "retrain")
# Factors on the sums of users for each block in which they gave nothing; 1 is the strategy `rounds`.
FADINGS = (0.9, 0.7, 0.5)


@dataclass(frozen=True)
class Learned:
    """A shared model, and the models of all users who had ratings.

    again: the users who have learned again alone since then, and what their node has; None for nobody.
    fitting: CPU seconds of what was made at once of users' own models; models of many users are made when asked for.
    """

    shared: SharedModel
    users: PersonalModel
    again: LearnedAgain | None = None
    fitting: float = 0.0

    @cached_property
    def kept(self) -> dict[int | None, Mapping[str, Tensor]]:
        """The tensors of each user's own file, by number, and of the node's under None."""
        return dict(self.users.tensors()) if self.again is None else self.again.kept

    def predict(self, rows: Ratings) -> np.ndarray:
        """Expected ratings, float64 [rows], at the rows' own times."""
        return self.users.predict(rows).numpy() if self.again is None else self.again.predict(rows)


@dataclass(frozen=True)
class LearnedAgain:
    """Users as they are served from files.

    restore: makes a user's model from the tensors of `kept`; see Learned.
    """

    restore: Restorer
    kept: dict[int | None, Mapping[str, Tensor]]

    def predict(self, rows: Ratings) -> np.ndarray:
        """See Learned."""
        found, node = np.empty(len(rows)), self.kept.get(None, {})
        for user in np.unique(rows.user).tolist():
            mine = rows.user == user
            alone = rows.take(mine)
            asked = Ratings(np.zeros_like(alone.user), alone.item, alone.value, alone.time)
            own = self.kept.get(user)
            found[mine] = self.restore({**own, **node} if own else node).predict(asked).numpy()
        return found


@dataclass(frozen=True)
class Learner:
    """Means of a strategy to learn from all ratings so far.

    rounds: of an update. full: of a training anew. keeps: see hierfed.engines.going_on.GoingOn.
    """

    method: Method
    rounds: int
    full: int
    keeps: bool = False

    def anew(self, rows: Ratings) -> Learned:
        """A training from the start."""
        nodes = [_node(rows)]
        return self._learned(nodes, run_rounds(self.method, nodes, self.full))

    def further(self, before: Learned, rows: Ratings, fading: float, age: np.ndarray) -> Learned:
        """Further rounds from the shared model.

        fading: a factor on a user's sums for each block since the user's last rating. age: these blocks, by user.
        """
        nodes, faded = [_node(rows)], None
        if fading != 1:
            ages = age[rows.user]
            nodes = [_node(rows.take(ages == each), number) for number, each in enumerate(np.unique(ages).tolist())]
            faded = {number: fading**each for number, each in enumerate(np.unique(ages).tolist())}
        _, trained = resumed_training(self.method, nodes, before.shared, self.rounds, faded=faded, keeps=self.keeps)
        return self._learned(nodes, trained)

    def _learned(self, nodes: Sequence[Node], trained: Trained) -> Learned:
        began = time.process_time()
        models = self.method.personalise(trained.shared, nodes, trained.private)
        users = models[0] if len(nodes) == 1 else _Several(nodes, models)
        return Learned(trained.shared, users, fitting=time.process_time() - began)

    def alone(self, before: Learned, rows: Ratings, changed: np.ndarray) -> Learned:
        """These users' own models, from all of their ratings, on a node that all users share; nothing is sent."""
        relearn, kept = self.method.relearner(before.shared), before.kept
        if relearn is None:
            raise SettingsError("users of this method cannot learn by themselves: take preset hierarchical")
        former = {user: kept[user] for user in changed.tolist() if user in kept}
        model = relearn(rows.take(np.isin(rows.user, changed)), former, kept.get(None, {}))
        again = LearnedAgain(self.method.restorer(before.shared), {**kept, **dict(model.tensors())})
        return Learned(before.shared, before.users, again)


class _Several(PersonalModel):
    """Users of several nodes as one model; users of none are those of the first node, which knows no more of them."""

    def __init__(self, nodes: Sequence[Node], models: Sequence[PersonalModel]):
        self._models = models
        self._place = {int(user): place for place, node in enumerate(nodes) for user in np.unique(node.train.user)}

    def predict(self, rows: Ratings) -> torch.Tensor:
        """See PersonalModel."""
        place = np.array([self._place.get(user, 0) for user in rows.user.tolist()])
        found = torch.empty(len(rows), dtype=torch.float64)
        for number in np.unique(place).tolist():
            mine = place == number
            found[torch.from_numpy(mine)] = self._models[number].predict(rows.take(mine))
        return found


@dataclass(frozen=True)
class BlockErrors:
    """One block. label: its time. rows, users: how many, and newcomers: how many users had no rating before.

    rmse, seconds: by strategy; seconds of CPU are those of learning from the block. fading: what was chosen.
    """

    label: str
    rows: int
    users: int
    newcomers: int
    rmse: Mapping[str, float]
    seconds: Mapping[str, float]
    fading: float


@dataclass(frozen=True)
class Prequential(Tabular):
    """The outcome.

    errors: squared errors of each strategy, block after block. aged: errors of personal models by their age.
    """

    blocks: tuple[BlockErrors, ...]
    errors: Mapping[str, tuple[np.ndarray, ...]]
    aged: AgedErrors

    @property
    def strategies(self) -> list[str]:
        """Those that were judged, without the candidates of forgetting."""
        return [name for name in STRATEGIES if name in self.blocks[0].rmse]

    def rows(self) -> list[dict[str, str | float]]:
        """RMSE of each block and strategy; then of all rows; then the CPU seconds of learning. See Tabular."""
        names = self.strategies
        found: list[dict[str, str | float]] = [
            {"block": block.label, "ratings": float(block.rows), **{name: block.rmse[name] for name in names}}
            for block in self.blocks
        ]
        every = {name: float(np.sqrt(np.concatenate(self.errors[name]).mean())) for name in names}
        spent = {name: sum(block.seconds[name] for block in self.blocks) for name in names}
        count = float(sum(block.rows for block in self.blocks))
        return [*found, {"block": "all", "ratings": count, **every}, {"block": "CPU s", "ratings": count, **spent}]

    def heading(self) -> str:
        """See Tabular."""
        return "RMSE of each block, judged before it is learned"


def blocks_of(ratings: Ratings, by: str) -> list[tuple[str, np.ndarray]]:
    """The rows of each block, by time, with its name.

    by: `year`, `month`, or a number of ratings. Raises DataError for ratings without times.
    """
    if ratings.time is None:
        raise DataError("blocks of time need timestamps, and this source has none")
    order = np.argsort(ratings.time, kind="stable")
    moments = [datetime.datetime.fromtimestamp(t, datetime.UTC) for t in ratings.time[order].tolist()]
    if by in ("year", "month"):
        names = [f"{moment:%Y}" if by == "year" else f"{moment:%Y-%m}" for moment in moments]
        starts = [place for place in range(len(names)) if not place or names[place] != names[place - 1]]
    elif by.isascii() and by.isdecimal() and int(by):
        starts = list(range(0, len(order), int(by)))
        names = [f"{moment:%Y-%m-%d}" for moment in moments]
    else:
        raise SettingsError(f"blocks '{by}': expected year, month, or a number of ratings")
    return [(names[a], order[a:b]) for a, b in zip(starts, [*starts[1:], len(order)], strict=True)]


def judge_then_learn(
    method: Method,
    ratings: Ratings,
    by: str,
    *,
    full_rounds: int,
    rounds: int = 5,
    first: float = 0.2,
    strategies: Sequence[str] = STRATEGIES,
    fadings: Sequence[float] = FADINGS,
    tell: Callable[[str], None] = lambda line: None,
) -> Prequential:
    """Go through the blocks: at each, every strategy is judged on it, then learns.

    by: see blocks_of. full_rounds: of a training anew. rounds: of an update.
    first: share of the ratings that all begin with; later blocks judge.
    fadings: candidates of `forgetting` beside none; at each block the one of the least error on the blocks before.
    tell: takes a line after each block.
    Raises DataError where the blocks leave nothing to judge on.
    """
    parts = blocks_of(ratings, by)
    sizes = np.cumsum([len(rows) for _, rows in parts])
    begin = int(np.searchsorted(sizes, first * len(ratings))) + 1
    if begin >= len(parts):
        raise DataError(f"{len(parts)} blocks by {by} leave none to judge on: choose smaller ones")
    learner = Learner(method, rounds, full_rounds)
    known = [ratings.take(np.sort(rows)) for _, rows in parts[:begin]]
    start = learner.anew(concatenated(known))
    chains = {name: start for name in strategies if name != "forgetting"}
    if "forgetting" in strategies:
        chains |= {f"forgetting {fading}": start for fading in fadings}
    last = np.full(int(ratings.user.max()) + 1, -1)
    for number, (_, rows) in enumerate(parts[:begin]):
        last[ratings.user[rows]] = number
    found: list[BlockErrors] = []
    errors: dict[str, list[np.ndarray]] = {name: [] for name in [*strategies, *chains]}
    aged = AgedErrors()
    for number, (label, places) in enumerate(parts[begin:], begin):
        block = ratings.take(np.sort(places))
        told = {name: (chain.predict(block) - block.value) ** 2 for name, chain in chains.items()}
        later = ratings.take(np.sort(np.concatenate([rows for _, rows in parts[number:]])))
        if "rounds" in chains:
            aged = aged.and_those_of(
                method, chains["rounds"].shared, chains["rounds"].predict, concatenated(known), later
            )
        fading = _best(errors, fadings)
        if "forgetting" in strategies:
            told["forgetting"] = told["rounds" if fading == 1 and "rounds" in told else f"forgetting {fading}"]
        for name, each in told.items():
            errors[name].append(each)
        newcomers = int((last[np.unique(block.user)] < 0).sum())
        known.append(block)
        changed = np.unique(block.user)
        last[changed] = number
        every, age = concatenated(known), number - last
        steps: dict[str, Callable[[Learned], Learned]] = {
            "frozen": lambda chain: chain,
            "users": partial(learner.alone, rows=every, changed=changed),
            "rounds": partial(learner.further, rows=every, fading=1.0, age=age),
            "retrain": lambda chain, rows=every: learner.anew(rows),  # type: ignore[misc]
        }
        steps |= {f"forgetting {f}": partial(learner.further, rows=every, fading=f, age=age) for f in fadings}
        seconds = {}
        for name in chains:
            began = time.process_time()
            chains[name] = steps[name](chains[name])
            seconds[name] = time.process_time() - began
        if "forgetting" in strategies:
            seconds["forgetting"] = sum(
                value for name, value in seconds.items() if name.startswith(("rounds", "forgetting "))
            )
        rmse = {name: float(np.sqrt(told[name].mean())) for name in told}
        found.append(BlockErrors(label, len(block), len(changed), newcomers, rmse, seconds, fading))
        tell(f"{label}: " + ", ".join(f"{name} {rmse[name]:.4f}" for name in strategies))
    return Prequential(tuple(found), {name: tuple(each) for name, each in errors.items()}, aged)


def _best(errors: Mapping[str, Sequence[np.ndarray]], fadings: Sequence[float]) -> float:
    """The factor of the least squared error on the blocks before; 1 before there are any."""
    names = {1.0: "rounds"} | {fading: f"forgetting {fading}" for fading in fadings}
    sums = {factor: sum(float(each.sum()) for each in errors[name]) for factor, name in names.items() if name in errors}
    return min(sums, key=lambda factor: (sums[factor], -factor)) if sums else 1.0


def _node(rows: Ratings, number: int = 0) -> Node:
    return Node(number, str(number + 1), rows, rows.between(0, 0))

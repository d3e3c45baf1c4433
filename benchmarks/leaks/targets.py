"""What is attacked: trainings of this package's methods on some users, and all that their server sees."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hierfed.data.catalogue import Catalogue
from hierfed.data.federation import Node
from hierfed.data.ratings import Dataset, Ratings
from hierfed.engines.in_process import run_rounds
from hierfed.engines.stages import after_earlier_stages
from hierfed.evaluation.attacks.curious_server import CuriousServer, SeenRound
from hierfed.federated.contract import SharedModel
from hierfed.federated.method import Method
from hierfed.methods import Case, prepare
from hierfed.private_randomness import foreseeable_streams
from hierfed.randomness import generator
from hierfed.settings import Settings, load_settings

NODES = 8


@dataclass(frozen=True)
class Target:
    """A method and its protection: a preset with changes. every_user: each user is a node, else there are 8 nodes."""

    name: str
    protection: str
    preset: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    every_user: bool = False

    def settings(self, seed: int) -> Settings:
        """Its settings, by which the seed alone differs from one training to the next."""
        return load_settings(self.preset, {**self.changes, "seed": seed, "threads": 2})

    @property
    def secure_sums(self) -> bool:
        """Whether single contributions are hidden anyhow: then sums alone are looked at."""
        return self.settings(0).privacy.secure_sums


# Under differential privacy a network begins at random, and so it does here without, for the two to be compared.
HIERARCHICAL = Target("hierarchical", "none", "hierarchical", {"rounds": 8})
NETWORK = Target("network", "none", "network", {"output_bias": "random"})
USER_NODES = Target(
    "network, users as nodes", "none", "network", {"output_bias": "random", "rounds": 20}, every_user=True
)
PRIVATE_NETWORK = Target(
    "network",
    "ratings, epsilon 8",
    "network",
    {"output_bias": "random", "privacy_unit": "example", "epsilon": 8.0},
)
PRIVATE = Target("private", "users, epsilon 8", "private", {"epsilon": 8.0})
# As much as its settings can leave off: a hundredth of what a user can add, before the releases share it.
NOISELESS = Target("private", "next to no noise", "private", {"epsilon": 1e6})
TARGETS = {
    "hierarchical": (HIERARCHICAL,),
    "network": (NETWORK, USER_NODES, PRIVATE_NETWORK),
    "private": (NOISELESS, PRIVATE),
}


@dataclass(frozen=True)
class Population:
    """The users that may take part: their ratings, users being numbered from 0, and the node of each, of 8.

    node_of [users + 1]: there is room for one user more, on node 0.
    """

    catalogue: Catalogue
    ratings: Ratings
    users: int
    node_of: np.ndarray

    @property
    def items(self) -> int:
        """Number of items in the catalogue, rated or not."""
        return len(self.catalogue)

    def nodes(self, rows: Ratings, every_user: bool) -> list[Node]:
        """These rows at the nodes that hold any; nothing is held out."""
        node = rows.user if every_user else self.node_of[rows.user]
        nobody = rows.take(np.empty(0, np.int64))
        return [
            Node(int(number), str(number + 1), rows.take(np.flatnonzero(node == number)), nobody)
            for number in np.unique(node)
        ]


@dataclass(frozen=True)
class Training:
    """A finished training: what it released, and what its server saw in the very first round and in the last one."""

    method: Method
    shared: SharedModel
    nodes: list[Node]
    first: SeenRound
    last: SeenRound


def everyone(dataset: Dataset) -> Population:
    """All users with all ratings, on nodes of as many users each."""
    order = generator(0, 0, 0, "nodes").permutation(dataset.users)
    return Population(dataset.catalogue, dataset.ratings, dataset.users, np.append(order % NODES, 0))


def alike(dataset: Dataset, users: int, rows: int) -> Population:
    """So many users, on nodes of as many users each, with as many ratings each, all drawn at random."""
    ratings, rng = dataset.ratings, generator(0, 0, 0, "population")
    counts = np.bincount(ratings.user, minlength=dataset.users)
    able = np.flatnonzero(counts >= rows)
    if len(able) < users:
        raise SystemExit(f"{len(able)} users have {rows} ratings or more, {users} were asked for: ask for fewer")
    new = np.full(dataset.users, -1, np.int32)
    new[rng.permutation(able)[:users]] = np.arange(users)
    order = np.lexsort((rng.random(len(ratings)), ratings.user))
    place = np.arange(len(ratings)) - np.repeat(np.cumsum(counts) - counts, counts)
    chosen = np.sort(order[(place < rows) & (new[ratings.user[order]] >= 0)])
    drawn = Ratings(new[ratings.user[chosen]], ratings.item[chosen], ratings.value[chosen])
    return Population(dataset.catalogue, drawn, users, np.append(np.arange(users) % NODES, 0))


def train(target: Target, population: Population, rows: Ratings, seed: int) -> Training:
    """Train on these rows of a population."""
    settings = target.settings(seed)
    nodes, rounds = population.nodes(rows, target.every_user), settings.training.rounds
    streams = foreseeable_streams(seed)
    case = Case(settings, population.catalogue, population.ratings.limits, streams=streams)
    method = prepare(after_earlier_stages(case, nodes)).method
    first = method.start().round + 1
    server = CuriousServer(method, {first, rounds})
    trained = run_rounds(server, nodes, rounds)
    return Training(method, trained.shared, nodes, server.seen[first], server.seen[rounds])

"""The settings of a federation and its rounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from hierfed.federated.tables import GRAPHS, RULES, SERVER_OPTIMIZERS, SPEEDS, STEPS
from hierfed.section import Count, NonNegative, Positive, Section, named_in


def _partitioners() -> Mapping[str, Any]:
    from hierfed.data.partitions import PARTITIONERS  # noqa: PLC0415 - NumPy

    return PARTITIONERS


class FederationSettings(Section):
    """The federated nodes, and how rows are divided among them; see hierfed.data.partitions.

    nodes: the number of nodes.
    partition: who holds which rows; a name in hierfed.data.partitions.PARTITIONERS.
    skew: of partition `sizes`, how unequal the nodes are; 0 for equal ones.
    concentration: of partition `genre`, of its Dirichlet distribution; the smaller, the more a node has of few genres.
    sorted_share: of partitions `time`, `activity`, `popularity`, `scale` and `catalogue`, which sort users, or items:
    the share that stays where it is sorted to; the others swap places at random.
    participation: the share of the nodes that take part in a round, or above 1 their number; see
    hierfed.federated.participation.
    rule: makes one total of contributions; a name in hierfed.federated.tables.RULES.
    rule_share: the share of the nodes, or of the groups, that may lie: a trimmed mean leaves so many out at each end.
    groups: the number of groups of nodes whose sums the rule sees in the place of single contributions; 0 for none.
    steps: change what nodes send, in order; names in hierfed.federated.tables.STEPS.
    server_optimizer: moves the model by the total; a name in hierfed.federated.tables.SERVER_OPTIMIZERS.
    server_learning_rate: the rate of the server optimizer.
    topology: `star`: a server; `tree`: edges between it and the nodes; `gossip`: peers alone, which exchange shares of
    their sums. Both are simulated in one process; `hierfed peer` runs peers, `hierfed edge` edges of a star.
    fan_out: the most nodes of an edge.
    graph: which peers are neighbours; a name in hierfed.federated.tables.GRAPHS.
    exchanges: how often peers exchange shares of a sum; 0 for as many as all peers need to have one total.
    lost_messages: the share of the peers' messages that are lost.
    mode: `sync`: each round waits for its nodes; `async`: the server steps whenever some have answered, in simulated
    time in one process, and as real nodes do on real machines.
    answers: under `async`, how many nodes must have answered before the server steps; 0 for half of the nodes. 1 is
    FedAsync's for networks.
    speed: how fast simulated nodes are; a name in hierfed.federated.tables.SPEEDS.
    staleness: a: networks' answers that are t steps late count (1 + t)^-a.
    """

    nodes: Count = 8
    partition: Annotated[str, AfterValidator(named_in(_partitioners, "partition"))] = "rows"
    skew: NonNegative = 1.0
    concentration: Positive = 0.5
    sorted_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    participation: Positive = 1.0
    rule: Annotated[str, AfterValidator(named_in(lambda: RULES, "rule"))] = "sum"
    rule_share: Annotated[float, Field(ge=0, lt=0.5)] = 0.2
    groups: Annotated[int, Field(ge=0, strict=True)] = 0
    steps: tuple[Annotated[str, AfterValidator(named_in(lambda: STEPS, "step"))], ...] = ()
    server_optimizer: Annotated[str, AfterValidator(named_in(lambda: SERVER_OPTIMIZERS, "server optimizer"))] = "none"
    server_learning_rate: Positive = 1.0
    topology: Literal["star", "tree", "gossip"] = "star"
    fan_out: Annotated[int, Field(ge=2, strict=True)] = 32
    graph: Annotated[str, AfterValidator(named_in(lambda: GRAPHS, "graph"))] = "exponential"
    exchanges: Annotated[int, Field(ge=0, strict=True)] = 0
    lost_messages: Annotated[float, Field(ge=0, lt=1)] = 0.0
    mode: Literal["sync", "async"] = "sync"
    answers: Annotated[int, Field(ge=0, strict=True)] = 0
    speed: Annotated[str, AfterValidator(named_in(lambda: SPEEDS, "speed"))] = "constant"
    staleness: NonNegative = 0.5


class TrainingSettings(Section):
    """Federated training: its rounds, and the work of a node in each.

    rounds: how many rounds train the model of ratings.
    local_epochs: passes of a node over its rows in a round.
    batch_size: the rows of a local step.
    learning_rate: the rate of the nodes' optimizer.
    proximal: FedProx's strength, 0 for FedAvg; FedDyn's alpha.
    optimizer: the nodes' own: `adam`, or `sgd` without momentum.
    correction: against what local steps lead astray: `none`, `nova` (FedNova), `scaffold` or `dyn` (FedDyn).
    kept: the part of a network that stays at its node and is never sent: `none`, `head`, the output layer, or `body`,
    all others.
    turns: the parts that a node trains in a round, one after the other, each for local_epochs: `all`, `head`, `body`.
    own_model: a model that each node keeps for itself while rounds train the shared one: `none`, `ditto`, `apfl`,
    `pfedme`, `per_fedavg` or `fedala`; see methods.averaging.own_models.
    own_strength: of the pull between the two models (Ditto, pFedMe); APFL's alpha, the own model's share.
    own_rate: of the own model's steps (Ditto, pFedMe, Per-FedAvg), or of FedALA's weights.
    own_steps: pFedMe's on each batch; FedALA's epochs of the weights in a round.
    threads: the number of threads that share the nodes.
    chunk_rows: each thread trains many small nodes in chunks of about this many ratings, which bounds memory. The
    numbers depend neither on this nor on the threads.
    device: computes the nodes' training; on `cuda`, a GPU, the numbers are those of the CPU to rounding.
    """

    rounds: Count = 10
    local_epochs: Count = 2
    batch_size: Count = 64
    learning_rate: Positive = 0.003
    proximal: NonNegative = 0.0
    optimizer: Literal["adam", "sgd"] = "adam"
    correction: Literal["none", "nova", "scaffold", "dyn"] = "none"
    kept: Literal["none", "head", "body"] = "none"
    turns: tuple[Literal["all", "head", "body"], ...] = ("all",)
    own_model: Literal["none", "ditto", "apfl", "pfedme", "per_fedavg", "fedala"] = "none"
    own_strength: NonNegative = 0.5
    own_rate: NonNegative = 0.01
    own_steps: Count = 1
    threads: Count = 1
    chunk_rows: Count = 262_144
    device: Literal["cpu", "cuda"] = "cpu"

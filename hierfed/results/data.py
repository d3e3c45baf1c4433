"""The data of a run, and what its method is called."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hierfed.results.record import Record


class MethodWords(Record):
    """The words of a method, written into each result, so that a report knows no method.

    shared, personal: the models in tables of models; shared_short, personal_short: elsewhere.
    mark: a node's mark in a figure's key. own: what the run's own models are, in a figure's key.
    alone, alone_short: what learns without sending anything, in tables and in sentences.
    names_alone: whether headlines and summaries compare the personal models with it.
    lead: the work of the method, in a sentence; $nodes, $rounds and $personal_nodes stand for the numbers of them.
    lead_names_judged: whether that sentence says which nodes are judged where they took no part in the rounds.
    first: the model that the key numbers begin with.
    loss: what the training loss is. loss_by_epoch: whether each local epoch has one; else each round has.
    captions: in place of the usual ones, by the figure's name.
    """

    shared: str = "Federated, global model"
    personal: str = "Federated, personal models"
    shared_short: str = "Global model"
    personal_short: str = "Personal models"
    mark: str = "personal model"
    own: str = "federated models"
    alone: str = "Each node alone"
    alone_short: str = "each node alone"
    names_alone: bool = False
    lead: str = "$nodes trained one model in $rounds without pooling their ratings"
    lead_names_judged: bool = False
    first: Literal["shared", "personal"] = "personal"
    loss: str = "Squared error on training rows"
    loss_by_epoch: bool = False
    captions: dict[str, str] = Field(default_factory=dict)


class JoinSummary(Record):
    """The join that gave the items their features.

    kept: ratings with metadata. kept_before_deduplication: the same, with those doubled by repeated metadata ids.
    dropped: ratings without metadata. warning: to be read before the join is used.
    """

    name: str
    kept: int
    kept_before_deduplication: int
    dropped: int
    warning: str = ""


class DataSummary(Record):
    """The ratings that the run learned from; rows_in = ratings + the sum of dropped.

    warnings: about the ratings, a line each. scale: the lowest and the highest possible rating; empty where unknown.
    """

    source: str
    ratings: int
    users: int
    items: int
    nodes: int
    rows_in: int
    dropped: dict[str, int]
    join: JoinSummary
    warnings: list[str] = Field(default_factory=list)
    features: list[str]
    missing_features: list[str]
    protocol: str = "two_groups"
    split: dict[str, int]
    scale: list[float] = Field(default_factory=list)

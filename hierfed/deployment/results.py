"""What a server writes down of a training: each round, and what was gained, as sums over all nodes."""

from __future__ import annotations

from typing import Any

from hierfed.results import Number, PrivacyRecord, Record


class RefusedAnswer(Record):
    """An answer that did not enter a sum, and why."""

    node: str
    reason: str


class DeployedRound(Record):
    """One round: who contributed, who was refused, the loss that methods tell of (MSE per local epoch), bytes of the
    contributions' and of the model's arrays over all nodes, and wall seconds. abandoned: the model stayed as it was."""

    stage: str
    round: int
    contributors: list[str]
    refused: list[RefusedAnswer]
    abandoned: bool
    train_loss: list[Number]
    bytes_up: int
    bytes_down: int
    seconds: Number


class Gain(Record):
    """On rows that nodes held out, added up over them: RMSE of the shared and of the personal models, and the share of
    ratings within their 90% intervals, NaN for models that do not say how sure they are."""

    rows: int
    rmse_before: Number
    rmse_after: Number
    coverage: Number


class DeployedResult(Record):
    """A finished training. ratings: learned from, over all nodes; 0 where nodes do not tell. gain: None where no node
    holds rows out, or tells how well it is served. privacy: None without differential privacy."""

    name: str
    settings: dict[str, Any]
    nodes: list[str]
    items: int
    ratings: int
    rounds: list[DeployedRound]
    gain: Gain | None
    privacy: PrivacyRecord | None = None
    digest: str
    seconds: Number

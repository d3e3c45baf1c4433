"""The training of a federation of real nodes."""

from __future__ import annotations

from hierfed.results.record import Number, Record


class RefusedAnswer(Record):
    """An answer that did not enter a sum, and why."""

    node: str
    reason: str


class DeployedRound(Record):
    """One round of a federation.

    round: its number, below 1 in the opening rounds.
    contributors: the nodes in its sum. refused: the answers that are not.
    abandoned: whether the model stayed as it was.
    train_loss: of each local epoch, MSE; empty for methods that tell none.
    bytes_up, bytes_down: of the contributions' and of the model's arrays, over all nodes.
    """

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
    """Errors on rows that nodes held out, added up over the nodes.

    rmse_before, rmse_after: of the shared and of the personal models. coverage: the share of ratings within the 90%
    intervals; NaN for models without intervals.
    """

    rows: int
    rmse_before: Number
    rmse_after: Number
    coverage: Number


class FederationRecord(Record):
    """The training of a federation of real nodes.

    nodes: their names. rounds: of every stage, in order, abandoned ones too.
    gain: None where no node holds rows out, or tells its errors.
    """

    nodes: list[str]
    rounds: list[DeployedRound]
    gain: Gain | None

"""Federated networks under differential privacy: their protection, and the record of their releases."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, fields
from typing import Any

from torch import nn

from hierfed.errors import SettingsError
from hierfed.methods.averaging.averaging import FederatedAveraging
from hierfed.methods.averaging.network import ModuleNetwork, Predictor
from hierfed.methods.averaging.private_averaging import ExamplePrivateAveraging, NodePrivateAveraging
from hierfed.methods.averaging.private_training import sampling_rate, steps_of_an_epoch, train_privately
from hierfed.methods.averaging.training import LocalTraining
from hierfed.privacy.accounting import Budget
from hierfed.privacy.allowance import Allowance
from hierfed.privacy.secure_sum.setup import colluders
from hierfed.private_randomness import PrivateStreams
from hierfed.results import PrivacyRecord, ReleaseRecord
from hierfed.settings import Settings

MECHANISMS = {
    "example": "DP-SGD on each node: Gaussian noise on clipped gradients of Poisson batches",
    "node": "Gaussian noise on clipped changes of nodes, added in shares, the sum of which secure sums show alone",
}


@dataclass(frozen=True)
class ProtectedNetwork:
    """A network's training with the noise that its settings ask for, and the privacy of its releases."""

    method: ExamplePrivateAveraging | NodePrivateAveraging
    allowance: Allowance

    def record(self, rows: Collection[int], rounds: int) -> PrivacyRecord:
        """The privacy record of the first rounds of nodes with these numbers of rows."""
        budget, by_node = self.allowance.budget, isinstance(self.method, NodePrivateAveraging)
        releases = []
        # Under unit `node` a release does not depend on the node's number of rows.
        for each in sorted({max(rows)} if by_node else set(rows)):
            made = self.allowance.of_rounds(each, rounds)
            releases.append(
                ReleaseRecord(
                    name="rounds" if by_node else f"training steps of a node with {each:,} rows",
                    count=made.count,
                    sampling=made.sampling,
                    clip_norm=self.method.clip_norm,
                    noise_multiplier=made.noise_multiplier,
                )
            )
        unit = "node" if by_node else "example"
        return PrivacyRecord(
            unit=unit,
            epsilon=budget.epsilon,
            epsilon_spent=self.allowance.epsilon_spent(rows, rounds),
            delta=budget.delta,
            mechanism=MECHANISMS[unit],
            accountant=budget.accountant,
            releases=releases,
            warning="; ".join(self._warnings(rows, releases[0].noise_multiplier)),
        )

    def _warnings(self, rows: Collection[int], noise_multiplier: float) -> Iterator[str]:
        delta, nodes = self.allowance.budget.delta, len(rows)
        if isinstance(self.method, ExamplePrivateAveraging):
            if delta * sum(rows) >= 1:
                yield (
                    f"delta {delta:g} would allow one of the {sum(rows):,} ratings to be told as it is: set delta far "
                    f"below {1 / sum(rows):.1g}"
                )
            return
        ratio = self.method.swamped(nodes, noise_multiplier)
        if ratio > 1:
            yield (
                f"each round's noise is {ratio:.1f} times as long as the largest change that {nodes} nodes can make "
                "together, so little or nothing is learned: take more nodes, unit 'example', or preset private"
            )


def protect_network(plain: FederatedAveraging, settings: Settings, streams: PrivateStreams | None) -> ProtectedNetwork:
    """The same training under the settings' unit, `example` or `node`.

    streams: the nodes' noise streams; None at a server.
    Raises SettingsError for a module in which rows affect each other's gradients.
    """
    privacy, training = settings.privacy, settings.training
    budget = Budget(privacy.epsilon, privacy.delta, privacy.accountant)
    given: dict[str, Any] = {field.name: getattr(plain, field.name) for field in fields(FederatedAveraging)}
    given |= {"clip_norm": privacy.clip_norm, "streams": streams}
    if privacy.privacy_unit == "node":
        allowance = Allowance(budget, training.rounds, lambda rows: (1, 1.0))
        nodes = settings.federation.nodes
        noise_nodes = nodes - colluders(nodes, privacy.colluding)
        made = NodePrivateAveraging(**given, noise_nodes=noise_nodes, allow=allowance)
        return ProtectedNetwork(made, allowance)
    _check_rows_are_apart(plain.predictor)
    allowance = Allowance(budget, training.rounds, lambda rows: _steps_of_a_round(rows, plain.training))
    given |= {"private_trainer": train_privately, "threads": training.threads}
    return ProtectedNetwork(ExamplePrivateAveraging(**given, allow=allowance), allowance)


def _steps_of_a_round(rows: int, training: LocalTraining) -> tuple[int, float]:
    """A node's number of steps in a round, and the chance of each of its rows to be in the batch of a step."""
    steps = steps_of_an_epoch(rows, training.batch_size) * training.epochs
    return steps, sampling_rate(rows, training.batch_size)


def _check_rows_are_apart(predictor: Predictor) -> None:
    if not isinstance(predictor, ModuleNetwork):
        return
    for part in predictor.module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm | nn.modules.dropout._DropoutNd):
            raise SettingsError(
                f"privacy.privacy_unit 'example': in the module's {type(part).__name__} a row's gradient hangs on the "
                "other rows of its batch: leave it out, or use LayerNorm or GroupNorm"
            )

"""Federated averaging of a part of the network; each node keeps the rest of it as its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from hierfed.data.federation import Node
from hierfed.errors import SettingsError
from hierfed.federated.contract import Contribution, SharedModel
from hierfed.federated.private import PrivateState
from hierfed.methods.averaging.averaging import FederatedAveraging, largest_change
from hierfed.methods.averaging.corrections import NodeVector, sums_of
from hierfed.methods.averaging.network import Predictor, occupied
from hierfed.methods.averaging.training import turn_streams
from hierfed.privacy.clipping import clip_rows

NOTHING = slice(0, 0)

PARTS: Mapping[str, Callable[[Predictor], slice]] = {
    "none": lambda predictor: NOTHING,
    "all": lambda predictor: slice(0, predictor.parameter_count),
    "head": lambda predictor: predictor.head,
    "body": lambda predictor: slice(0, predictor.head.start),
}
"""The parts of a network by their names in the settings; `body` is all before the output layer."""


@dataclass(frozen=True)
class PartialAveraging(FederatedAveraging):
    """Federated averaging of the parameters s that are shared; node k keeps the others, h_k, and never sends them.

        turn j of node k:  train part t_j of (s_k, h_k) on the node's rows, from where turn j - 1 ended
        s <- s + sum_k n_k (s_k - s) / sum_k n_k,   h_k stays at node k

    These are settings of it:

    - FedPer (Arivazhagan et al., 2019, arXiv:1912.00818): kept `head`, turns `all`.
    - FedRep (Collins et al., ICML 2021, arXiv:2102.07078): kept `head`, turns `head`, `body`; more turns of the head
      are its several head updates.
    - LG-FedAvg (Liang et al., 2020, arXiv:2001.01523): kept `body`, turns `all`.
    - FedBABU (Oh et al., ICLR 2022, arXiv:2106.06042): kept `none`, turns `body`: the head stays as it was drawn, and
      personalisation fine-tunes all.
    - FedAvg: kept `none`, turns `all`; LP-FT is FedAvg whose nodes personalise by `head_first`.

    A node that comes late starts from the initial h, which every model of the server carries for it.

    kept: the places of h in the parameter vector. turns: the places of each t_j.
    """

    kept: slice
    turns: tuple[slice, ...]

    @property
    def local_epochs(self) -> int:
        """Those of all turns; see Method."""
        return self.training.epochs * len(self.turns)

    def contribute(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> Iterator[tuple[Contribution, PrivateState | None]]:
        """The plain contribution, of the shared parameters alone; the node keeps the others. See Method."""
        if shared.round + 1 == 0:
            yield from super().contribute(shared, nodes, private)
            return
        begin = shared.arrays["parameters"]
        local, losses = self.own_start(shared, nodes, private), []
        for number, turn in enumerate(self.turns):
            whole = turn == PARTS["all"](self.predictor)
            training = replace(self.training, only=None if whole else turn)
            streams = turn_streams(self.seed, shared.round + 1, "training", number)
            local, loss = self.trainer(self.predictor, local, self.features, nodes, training, streams)
            losses.append(loss)
        start, most = self._shared_part(begin.double()), largest_change(begin)
        for node, row, loss in zip(nodes, local, torch.cat(losses, 1), strict=True):
            (change,) = clip_rows((self._shared_part(row.double()) - start)[None], most)
            state = NodeVector(row[self.kept].clone()) if self.kept != NOTHING else None
            yield sums_of(len(node.train), change=change, loss=loss), state

    def combine(self, shared: SharedModel, total: Contribution) -> SharedModel:
        """See Method."""
        if "change" not in total.arrays:
            return super().combine(shared, total)
        sent = total.arrays["change"]
        still = sent.new_zeros(self.kept.stop - self.kept.start)
        change = torch.cat([sent[: self.kept.start], still, sent[self.kept.start :]])
        return super().combine(shared, Contribution({**total.arrays, "change": change}))

    def own_start(self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]) -> Tensor:
        """The shared parameters with what each node kept, [nodes, parameters]; see FederatedAveraging."""
        start = shared.arrays["parameters"].repeat(len(nodes), 1)
        for row, state in zip(start, private, strict=True):
            if state is not None:
                row[self.kept] = state.kept()["vector"]
        return start

    def _shared_part(self, parameters: Tensor) -> Tensor:
        return torch.cat([parameters[: self.kept.start], parameters[self.kept.stop :]])


def partial_averaging(plain: FederatedAveraging, kept: str, turns: Sequence[str]) -> PartialAveraging:
    """The same training with this part kept at nodes, and these parts trained in turn; names of PARTS.

    Raises SettingsError where a part is the whole network, or none of it.
    """
    own, real = PARTS[kept](plain.predictor), occupied(plain.predictor)
    if not real[: own.start].any() and not real[own.stop :].any():
        raise SettingsError(
            f"training.kept '{kept}': it is the whole network, so that nothing would be shared: add hidden layers, or "
            "use method 'local'"
        )
    for name in (kept, *turns):
        if name != "none" and not real[PARTS[name](plain.predictor)].any():
            raise SettingsError(f"training: the network has no {name}: add hidden layers, or name another part")
    same = {field.name: getattr(plain, field.name) for field in fields(FederatedAveraging)}
    return PartialAveraging(**same, kept=own, turns=tuple(PARTS[name](plain.predictor) for name in turns))

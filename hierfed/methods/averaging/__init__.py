"""Federated averaging of networks, with its two levels of personalisation."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from hierfed.methods.averaging import messages
from hierfed.methods.averaging.refusals import refusal_of_rounds
from hierfed.methods.averaging.words import WORDS
from hierfed.methods.kind import Case, MethodKind, Prepared
from hierfed.results import MethodWords

if TYPE_CHECKING:
    from hierfed.federated.stage import Stage
    from hierfed.settings import Settings


class Averaging(MethodKind):
    """Declares federated averaging."""

    sums = messages.SUMS
    models = messages.MODELS
    units = frozenset({"example", "node"})
    takes_module = True
    devices = frozenset({"cpu", "cuda"})
    averaged = MappingProxyType({"change": "rows", "steps": "rows", "control": "rows"})
    averaged_rows = MappingProxyType({"item_change": "item_rows"})
    takes_optimizer = True

    def opening_rounds(self, settings: Settings) -> int:
        """One for the mean rating, if the network begins at it; see MethodKind."""
        return int(settings.model.output_bias == "train_mean")

    def earlier_stages(self, case: Case) -> list[Stage]:
        """The stage that fits features on the nodes' ratings. See MethodKind.

        Under differential privacy there is none, since its sums carry no noise.
        """
        from hierfed.methods.averaging.build import features_stage  # noqa: PLC0415 - torch takes seconds to load

        return [] if case.settings.privacy.privacy_unit != "none" else [features_stage(case)]

    def refusal(self, settings: Settings) -> str:
        """See MethodKind."""
        privacy, model = settings.privacy, settings.model
        reason = refusal_of_rounds(settings)
        if reason or privacy.privacy_unit == "none":
            return reason
        begins = f"privacy.privacy_unit '{privacy.privacy_unit}': "
        if privacy.privacy_unit == "user":
            return begins + (
                "a node's change counts by its rows and is clipped for no user: use unit 'example' or 'node', or "
                "preset private"
            )
        if model.output_bias == "train_mean":
            return begins + (
                "output_bias 'train_mean' sends the sum of each node's ratings as it is: set output_bias to 'random'"
            )
        if privacy.privacy_unit == "example" and model.dropout:
            return begins + (
                "dropout draws its masks by a row's place in the batch, so that one row more changes those of others: "
                "set dropout to 0"
            )
        if privacy.privacy_unit == "node" and not privacy.secure_sums:
            return begins + (
                "each node adds a share of the noise, which hides it in the sum alone, and the server would see the "
                "node's own: set secure_sums to true"
            )
        return ""

    def words(self) -> MethodWords:
        """See MethodKind."""
        return WORDS

    def prepare(self, case: Case) -> Prepared:
        """See MethodKind."""
        from hierfed.methods.averaging.build import build  # noqa: PLC0415 - torch takes seconds to load

        return build(case)

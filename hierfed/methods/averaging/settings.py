"""The settings of networks and their personalisation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from hierfed.section import Count, NonNegative, Positive, Section, named_in


def _whole_users() -> Mapping[str, Any]:
    from hierfed.data.partitions import WHOLE_USERS  # noqa: PLC0415 - NumPy

    return WHOLE_USERS


class ModelSettings(Section):
    """The network.

    hidden: the widths of the network's hidden layers.
    dropout: the share of units that is left out after each hidden layer in training.
    output_bias: where the bias of the output starts: `random`, or `train_mean`, the mean of all train ratings, from a
    round of its own.
    depth: the number of residual blocks with normalisation, all as wide as the first of `hidden`; 0 for plain layers,
    as `hidden` says. See methods.averaging.deep_network.
    item_features: `use` the items' public features as inputs, or `leave_out`.
    item_vector_size: numbers of a vector of each item, which is learned and shared; 0 for none. The first is a bias.
    Items with fewer than factors.min_raters have none.
    user_vector_size: numbers of a vector of each user, which never leaves the user's node; 0 for none. With item
    vectors too, both are of one size.
    experts: the number of networks among which each node chooses; 1 for one that all share.
    gate: how a node chooses among `experts`: `ifca`, the one with the least loss; `fedem`, all, by their shares in
    the node's ratings; `pool`, the `experts_per_node` of the largest shares. See methods.averaging.gates.
    experts_per_node: how many networks a node of a pool downloads, trains and sends in a round.
    vector_rate, vector_penalty: of the step that both vectors of a rating take for it, v <- v - rate (gradient +
    penalty v).
    """

    hidden: tuple[Count, ...] = (64, 32)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    output_bias: Literal["random", "train_mean"] = "train_mean"
    depth: Annotated[int, Field(ge=0, le=6, strict=True)] = 0
    item_features: Literal["use", "leave_out"] = "use"
    item_vector_size: Annotated[int, Field(ge=0, strict=True)] = 0
    user_vector_size: Annotated[int, Field(ge=0, strict=True)] = 0
    experts: Count = 1
    gate: Literal["ifca", "fedem", "pool"] = "pool"
    experts_per_node: Count = 1
    vector_rate: Positive = 0.01
    vector_penalty: NonNegative = 0.05

    @property
    def deep(self) -> bool:
        """True for residual blocks or vectors, which a network of plain layers on features has not."""
        return bool(self.depth or self.item_vector_size or self.user_vector_size) or self.item_features != "use"


class PersonalisationSettings(Section):
    """The personalisation of nodes and of their users; see methods.averaging.

    personal_nodes: the number of nodes among which the judged users are divided.
    personal_partition: how these users are divided; a partition of whole users.
    node_level: `none`, `fine_tuning`, `head`, `head_first` (LP-FT), `ditto` or `bias`.
    user_level: `none`, `bias`, `ridge_head` or `kriging`, a Gaussian process over the user's own ratings.
    tuning_epochs, tuning_batch_size, tuning_learning_rate: passes, rows of a step and rate of the training that makes
    a node's own model.
    tuning_proximal: Ditto's pull to the global model.
    validation: share of a node's train rows that choose the epoch.
    bias_shrinkage: how far a user's bias is drawn to 0, in ratings of residual 0.
    head_penalty: the ridge penalty of a user's own head.
    """

    personal_nodes: Count = 8
    personal_partition: Annotated[str, AfterValidator(named_in(_whole_users, "partition of whole users"))] = "users"
    node_level: Literal["none", "fine_tuning", "head", "head_first", "ditto", "bias"] = "fine_tuning"
    tuning_epochs: Count = 10
    tuning_batch_size: Count = 64
    tuning_learning_rate: Positive = 0.005
    tuning_proximal: NonNegative = 0.1
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.0
    user_level: Literal["none", "bias", "ridge_head", "kriging"] = "none"
    bias_shrinkage: NonNegative = 5.0
    head_penalty: Positive = 10.0

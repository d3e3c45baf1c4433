"""The sections of the settings: their keys, what each means, and what it may be."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from hierfed.errors import SettingsError

Share = Annotated[float, Field(gt=0, le=1)]
OpenShare = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1, strict=True)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Join = Literal["links", "paper", "title", "none"]
Protocol = Literal["two_groups", "warm", "temporal", "cold", "given"]
Partition = Literal["rows", "users", "sizes", "genre", "time"]


class Section(BaseModel):
    """A part of the settings; it is immutable, and a key it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, coerce_numbers_to_str=True)


class DataSettings(Section):
    """Which ratings, and how items get their features.

    source: `embedded`, `movielens-small`, a folder, a table, or a database. query: the SELECT that reads a database.
    join: `links`, `paper`, `title` or `none`, in order of preference; the source's own choice where empty. unmatched:
    `drop` or `keep` ratings of items without metadata; empty for the join's own habit. test: a named split, or a file
    with the test rows. columns: what the table calls its user, item, rating and time. vote_average: `use` it in the
    hierarchical and the local model or `leave_out`; `auto` leaves it out under protocol temporal, where it would be of
    a later time than the train rows. scale: the lowest and the highest rating that there can be; those that occur where
    empty. cache: whether large data that were read and divided once are kept for the next run; see
    hierfed.allocation_cache.
    """

    source: str = "embedded"
    query: str = ""
    join: Annotated[tuple[Join, ...], BeforeValidator(lambda asked: (asked,) if isinstance(asked, str) else asked)] = ()
    unmatched: Literal["", "drop", "keep"] = ""
    test: str = ""
    columns: dict[str, str] = Field(default_factory=dict)
    vote_average: Literal["auto", "use", "leave_out"] = "auto"
    scale: tuple[()] | tuple[float, float] = ()
    cache: bool = True

    @model_validator(mode="after")
    def _scale_ascends(self) -> DataSettings:
        if self.scale and self.scale[0] >= self.scale[1]:
            raise ValueError(f"data.scale: from {self.scale[0]:g} to {self.scale[1]:g}; expected the lower one first")
        return self

    def limits(self, occurring: tuple[float, float]) -> tuple[float, float]:
        """The lowest and the highest rating that there can be; raises SettingsError where others occur."""
        if not self.scale:
            return occurring
        if occurring[0] < self.scale[0] or occurring[1] > self.scale[1]:
            raise SettingsError(
                f"data.scale: is from {self.scale[0]:g} to {self.scale[1]:g}, and there are ratings from "
                f"{occurring[0]:g} to {occurring[1]:g}"
            )
        return self.scale


class SplitSettings(Section):
    """Which users make the global model, and which of the rows train; see hierfed.data.splits.

    protocol: `two_groups` as in the paper, or `warm`, `temporal` or `cold`; `given` where the data name their test
    rows. test_share: of each user's rows under warm, temporal and cold; 0 for 0.2, and 0.3 under cold.
    train_rows, sample and personal_train_rows: under two_groups; sample under given too.
    """

    protocol: Protocol = "two_groups"
    test_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    federated_users: OpenShare = 0.7
    train_rows: OpenShare = 0.7
    sample: Share = 1.0
    personal_train_rows: OpenShare = 0.8


class FederationSettings(Section):
    """The federated nodes, and how rows are divided among them; see hierfed.data.partition.

    participation: the share of the nodes that take part in a round, or above 1 their number; see
    hierfed.federated.participation.
    """

    nodes: Count = 8
    partition: Partition = "rows"
    skew: NonNegative = 1.0
    concentration: Positive = 0.5
    participation: Positive = 1.0


class ModelSettings(Section):
    """The network: hidden layers' widths, dropout after each, and what the output bias starts at."""

    hidden: tuple[Count, ...] = (64, 32)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    output_bias: Literal["random", "train_mean"] = "train_mean"


class TrainingSettings(Section):
    """Federated training: rounds, and what a node does in each. proximal: FedProx's strength, 0 for FedAvg.

    trainer: `stacked` trains all nodes at once, `loop` one after the other (the reference; the same to rounding).
    threads: how many threads share the nodes. chunk_rows: of many small nodes, each thread trains at a time those with
    about so many ratings, which bounds memory. The numbers depend on neither. device: where the nodes' training is
    computed; on `cuda`, a GPU, the numbers are those of the CPU to rounding.
    """

    rounds: Count = 10
    local_epochs: Count = 2
    batch_size: Count = 64
    learning_rate: Positive = 0.003
    proximal: NonNegative = 0.0
    trainer: Literal["stacked", "loop"] = "stacked"
    threads: Count = 1
    chunk_rows: Count = 262_144
    device: Literal["cpu", "cuda"] = "cpu"


class PersonalisationSettings(Section):
    """The personalisation nodes and what they and their users fit; see hierfed.personal.

    node_level: `none`, `fine_tuning`, `head`, `ditto` or `bias`. user_level: `none`, `bias` or `ridge_head`.
    tuning_proximal: Ditto's pull to the global model. validation: share of a node's train rows that choose the epoch.
    """

    personal_nodes: Count = 8
    personal_partition: Literal["users", "sizes", "genre", "time"] = "users"
    node_level: Literal["none", "fine_tuning", "head", "ditto", "bias"] = "fine_tuning"
    tuning_epochs: Count = 10
    tuning_batch_size: Count = 64
    tuning_learning_rate: Positive = 0.005
    tuning_proximal: NonNegative = 0.1
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.0
    user_level: Literal["none", "bias", "ridge_head"] = "none"
    bias_shrinkage: NonNegative = 5.0
    head_penalty: Positive = 10.0


class FactorsSettings(Section):
    """The hierarchical model; see hierfed.federated.factors.

    rank: factors of an item. min_raters: items with fewer raters are never summed. embedding_rank: columns of the
    embedding of what was rated together, 0 for none; embedding_rounds: rounds that it takes, less two. The strengths
    are those of priors, in users or items that they count for. between_nodes: whether nodes may have their own means.
    """

    rank: Count = 8
    min_raters: Annotated[int, Field(ge=0, strict=True)] = 5
    embedding_rank: Annotated[int, Field(ge=0, strict=True)] = 32
    embedding_rounds: Count = 6
    noise_strength: Positive = 6.0
    covariate_strength: Positive = 50.0
    content_strength: Positive = 10.0
    moment_strength: Positive = 10.0
    between_nodes: bool = True


class KrigingSettings(Section):
    """What each user fits on what the factors leave over, nothing of which is sent; see hierfed.personal.kernel."""

    krige: bool = True
    content_amplitude: NonNegative = 0.25
    embedding_amplitude: NonNegative = 0.035
    year_amplitude: NonNegative = 0.02
    title_amplitude: NonNegative = 0.14
    noise_share: Positive = 0.4


class SelectionSettings(Section):
    """What the hierarchical model chooses by itself, on validation rows inside its train rows; see hierfed.selection.

    select: whether to. validation_share: of each user's train rows; validation_rounds: of the trial trainings.
    trial_users, validation_users: how many users' rows choose, and fit the width of intervals, at most. larger_rank:
    tried where there are larger_rank_from ratings. amplitudes: factors on the kernel's amplitudes. noise_shares: as
    in kriging. The first of each is kept unless another gains least_gain in RMSE.
    """

    select: bool = True
    validation_share: OpenShare = 0.1
    validation_rounds: Count = 12
    trial_users: Count = 120
    validation_users: Count = 300
    larger_rank: Count = 16
    larger_rank_from: Count = 300_000
    amplitudes: tuple[Positive, ...] = (1.0, 0.5)
    noise_shares: tuple[Positive, ...] = (0.4, 0.6)
    least_gain: NonNegative = 0.002


class RankingSettings(Section):
    """Recommendation lists beside the hierarchical model; see hierfed.ranked. rank_items: whether to train any.

    least_raters: items with fewer are never counted together. ease_penalty: in raters.
    """

    rank_items: bool = True
    least_raters: Count = 5
    ease_penalty: Positive = 250.0
    implicit_rank: Count = 32
    implicit_rounds: Count = 8


class ServingSettings(Section):
    """What a run keeps to serve its users from; its figures are those of what was judged, whatever this says.

    refit: `users`, once judged, learn from all their rows, held-out ones too, by their own models alone: nothing is
    trained anew and nothing is sent. `none` keeps the models that were judged.
    """

    refit: Literal["users", "none"] = "users"


class PrivacySettings(Section):
    """What protects the nodes' data beyond sending sums; see docs/privacy.md.

    secure_sums: the server sees masked contributions, and learns their sum alone. colluding: the share of the nodes
    that may side with the server. privacy_unit: what differential privacy hides: nothing, each `example` (rating), each
    `user` with all ratings, or each `node` with all users. epsilon, delta: the budget of the whole run. clip_norm: the
    most, in L2 norm, that one unit adds to a sum. accountant: adds up what releases cost, by Renyi divergences (`rdp`)
    or by privacy loss distributions (`pld`: less noise for the same epsilon, found in more time). ledger:
    in one process, whether to keep a signed record of the rounds, for `hierfed audit`: `keep` it, `none`, or `auto`,
    for up to 256 nodes where the extra `privacy` is installed. A federation on real machines always keeps one.
    """

    secure_sums: bool = False
    colluding: Annotated[float, Field(ge=0, lt=0.5)] = 0.33
    privacy_unit: Literal["none", "example", "user", "node"] = "none"
    epsilon: Positive = 8.0
    delta: OpenShare = 1e-5
    clip_norm: Positive = 1.0
    accountant: Literal["rdp", "pld"] = "rdp"
    ledger: Literal["auto", "keep", "none"] = "auto"

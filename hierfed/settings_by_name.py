"""Types of all settings by name. `python benchmarks/settings_page.py` writes this file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from hierfed.federated.rules import Rule
    from hierfed.methods.kind import MethodKind


class SettingsByName(TypedDict, total=False):
    """Settings as arguments, such as rounds=3; docs/settings.md says what each does.

    rule, method: by name, or, where a function says so, one of one's own.
    """

    method: str | MethodKind
    seed: int
    columns: Mapping[str, str]
    header: Literal["auto", "yes", "no"]
    separator: str
    encoding: str
    time_format: str
    no_rating: Sequence[float | Literal["empty"]]
    repeats: Literal["error", "first", "last", "mean"]
    bad_rows: Literal["error", "skip"]
    implicit: bool
    source: str
    query: str
    join: Sequence[Literal["links", "paper", "title", "none"]]
    unmatched: Literal["", "drop", "keep"]
    test: str
    vote_average: Literal["auto", "use", "leave_out"]
    scale: tuple[()] | tuple[float, float]
    protocol: Literal["two_groups", "warm", "temporal", "loo", "cold", "given", "none"]
    judged_on: Literal["test", "validation"]
    test_share: float
    federated_users: float
    train_rows: float
    sample: float
    personal_train_rows: float
    nodes: int
    partition: str
    skew: float
    concentration: float
    sorted_share: float
    participation: float
    rule: str | Rule
    rule_share: float
    groups: int
    steps: Sequence[str]
    server_optimizer: str
    server_learning_rate: float
    topology: Literal["star", "tree", "gossip"]
    fan_out: int
    graph: str
    exchanges: int
    lost_messages: float
    mode: Literal["sync", "async"]
    answers: int
    speed: str
    staleness: float
    hidden: Sequence[int]
    dropout: float
    output_bias: Literal["random", "train_mean"]
    depth: int
    item_features: Literal["use", "leave_out"]
    item_vector_size: int
    user_vector_size: int
    experts: int
    gate: Literal["ifca", "fedem", "pool"]
    experts_per_node: int
    vector_rate: float
    vector_penalty: float
    rounds: int
    local_epochs: int
    batch_size: int
    learning_rate: float
    proximal: float
    optimizer: Literal["adam", "sgd"]
    correction: Literal["none", "nova", "scaffold", "dyn"]
    kept: Literal["none", "head", "body"]
    turns: Sequence[Literal["all", "head", "body"]]
    own_model: Literal["none", "ditto", "apfl", "pfedme", "per_fedavg", "fedala"]
    own_strength: float
    own_rate: float
    own_steps: int
    threads: int
    chunk_rows: int
    device: Literal["cpu", "cuda"]
    personal_nodes: int
    personal_partition: str
    node_level: Literal["none", "fine_tuning", "head", "head_first", "ditto", "bias"]
    tuning_epochs: int
    tuning_batch_size: int
    tuning_learning_rate: float
    tuning_proximal: float
    validation: float
    user_level: Literal["none", "bias", "ridge_head", "kriging"]
    bias_shrinkage: float
    head_penalty: float
    rank: int
    min_raters: int
    embedding_rank: int
    embedding_rounds: int
    implicit_scale: float
    noise_strength: float
    covariate_strength: float
    content_strength: float
    moment_strength: float
    between_nodes: bool
    momentum: float
    rare_at_node: bool
    krige: bool
    content_amplitude: float
    embedding_amplitude: float
    year_amplitude: float
    title_amplitude: float
    noise_share: float
    sitting_amplitude: float
    day_amplitude: float
    drift_amplitude: float
    item_sitting_share: float
    select: bool
    validation_share: float
    validation_rounds: int
    trial_users: int
    trial_rows: int
    validation_users: int
    validation_rows: int
    larger_rank: int
    larger_rank_from: int
    ratings_per_item: int
    largest_rank: int
    implicit_trial: float
    implicit_trial_rank: int
    implicit_up_to: float
    noise_shares: Sequence[float]
    amplitudes: Sequence[float]
    larger_amplitudes: Sequence[float]
    time_factors: Sequence[float]
    least_gain: float
    deviation_scale: float
    group_scales: Sequence[float]
    rank_items: bool
    relevant_from: float | tuple[()]
    least_raters: int
    ease_penalty: float
    implicit_rank: int
    implicit_rounds: int
    implicit_penalty: float
    ease_penalties: Sequence[float]
    implicit_penalties: Sequence[float]
    choice_items: int
    memory_gigabytes: float
    most_scores: int
    choice_users: int
    ease_weight: float
    implicit_weight: float
    rating_weight: float
    popularity_weight: float
    secure_sums: bool
    colluding: float
    halves: bool
    privacy_unit: Literal["none", "example", "user", "node"]
    epsilon: float
    delta: float
    clip_norm: float
    accountant: Literal["rdp", "pld"]
    ledger: Literal["auto", "keep", "none"]
    refit: Literal["users", "none"]

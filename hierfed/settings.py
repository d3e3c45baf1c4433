"""The settings of a run: read from a preset or a file, overridden, and checked once."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

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

    source: `embedded`, `movielens-small`, a folder, or a table. join: `links`, `paper`, `title` or `none`, in order of
    preference; the source's own choice where empty. unmatched: `drop` or `keep` ratings of items without metadata;
    empty for the join's own habit. test: a named split, or a file with the test rows. columns: what the table calls
    its user, item, rating and time. vote_average: `use` it in the hierarchical and the local model or `leave_out`;
    `auto` leaves it out under protocol temporal, where it would be of a later time than the train rows.
    """

    source: str = "embedded"
    join: Annotated[tuple[Join, ...], BeforeValidator(lambda asked: (asked,) if isinstance(asked, str) else asked)] = ()
    unmatched: Literal["", "drop", "keep"] = ""
    test: str = ""
    columns: dict[str, str] = Field(default_factory=dict)
    vote_average: Literal["auto", "use", "leave_out"] = "auto"


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
    """The federated nodes, and how rows are divided among them; see hierfed.data.partition."""

    nodes: Count = 8
    partition: Partition = "rows"
    skew: NonNegative = 1.0
    concentration: Positive = 0.5


class ModelSettings(Section):
    """The network: hidden layers' widths, dropout after each, and what the output bias starts at."""

    hidden: tuple[Count, ...] = (64, 32)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    output_bias: Literal["random", "train_mean"] = "train_mean"


class TrainingSettings(Section):
    """Federated training: rounds, and what a node does in each. proximal: FedProx's strength, 0 for FedAvg.

    trainer: `stacked` trains all nodes at once, `loop` one after the other (the reference; the same to rounding).
    threads: how many threads share the nodes; the numbers do not depend on it.
    """

    rounds: Count = 10
    local_epochs: Count = 2
    batch_size: Count = 64
    learning_rate: Positive = 0.003
    proximal: NonNegative = 0.0
    trainer: Literal["stacked", "loop"] = "stacked"
    threads: Count = 1


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

    select: whether to. validation_share: of each user's train rows; validation_rounds: of the trial trainings;
    validation_users: whose rows are judged, at most. larger_rank: tried where there are larger_rank_from ratings.
    amplitudes: factors on the kernel's amplitudes; noise_shares: the first of each is kept unless another gains
    least_gain in RMSE.
    """

    select: bool = True
    validation_share: OpenShare = 0.1
    validation_rounds: Count = 20
    validation_users: Count = 200
    larger_rank: Count = 16
    larger_rank_from: Count = 300_000
    amplitudes: tuple[Positive, ...] = (1.0, 0.5, 2.0)
    noise_shares: tuple[Positive, ...] = (0.4, 0.6)
    least_gain: NonNegative = 0.0005


class RankingSettings(Section):
    """Recommendation lists beside the hierarchical model; see hierfed.ranked. rank_items: whether to train any.

    ease_penalty: in raters. rating_weight: of the expected rating in the blend, where the others weigh 1.
    """

    rank_items: bool = True
    ease_penalty: Positive = 250.0
    implicit_rank: Count = 48
    implicit_rounds: Count = 10
    rating_weight: NonNegative = 0.8


class Settings(Section):
    """Everything that decides a run's numbers; the same settings and seed give the same model to the last bit.

    method: `averaging` of networks, `hierarchical` factors, or `local`, which sends nothing.
    """

    preset: str = ""
    description: str = ""
    method: Literal["averaging", "hierarchical", "local"] = "averaging"
    seed: Annotated[int, Field(ge=0)] = 0
    data: DataSettings = DataSettings()
    split: SplitSettings = SplitSettings()
    federation: FederationSettings = FederationSettings()
    model: ModelSettings = ModelSettings()
    training: TrainingSettings = TrainingSettings()
    personalisation: PersonalisationSettings = PersonalisationSettings()
    factors: FactorsSettings = FactorsSettings()
    kriging: KrigingSettings = KrigingSettings()
    selection: SelectionSettings = SelectionSettings()
    ranking: RankingSettings = RankingSettings()

    @model_validator(mode="after")
    def _levels_do_something(self) -> Settings:
        personal = self.personalisation
        if personal.validation and personal.node_level in ("none", "bias"):
            raise ValueError(
                f"personalisation.validation: node_level '{personal.node_level}' has no epochs to stop early"
            )
        return self

    def to_toml(self) -> str:
        """The whole settings as TOML, for `hierfed run FILE` to repeat the run."""
        top, sections = [], []
        for name, value in self.model_dump().items():
            if not isinstance(value, dict):
                top.append(f"{name} = {_toml(value)}")
                continue
            sections.append(f"\n[{name}]")
            sections += [f"{key} = {_toml(entry)}" for key, entry in value.items()]
        return "\n".join([*top, *sections]) + "\n"


def preset_names() -> list[str]:
    """Names of the presets that come with the package."""
    return sorted(
        entry.name.removesuffix(".toml") for entry in _preset_folder().iterdir() if entry.name.endswith(".toml")
    )


def load_settings(preset: str | Path, overrides: Mapping[str, Any] | None = None) -> Settings:
    """The settings of a preset, or of a TOML file such as a run leaves behind, with overrides by key.

    A key is `section.name`, or the name alone, which is unique.
    Raises SettingsError for unknown presets and keys (naming the nearest) and for values that do not fit.
    """
    raw = _read(str(preset))
    for key, value in (overrides or {}).items():
        *sections, name = _resolve(key)
        target = raw
        for section in sections:
            target = target.setdefault(section, {})
            if not isinstance(target, dict):
                raise SettingsError(f"{preset}: '{section}' is {target!r}, expected a section with keys of its own")
        target[name] = value
    return _validated(raw)


def parse_assignments(assignments: Sequence[str]) -> dict[str, str]:
    """`["rounds=3"]` as `{"rounds": "3"}`; raises SettingsError where there is no `=`."""
    parsed = {}
    for assignment in assignments:
        key, sign, value = assignment.partition("=")
        if not sign or not key.strip():
            raise SettingsError(f"'{assignment}': expected key=value, such as rounds=3")
        parsed[key.strip()] = value.strip()
    return parsed


def parse_value(text: str) -> Any:
    """A value read as TOML where it is TOML (numbers, lists, booleans), else as the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _preset_folder() -> Any:
    return resources.files("hierfed") / "presets"


def _read(preset: str) -> dict[str, Any]:
    if preset.endswith(".toml"):
        path = Path(preset)
        if not path.is_file():
            raise SettingsError(f"{preset}: no such settings file")
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{preset}: cannot be read as UTF-8 text: {error}") from error
    elif preset in preset_names():
        text = (_preset_folder() / f"{preset}.toml").read_text(encoding="utf-8")
    else:
        raise SettingsError(
            f"no preset '{preset}'{_nearest(preset, preset_names())}; there are: {', '.join(preset_names())}"
        )
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{preset}: not valid TOML: {error}") from error
    return {"preset": preset, **raw}


def _keys() -> Iterator[tuple[str, str]]:
    for name, info in Settings.model_fields.items():
        section = info.annotation
        if isinstance(section, type) and issubclass(section, Section):
            yield from ((name, key) for key in section.model_fields)
        else:
            yield "", name


def _resolve(key: str) -> list[str]:
    """The sections and the name that a key stands for."""
    known = list(_keys())
    section, _, name = key.rpartition(".")
    for place in known:
        if place[1] == name and section in ("", place[0]):
            return [part for part in place if part]
    if section in ("columns", "data.columns"):
        return ["data", "columns", name]
    names = [name for _, name in known] + [f"{s}.{n}" for s, n in known if s]
    raise SettingsError(
        f"unknown setting '{key}'{_nearest(key, names)}; `hierfed presets --settings network` lists them all"
    )


def _nearest(word: str, choices: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, choices, n=1)
    return f", did you mean '{close[0]}'?" if close else ""


def _validated(raw: dict[str, Any]) -> Settings:
    try:
        return Settings.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            names = [name for _, name in _keys()]
            raise SettingsError(f"unknown setting '{where}'{_nearest(where.rpartition('.')[2], names)}") from error
        message = first["msg"].removeprefix("Value error, ")
        found = "" if first["type"] == "value_error" else f" (found {first['input']!r})"
        raise SettingsError(f"{where}: {message}{found}" if where else message) from error


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are TOML's too, but for DEL, which only TOML wants escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(entry) for entry in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(key)} = {_toml(entry)}" for key, entry in value.items()) + "}"
    return repr(value)

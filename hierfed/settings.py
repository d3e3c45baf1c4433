"""The settings of a run: read from a preset or a file, overridden, and checked once."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PrivateAttr, ValidationError, ValidationInfo, model_validator

from hierfed.data.settings import DataSettings, SplitSettings, TableSettings
from hierfed.errors import SettingsError, reason_of
from hierfed.federated.settings import FederationSettings, TrainingSettings
from hierfed.lookup import nearest
from hierfed.methods import METHODS, USUAL
from hierfed.methods.averaging.settings import ModelSettings, PersonalisationSettings
from hierfed.methods.hierarchical.settings import FactorsSettings, KrigingSettings, SelectionSettings
from hierfed.methods.kind import MethodKind
from hierfed.methods.ranking.settings import RankingSettings
from hierfed.privacy.settings import PrivacySettings
from hierfed.section import Section, named_in
from hierfed.serving.settings import ServingSettings
from hierfed.settings_refusals import settings_refusal

# Where the ratings lie, and how a run serves its own users, is nothing to others.
PRIVATE_SETTINGS: Mapping[str, Any] = {
    "data": {"source", "test", "query", *TableSettings.model_fields},
    "serving": True,
}

_NUMBERS = re.compile(r"[\d.+\s-]+(,[\d.+\s-]+)+")
# Keys that settings files of earlier versions have. None of them ever changed a number.
_FORMER_KEYS = (("data", "cache"), ("training", "trainer"))


def _method_there(name: str, info: ValidationInfo) -> str:
    """A validator that refuses a method that is not there, and a method of the caller's own with a name that is."""
    if info.context is None:
        return named_in(lambda: METHODS, "method")(name)
    if name in METHODS:
        raise ValueError(f"'{name}' is a method that there is: give your class another name")
    return name


class Settings(Section):
    """Everything that decides a run's numbers; the same settings and seed give the same model to the last bit.

    preset, description: what a settings file calls itself, and says of itself; they act on nothing.
    method: how the models are learned; a name in hierfed.methods.METHODS.
    seed: the number from which all randomness follows.
    """

    preset: str = ""
    description: str = ""
    method: Annotated[str, AfterValidator(_method_there)] = USUAL
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
    privacy: PrivacySettings = PrivacySettings()
    serving: ServingSettings = ServingSettings()
    _own_method: MethodKind | None = PrivateAttr(None)

    @property
    def own_method(self) -> MethodKind | None:
        """The caller's own method; None for one of hierfed.methods.METHODS."""
        return self._own_method

    @model_validator(mode="after")
    def _levels_do_something(self) -> Settings:
        personal = self.personalisation
        if personal.validation and personal.node_level in ("none", "bias"):
            raise ValueError(
                f"personalisation.validation: node_level '{personal.node_level}' has no epochs to stop early"
            )
        return self

    @model_validator(mode="after")
    def _some_take_part(self) -> Settings:
        taking_part, nodes = self.federation.participation, self.federation.nodes
        if taking_part > 1 and (taking_part != round(taking_part) or taking_part > nodes):
            raise ValueError(
                f"federation.participation: expected a share up to 1 or a whole number up to the {nodes} nodes "
                f"(found {taking_part:g})"
            )
        return self

    @model_validator(mode="after")
    def _promises_hold(self, info: ValidationInfo) -> Settings:
        """Refuse settings without an effect: a protection that hides nothing, a device that computes nothing."""
        self._own_method = info.context
        reason = settings_refusal(self, self._own_method or METHODS[self.method])
        if reason:
            raise ValueError(reason)
        return self

    def digest(self) -> str:
        """sha256 of the settings that a federation's nodes agree to, without preset, description, PRIVATE_SETTINGS."""
        told = self.model_dump(mode="json", exclude={**PRIVATE_SETTINGS, "preset": True, "description": True})
        return _digest(told)

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


def digest_as_written(path: Path) -> str:
    """Settings.digest of a file that `to_toml` wrote, without the keys that have come since.

    Raises SettingsError for a file that is no TOML.
    """
    written = _read(str(path))
    for name in ("preset", "description", *(name for name, part in PRIVATE_SETTINGS.items() if part is True)):
        written.pop(name, None)
    for name, keys in PRIVATE_SETTINGS.items():
        if name in written and keys is not True:
            written[name] = {key: value for key, value in written[name].items() if key not in keys}
    return _digest(written)


def _digest(told: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def preset_names() -> list[str]:
    """Names of the presets that come with the package."""
    return sorted(
        entry.name.removesuffix(".toml") for entry in _preset_folder().iterdir() if entry.name.endswith(".toml")
    )


def load_settings(
    preset: str | Path, overrides: Mapping[str, Any] | None = None, own_method: MethodKind | None = None
) -> Settings:
    """The settings of a preset, or of a TOML file such as a run leaves behind, with overrides by key.

    A key is `section.name`, or the name alone, which is unique.
    own_method: takes the place of the preset's, under the name of its class; a file of such settings is refused.
    Raises SettingsError for unknown presets and keys (naming the nearest) and for values that do not fit.
    """
    raw, known = _read(str(preset)), list(_keys()) if overrides else []
    for key, value in (overrides or {}).items():
        *sections, name = _resolve(key, known, str(preset))
        target = raw
        for section in sections:
            target = target.setdefault(section, {})
            if not isinstance(target, dict):
                raise SettingsError(f"{preset}: '{section}' is {target!r}, expected a section with keys of its own")
        target[name] = value
    if own_method is not None:
        if not isinstance(own_method, MethodKind):
            raise SettingsError(
                "method: expected a name, or an object of a class made from hierfed.methods.kind.MethodKind "
                f"(found {type(own_method).__name__})"
            )
        raw["method"] = type(own_method).__name__
    return _validated(raw, own_method)


def read_settings(text: str) -> Settings:
    """Settings from JSON that this version or the one before has written; raises SettingsError where they are wrong."""
    return _validated(json.loads(text))


def table_settings(given: Mapping[str, Any]) -> TableSettings:
    """The form of a table from settings of the section data; raises SettingsError where they do not fit."""
    return _validated({"data": dict(given)}).data


def parse_assignments(assignments: Sequence[str], example: str = "rounds=3") -> dict[str, str]:
    """`["rounds=3"]` as `{"rounds": "3"}`; raises SettingsError, with the example, where there is no `=`."""
    parsed = {}
    for assignment in assignments:
        key, sign, value = assignment.partition("=")
        if not sign or not key.strip():
            raise SettingsError(f"'{assignment}': expected key=value, such as {example}")
        parsed[key.strip()] = value.strip()
    return parsed


def parse_value(text: str) -> Any:
    """The value of a text: as TOML where it is TOML (numbers, lists, booleans), else the text itself.

    Numbers with commas between them are a list.
    """
    try:
        listed = f"[{text}]" if _NUMBERS.fullmatch(text) else text
        return tomllib.loads(f"value = {listed}")["value"]
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
            raise SettingsError(f"{preset}: cannot be read as UTF-8 text: {reason_of(error)}") from error
    elif preset in preset_names():
        text = (_preset_folder() / f"{preset}.toml").read_text(encoding="utf-8")
    else:
        raise SettingsError(
            f"no preset '{preset}'{nearest(preset, preset_names())}; there are: {', '.join(preset_names())}"
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


def setting_named(word: str) -> str:
    """The setting that a word names, with hyphens for underscores too; empty if none."""
    name = word.replace("-", "_")
    return name if any(key == name for _, key in _keys()) else ""


def _resolve(key: str, known: Sequence[tuple[str, str]], preset: str) -> list[str]:
    """The sections and the name that a key stands for.

    known: all sections and names. preset: for the message.
    """
    section, _, name = key.rpartition(".")
    for place in known:
        if place[1] == name and section in ("", place[0]):
            return [part for part in place if part]
    if section in ("columns", "data.columns"):
        return ["data", "columns", name]
    names = [name for _, name in known] + [f"{s}.{n}" for s, n in known if s]
    shown = preset if preset in preset_names() else USUAL
    raise SettingsError(
        f"unknown setting '{key}'{nearest(key, names)}; `hierfed presets --settings {shown}` lists them all"
    )


def _validated(raw: dict[str, Any], own_method: MethodKind | None = None) -> Settings:
    for section, name in _FORMER_KEYS:
        if isinstance(raw.get(section), dict):
            raw[section].pop(name, None)
    try:
        return Settings.model_validate(raw, context=own_method)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            names = [name for _, name in _keys()]
            section = next((section for section, name in _keys() if name == where and section), "")
            if section:
                raise SettingsError(f"setting '{where}' is in section [{section}]: move it there") from error
            raise SettingsError(f"unknown setting '{where}'{nearest(where.rpartition('.')[2], names)}") from error
        message = first["msg"].removeprefix("Value error, ")
        found = "" if first["type"] == "value_error" else f" (found {first['input']!r})"
        # A section's own refusals name the setting.
        named = not where or message.startswith(f"{where}.")
        raise SettingsError(message if named else f"{where}: {message}{found}") from error


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

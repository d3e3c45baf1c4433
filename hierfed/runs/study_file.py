"""A study's file: methods times variants of settings times seeds, every run checked before the first begins."""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from hierfed.errors import SettingsError, reason_of
from hierfed.lookup import nearest
from hierfed.section import Count, Section
from hierfed.settings import Settings, load_settings


class Study(Section):
    """A study's file.

    presets: presets or settings files, each a method of its own name. seeds: how many of each, from 0.
    methods: by name, its `preset`, what it changes, and in `trials` lists of values, of which validation rows choose.
    settings: of all runs, by key. variants: by name, what each changes beside; the usual one changes nothing.
    grid: by name, as variants; where a value is a list, there is a variant for each of its values.
    reference: the method that the others are compared with, node by node; empty for none.
    """

    presets: tuple[str, ...] = ()
    methods: dict[str, dict[str, Any]] = Field(default_factory=dict)
    seeds: Count = 2
    settings: dict[str, Any] = Field(default_factory=dict)
    variants: dict[str, dict[str, Any]] = Field(default_factory=dict)
    grid: dict[str, dict[str, Any]] = Field(default_factory=dict)
    reference: str = ""


@dataclass(frozen=True)
class Cell:
    """The runs of a method in a variant.

    trials: on validation rows, one for each choice of hyperparameters; empty where there is one choice. All variants of
    a group have the same.
    runs: the settings of each seed, for each choice.
    """

    trials: Sequence[Settings]
    runs: Sequence[Sequence[Settings]]


@dataclass(frozen=True)
class Plan:
    """Every run of a study.

    groups: the variants of each entry of the grid, in its order, and each other variant by itself.
    cells: by variant and method.
    reference: see Study.
    """

    groups: Mapping[str, Sequence[str]]
    cells: Mapping[str, Mapping[str, Cell]]
    reference: str = ""


def named_studies() -> list[str]:
    """Names of the studies that come with the package."""
    return sorted(each.name.removesuffix(".toml") for each in _folder().iterdir() if each.name.endswith(".toml"))


def read_study(asked: str | Path, changes: Mapping[str, Any] | None = None) -> Plan:
    """The plan of a study: the name of one that comes with the package, or a file, NAME.toml.

    changes: of the study's settings of all runs, by key.
    Raises SettingsError, in one line, for an unknown name, for a file that is no study, and for settings that a preset
    cannot have.
    """
    path = str(asked)
    try:
        if path in named_studies():
            text = (_folder() / f"{path}.toml").read_text(encoding="utf-8")
        elif path.endswith(".toml"):
            text = Path(path).read_text(encoding="utf-8")
        else:
            names = named_studies()
            raise SettingsError(
                f"no study '{path}'{nearest(path, names)}; there are: {', '.join(names)}; or give a file, NAME.toml"
            )
        study = Study.model_validate(tomllib.loads(text))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {reason_of(error)}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path}: not a study: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        keys = ", ".join(Study.model_fields)
        raise SettingsError(f"{path}: {where}: {first['msg']}; a study has {keys}") from error
    return _plan(study.model_copy(update={"settings": {**study.settings, **(changes or {})}}), path)


def _plan(study: Study, path: str) -> Plan:
    labels = [Path(preset).stem for preset in study.presets]
    if len({*labels, *study.methods}) < len(labels) + len(study.methods):
        raise SettingsError(f"{path}: presets: two of them have one name: rename a file")
    methods = {label: {"preset": preset} for label, preset in zip(labels, study.presets, strict=True)} | study.methods
    if not methods:
        raise SettingsError(
            f"{path}: presets: there is none, and no [methods.NAME]: a study has {', '.join(Study.model_fields)}"
        )
    if study.reference and study.reference not in methods:
        raise SettingsError(
            f"{path}: reference: no method '{study.reference}'{nearest(study.reference, methods)}; "
            f"there are: {', '.join(methods)}"
        )
    grid = {group: dict(_variants(group, entry)) for group, entry in study.grid.items()}
    grid |= {name: {name: changes} for name, changes in study.variants.items()}
    grid = grid or {"as it is": {"as it is": {}}}
    names = [name for variants in grid.values() for name in variants]
    if len(set(names)) < len(names):
        raise SettingsError(f"{path}: grid: two variants have one name: rename one")

    def settings_of(label: str, variant: str, changes: Mapping[str, Any], seed: int) -> Settings:
        found = {key: value for key, value in methods[label].items() if key not in ("preset", "trials")}
        try:
            return load_settings(methods[label]["preset"], {**study.settings, **found, **changes, "seed": seed})
        except SettingsError as error:
            raise SettingsError(f"{path}: preset '{label}', variant '{variant}': {error}") from error

    cells: dict[str, dict[str, Cell]] = {}
    for variants in grid.values():
        middle = list(variants)[len(variants) // 2]
        for label, method in methods.items():
            if not isinstance(method.get("preset"), str) or not isinstance(method.get("trials", {}), dict):
                raise SettingsError(f"{path}: methods.{label}: expected a preset's name, and trials as lists by key")
            choices = [choice for _, choice in _product(method.get("trials", {}))]
            rehearsed = {**variants[middle], "judged_on": "validation"}
            trials = [settings_of(label, middle, {**rehearsed, **choice}, 0) for choice in choices]
            for variant, changes in variants.items():
                runs = [
                    [settings_of(label, variant, {**changes, **choice}, seed) for seed in range(study.seeds)]
                    for choice in choices
                ]
                cells.setdefault(variant, {})[label] = Cell(trials if len(trials) > 1 else [], runs)
    return Plan({group: list(variants) for group, variants in grid.items()}, cells, study.reference)


def _variants(group: str, entry: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for told, choice in _product(entry):
        yield ", ".join([group, *told]), choice


def _product(entry: Mapping[str, Any]) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """Each choice of one value from each list, and how it is told."""
    lists = {key: value if isinstance(value, list) else [value] for key, value in entry.items()}
    for values in itertools.product(*lists.values()):
        choice = dict(zip(lists, values, strict=True))
        yield [f"{key} {value}" for key, value in choice.items() if len(lists[key]) > 1], choice


def _folder() -> Any:
    return resources.files("hierfed") / "studies"

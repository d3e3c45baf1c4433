"""The reference of all settings: key, type, usual value and meaning, read from the sections themselves."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from dataclasses import dataclass
from inspect import getdoc
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic_core import PydanticUndefined

from hierfed.errors import SettingsError
from hierfed.lookup import nearest
from hierfed.section import Section
from hierfed.settings import Settings

_ENTRY = re.compile(r"^([a-z_]+(?:, [a-z_]+)*): (.*)")


@dataclass(frozen=True)
class Setting:
    """A setting.

    key: with its section, such as `training.rounds`. kind: its type or its choices. usual: its value where no preset
    says otherwise. meaning: what it does; empty where its name says all.
    """

    key: str
    kind: str
    usual: str
    meaning: str


def every_setting() -> Iterator[Setting]:
    """All settings, in the order of their sections."""
    top = meanings(Settings)
    for name, field in Settings.model_fields.items():
        if not isinstance(field.default, Section):
            yield Setting(name, _kind(field.annotation), _value(field.default), top.get(name, ""))
            continue
        section = type(field.default)
        told = meanings(section)
        for key, inner in section.model_fields.items():
            annotation = inner.annotation
            yield Setting(f"{name}.{key}", _kind(annotation), _value(inner.default), told.get(key, ""))


def setting(key: str) -> Setting:
    """One setting, by its key with or without its section; raises SettingsError for an unknown one."""
    every = {each.key: each for each in every_setting()}
    short = {name.rpartition(".")[2]: each for name, each in every.items()}
    found = every.get(key) or short.get(key)
    if found is None:
        raise SettingsError(f"no setting '{key}'{nearest(key, [*short, *every])}; `hierfed settings` lists them all")
    return found


def meanings(section: type[Section]) -> dict[str, str]:
    """The meaning of each field that a section's docstring describes: `name: text`, on one line or more."""
    found: dict[str, str] = {}
    for base in section.__mro__[1:]:
        if issubclass(base, Section) and base is not Section:
            found |= meanings(base)
    names: list[str] = []
    for line in (getdoc(section) or "").splitlines():
        entry = _ENTRY.match(line)
        if entry and all(name in section.model_fields for name in entry.group(1).split(", ")):
            names, text = entry.group(1).split(", "), entry.group(2)
            found |= dict.fromkeys(names, "")
        elif not line.strip():
            names = []
            continue
        else:
            text = line.strip()
        for name in names:
            found[name] = f"{found.get(name, '')} {text}".strip()
    return found


def as_markdown() -> str:
    """The page docs/settings.md."""
    lines = [
        "# Settings",
        "",
        "Every key works with `--set key=value`, in a settings file under its section, and as an argument of",
        "`hierfed.run`. `hierfed settings KEY` prints one of them. The sections of the settings make this page, by",
        "`python benchmarks/settings_page.py`.",
    ]
    section = ""
    for each in every_setting():
        name, _, key = each.key.rpartition(".")
        if name != section or len(lines) == 5:
            section = name
            lines += ["", f"## {name or 'Of the run'}", "", "| key | usual | type and meaning |", "|---|---|---|"]
        cells = (f"`{key}`", f"`{each.usual}`" if each.usual else "", f"*{each.kind}*: {each.meaning}")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


# What is said otherwise than as a setting by name: what a file says of itself.
_NO_ARGUMENTS = ("preset", "description")
_TYPES_HEAD = '''"""Types of all settings by name. `python benchmarks/settings_page.py` writes this file."""

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

'''


def as_types() -> str:
    """The module hierfed.settings_by_name."""
    lines = []
    for name, field in Settings.model_fields.items():
        if not isinstance(field.default, Section):
            lines.append((name, field.annotation))
            continue
        lines += [(key, inner.annotation) for key, inner in type(field.default).model_fields.items()]
    own = {"rule": "str | Rule", "method": "str | MethodKind"}
    told = [f"    {name}: {own.get(name) or _type(kind)}" for name, kind in lines if name not in _NO_ARGUMENTS]
    return _TYPES_HEAD + "\n".join(told) + "\n"


def _type(annotation: Any) -> str:
    """An annotation as Python has it, without bounds; any sequence will do for a tuple."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(arguments[0])
    if origin in (Union, types.UnionType):
        return " | ".join(_type(each) for each in arguments)
    if origin is Literal:
        inside = [f'"{choice}"' if isinstance(choice, str) else repr(choice) for choice in arguments]
        return f"Literal[{', '.join(inside)}]"
    if origin is tuple:
        name = "Sequence" if Ellipsis in arguments else "tuple"
        inside = [_type(each) for each in arguments if each is not Ellipsis]
        return f"{name}[{', '.join(inside) or '()'}]"
    if origin is not None:
        return f"Mapping[{', '.join(map(_type, arguments))}]"
    return "None" if annotation is type(None) else str(annotation.__name__)


def _kind(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(arguments[0])
    if origin is Literal:
        return " or ".join(f"`{choice}`" if choice else "empty" for choice in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(_kind(each) for each in arguments)
    if origin is tuple:
        parts = [_kind(each) for each in arguments if each is not Ellipsis]
        return f"list of {parts[0]}" if Ellipsis in arguments else f"({', '.join(parts)})"
    if origin is not None:
        return f"table of {', '.join(_kind(each) for each in arguments)}"
    words = {int: "whole number", float: "number", str: "text", bool: "true or false", type(None): "nothing"}
    return words.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _value(default: Any) -> str:
    if default is None or default is PydanticUndefined:
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple):
        return "[" + ", ".join(_value(each) for each in default) + "]"
    return str(default)

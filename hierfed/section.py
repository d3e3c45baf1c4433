"""A section of the settings, and the types of its numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from hierfed.errors import SettingsError
from hierfed.lookup import look_up

Share = Annotated[float, Field(gt=0, le=1)]
OpenShare = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1, strict=True)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    """A part of the settings; it is immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, coerce_numbers_to_str=True)


def named_in(table: Callable[[], Mapping[str, Any]], kind: str) -> Callable[[str], str]:
    """A validator that refuses a name which the table does not have.

    table: gives the table when a name is checked; its module may take long to load.
    kind: the word for an entry, for the message.
    """

    def check(name: str) -> str:
        try:
            look_up(table(), name, kind)
        except SettingsError as error:
            raise ValueError(str(error)) from error
        return name

    return check

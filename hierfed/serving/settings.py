"""The settings of serving."""

from __future__ import annotations

from typing import Literal

from hierfed.section import Section


class ServingSettings(Section):
    """The models that a run keeps to serve its users; they change none of its figures.

    refit: `users`, once judged, learn from all their rows, held-out ones too, in their own models alone: nothing is
    trained anew and nothing is sent. `none` keeps the models that were judged.
    """

    refit: Literal["users", "none"] = "users"

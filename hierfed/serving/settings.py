"""The settings of serving."""

from __future__ import annotations

from typing import Literal

from hierfed.section import Section


class ServingSettings(Section):
    """What a run keeps to serve its users from; its figures are those of what was judged, whatever this says.

    refit: `users`, once judged, learn from all their rows, held-out ones too, by their own models alone: nothing is
    trained anew and nothing is sent. `none` keeps the models that were judged.
    """

    refit: Literal["users", "none"] = "users"

"""The levels of an update, known without what makes one: who serves a run must not wait for what trains it."""

from __future__ import annotations

from typing import Literal, get_args

Level = Literal["users", "rounds", "all"]
LEVELS: tuple[Level, ...] = get_args(Level)
# Rounds of an update that go on from the shared model: of a run, and of a federation, which opens anew.
USUAL_ROUNDS, FEDERATED_ROUNDS = 2, 5

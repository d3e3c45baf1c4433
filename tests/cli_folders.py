"""Small ratings for commands, and looks at their output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.commands import Finished

SETS = ("nodes=2", "personal_nodes=2", "hidden=[4]", "local_epochs=1", "tuning_epochs=1", "rounds=1", "sample=1.0")


SMALL = [word for setting in SETS for word in ("--set", setting)]


def small_ratings() -> list[tuple[int, int, float, int]]:
    rng = np.random.default_rng(2)
    return [
        (user + 1, film + 1, float(rng.integers(1, 11)) / 2, 10**9 + user)
        for user in range(30)
        for film in rng.choice(40, 10, replace=False).tolist()
    ]


def write_folder(place: Path, ratings: str | None = None) -> str:
    place.mkdir(parents=True, exist_ok=True)
    lines = [",".join(map(str, row)) for row in small_ratings()]
    text = "\n".join(["userId,movieId,rating,timestamp", *lines]) + "\n"
    (place / "ratings.csv").write_text(text if ratings is None else ratings)
    films = [f"{film + 1},Film {film} ({1950 + film}),{('Action', 'Comedy')[film % 2]}" for film in range(40)]
    (place / "movies.csv").write_text("\n".join(["movieId,title,genres", *films]) + "\n")
    return str(place)


def write_metadata(place: Path) -> None:
    """Metadata under the ids of 30 of the films, for the join `paper`."""
    genres = "\"[{'id': 28, 'name': 'Action'}]\""
    films = [f"{film + 1},tt{film},Other {film},1990-01-01,{genres},1.5,90.0,6.0,10.0,5.0" for film in range(30)]
    header = "id,imdb_id,title,release_date,genres,popularity,runtime,vote_average,vote_count,revenue"
    (place / "movies_metadata.csv").write_text("\n".join([header, *films]) + "\n")


def assert_refused(found: Finished, *parts: str, code: int = 2) -> None:
    """One line `error: ...` on standard error that holds these parts, nothing else, and nothing on standard output."""
    assert found.code == code, found.err
    assert found.out == ""
    assert len(found.errors) == 1, found.err
    assert found.err.startswith("error: ")
    for part in parts:
        assert part in found.err


def strict_json(text: str) -> Any:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def made(users: int, items: int, ratings: int) -> list[str]:
    return ["--users", str(users), "--items", str(items), "--ratings", str(ratings)]

"""The command that puts an evaluation through the leak test."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hierfed.cli.output import print_content
from hierfed.errors import DataError

if TYPE_CHECKING:
    import numpy as np

LEAKS = 1
"""The exit code where a leak is found."""

UNTESTED = 3
"""The exit code where nothing can be tested."""


def leak_test(
    train: Annotated[Path, typer.Option(help="Pairs to learn from: a CSV file with columns user and item.")],
    test: Annotated[Path, typer.Option(help="The held-out pair of each user.")],
    candidates: Annotated[str, typer.Option(help="Items to rank it among: such a file, or FILE.py:FUNCTION.")],
    negatives: Annotated[
        str, typer.Option(help="The training negatives: such a file, or FILE.py:FUNCTION of a random generator.")
    ] = "",
    fit: Annotated[
        str, typer.Option(help="FILE.py:FUNCTION that trains on pairs and gives a function of scores.")
    ] = "",
    scores: Annotated[str, typer.Option(help="Finished scores, of which nothing can be tested.")] = "",
    seeds: Annotated[int, typer.Option(help="Five or more.")] = 5,
) -> None:
    """Test whether an evaluation of recommendations gives away the held-out items.

    Ids are whole numbers. FILE.py is run, so take only files that you trust; functions are those of hierfed.leak_test.
    Ends with 0 where no leak is found, with 1 where one is, and with 3 where nothing can be tested.
    """
    from hierfed.evaluation import leaks  # noqa: PLC0415

    found = leaks.leak_test(
        _read(train),
        _read(test),
        _sampler(candidates),
        negatives=_sampler(negatives) if negatives else None,
        fit=_function(fit) if fit else None,
        scores=scores or None,
        seeds=seeds,
    )
    print_content(str(found))
    if not found.tested:
        raise typer.Exit(UNTESTED)
    if found.leaks:
        raise typer.Exit(LEAKS)


def _read(path: Path) -> np.ndarray:
    import numpy as np  # noqa: PLC0415
    import polars as pl  # noqa: PLC0415

    try:
        found = pl.read_csv(path, columns=["user", "item"])
        return np.column_stack([found[name].cast(pl.Int64).to_numpy() for name in ("user", "item")])
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: expected a CSV file with whole numbers in columns user and item: {reason}") from error


def _sampler(named: str) -> Callable[[np.random.Generator], np.ndarray]:
    if ".py:" in named:
        return _function(named)
    pairs = _read(Path(named))
    return lambda rng: pairs


def _function(named: str) -> Callable[..., Any]:
    path, _, name = named.rpartition(":")
    if not Path(path).is_file():
        raise DataError(f"'{named}': expected FILE.py:FUNCTION with a file that exists")
    found = runpy.run_path(path).get(name)
    if not callable(found):
        raise DataError(f"{path}: has no function '{name}'")
    made: Callable[..., Any] = found
    return made

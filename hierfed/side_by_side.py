"""Several runs and what tells them apart: seeds of one preset, presets on the same seeds, and a grid of settings."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl

from hierfed.errors import SettingsError
from hierfed.evaluation.metrics import with_metrics
from hierfed.evaluation.summary import compare, summarise
from hierfed.results import PairedDifference, Result, Summary

Runner = Callable[[Mapping[str, Any]], Result]
"""The result of a run with these settings over the others."""


@dataclass(frozen=True)
class Seeds:
    """Runs of the same settings on seed after seed. results: of each, in the order of the seeds; models are not kept.

    >>> hierfed.run("item_biases", data=ratings, seeds=2).to_frame().columns[:2]
    ['seed', 'global_rmse']
    """

    results: tuple[Result, ...]

    @cached_property
    def summary(self) -> Summary:
        """Mean and spread of each figure, and paired differences to the rivals; see hierfed.results.Summary."""
        return summarise(self.results[0].preset, self.results)

    def to_frame(self) -> pl.DataFrame:
        """The figures of each seed, a row a seed."""
        return pl.DataFrame([{"seed": each.seed, **with_metrics(each).metrics} for each in self.results])

    def _repr_html_(self) -> str:
        """The summary, as notebooks show it."""
        return self.summary._repr_html_()


@dataclass(frozen=True)
class Comparison:
    """Presets on the same seeds. seeds: the runs of each, by name.

    >>> found = hierfed.compare(["item_biases", "local"], data=ratings, seeds=2)
    >>> found.differences[0].first
    'item_biases: global_rmse'
    """

    seeds: Mapping[str, Seeds]

    @cached_property
    def differences(self) -> list[PairedDifference]:
        """Each pair of presets: paired differences, with p-values corrected by Holm."""
        return compare({name: each.results for name, each in self.seeds.items()})

    def to_frame(self) -> pl.DataFrame:
        """Each preset's figures on each seed, a row a run."""
        frames = [each.to_frame().insert_column(0, pl.lit(name).alias("preset")) for name, each in self.seeds.items()]
        return pl.concat(frames, how="diagonal_relaxed")


@dataclass(frozen=True)
class Sweep:
    """The choices of a grid, and what each reached on validation rows; no test row was looked at.

    choices: settings by name. errors: RMSE of the users' own models on validation rows.

    >>> len(hierfed.sweep("item_biases", {"test_share": [0.1, 0.3]}, data=ratings).errors)
    2
    """

    choices: tuple[Mapping[str, Any], ...]
    errors: tuple[float, ...]

    @property
    def best(self) -> dict[str, Any]:
        """The choice with the least error, the first of equal ones: hierfed.run(preset, **sweep.best) judges it."""
        return dict(self.choices[self.errors.index(min(self.errors))])

    def to_frame(self) -> pl.DataFrame:
        """A row a choice, in the order of the grid, with the column validation_rmse."""
        rows = [{name: _told(value) for name, value in choice.items()} for choice in self.choices]
        return pl.DataFrame(rows).with_columns(pl.Series("validation_rmse", self.errors))


def on_seeds(run: Runner, first: int, count: int) -> Seeds:
    """So many runs from the first seed on. Raises SettingsError for less than one."""
    if count < 1:
        raise SettingsError(f"seeds {count}: expected at least 1")
    return Seeds(tuple(run({"seed": seed}) for seed in range(first, first + count)))


def over_grid(run: Runner, grid: Mapping[str, Sequence[Any]]) -> Sweep:
    """A run for each choice of one value from each list, judged on validation rows.

    Raises SettingsError for a grid without values, and where no choice reached a figure.
    """
    for name, values in grid.items():
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            raise SettingsError(f"grid: {name}: expected a list of values, such as [1, 2] (found {values!r})")
    if not grid:
        raise SettingsError('grid: there is no setting in it; such as {"rank": [4, 8]}')
    choices = tuple(dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values()))
    errors = tuple(run({**choice, "judged_on": "validation"}).users.rmse_after for choice in choices)
    if not all(map(math.isfinite, errors)):
        raise SettingsError("grid: a choice has no error on validation rows: take a protocol that holds rows out")
    return Sweep(choices, errors)


def _told(value: Any) -> Any:
    return value if isinstance(value, (bool, int, float, str)) else str(value)

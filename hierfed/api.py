"""The library's front door: the same runs as on the command line, from Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, Unpack, overload

import polars as pl

from hierfed.data.division import load_dataset
from hierfed.data.reading.raw_tables import IN_MEMORY, frame_of, is_table
from hierfed.errors import HierfedError, SettingsError
from hierfed.evaluation.prequential import Prequential, judge_then_learn
from hierfed.experiment import run_experiment
from hierfed.methods import Case, prepare
from hierfed.methods.kind import ModuleMaker
from hierfed.models.threads import one_torch_thread
from hierfed.observer import Observer
from hierfed.outcome import Outcome
from hierfed.results import Result
from hierfed.runs.reports import save_run
from hierfed.settings import load_settings
from hierfed.settings_by_name import SettingsByName
from hierfed.side_by_side import Comparison, Runner, Seeds, Sweep, on_seeds, over_grid


class Run:
    """A finished run. `result` holds its figures (see hierfed.results.Result), `outcome` its models.

    >>> run = hierfed.run("item_biases", data=ratings, protocol="warm")
    >>> run.result.users.users
    40
    """

    def __init__(self, outcome: Outcome):
        self.outcome = outcome

    @property
    def result(self) -> Result:
        """The findings of the run."""
        return self.outcome.result

    def _repr_html_(self) -> str:
        """The metrics, as notebooks show them."""
        return self.result._repr_html_()

    def save(self, folder: str | Path) -> Path:
        """Write settings, models, figures and report into a folder; gives the path of `report.html`."""
        save_run(self.outcome, Path(folder))
        return Path(folder) / "report.html"


@overload
def run(
    preset: str = "hierarchical",
    *,
    data: Any = None,
    module: ModuleMaker | None = None,
    observers: Sequence[Observer] = (),
    seeds: None = None,
    **settings: Unpack[SettingsByName],
) -> Run: ...
@overload
def run(
    preset: str = "hierarchical",
    *,
    data: Any = None,
    module: ModuleMaker | None = None,
    observers: Sequence[Observer] = (),
    seeds: int,
    **settings: Unpack[SettingsByName],
) -> Seeds: ...
def run(
    preset: str = "hierarchical",
    *,
    data: Any = None,
    module: ModuleMaker | None = None,
    observers: Sequence[Observer] = (),
    seeds: int | None = None,
    **settings: Unpack[SettingsByName],
) -> Run | Seeds:
    """Run a preset (or a settings file) and give what it found; nothing is written.

    data: the source of the ratings, as for `--data`, or a path; or the ratings themselves, as a DataFrame of polars or
    pandas, or an Arrow table.
    module: a function from the number of features to a torch.nn.Module, which is trained in place of the settings'
    network, on ratings stretched onto 0.5 to 5.
    observers: watch the run, and may end its training.
    seeds: run so many seeds, from the settings' own on; the answer is then a hierfed.side_by_side.Seeds.
    settings: overrides by name, such as rounds=3. `rule` may be a rule of one's own, as docs/how-to/own-rule.md makes
    it, and `method` a method of one's own, as docs/how-to/own-method.md does; a folder of such a run holds neither.
    Raises hierfed.errors.HierfedError for settings and data that cannot be used.

    >>> import hierfed
    >>> run = hierfed.run("item_biases", data=ratings)
    >>> len(run.result.nodes)
    8
    """
    overrides, table = _asked(data, settings)
    rule = None if isinstance(overrides.get("rule", ""), str) else overrides.pop("rule")
    own = None if isinstance(overrides.get("method", ""), str) else overrides.pop("method")

    def outcome(more: Mapping[str, Any]) -> Outcome:
        asked = load_settings(preset, {**overrides, **more}, own)
        return run_experiment(asked, table=table, module=module, rule=rule, observers=observers)

    if seeds is None:
        return Run(outcome({}))
    return on_seeds(lambda more: outcome(more).result, load_settings(preset, overrides, own).seed, seeds)


def compare(
    presets: Sequence[str], *, data: Any = None, seeds: int = 3, **settings: Unpack[SettingsByName]
) -> Comparison:
    """Run presets on the same seeds and rows, and pair their differences; nothing is written.

    presets: two or more names or settings files. data, settings: as for `run`, the same for all presets.
    Raises hierfed.errors.HierfedError for settings and data that cannot be used.

    >>> found = hierfed.compare(["item_biases", "local"], data=ratings, seeds=2)
    >>> found.to_frame().height
    4
    """
    names = [Path(preset).stem for preset in presets]
    if isinstance(presets, str) or len(names) < 2 or len(set(names)) < len(names):
        raise SettingsError(f"compare: expected two presets or more, of different names (found {presets!r})")
    first = load_settings(presets[0], _asked(data, settings)[0]).seed
    each = {name: _runner(preset, data, settings) for name, preset in zip(names, presets, strict=True)}
    return Comparison({name: on_seeds(runner, first, seeds) for name, runner in each.items()})


def sweep(
    preset: str, grid: Mapping[str, Sequence[Any]], *, data: Any = None, **settings: Unpack[SettingsByName]
) -> Sweep:
    """Try every choice of a grid on validation rows; test rows stay unseen, so that one run of the best may judge it.

    grid: lists of values by setting, such as {"rank": [4, 8]}. data, settings: as for `run`.
    Raises hierfed.errors.HierfedError for settings and data that cannot be used, and for a protocol that draws no rows.

    >>> found = hierfed.sweep("item_biases", {"nodes": [2, 4]}, data=ratings, protocol="warm")
    >>> len(found.errors)
    2
    """
    return over_grid(_runner(preset, data, settings), grid)


def prequential(
    preset: str = "hierarchical",
    *,
    data: Any = None,
    by: str = "year",
    update_rounds: int = 5,
    first: float = 0.2,
    tell: Callable[[str], None] = lambda line: None,
    **settings: Unpack[SettingsByName],
) -> Prequential:
    """Judge on each block of time, then learn from it, by each of five strategies; the answer is a table.

    data, settings: as for `run`; nothing is selected, and vote averages are left out, since they are newer.
    by: `year`, `month`, or a number of ratings. update_rounds: of an update.
    first: share of the ratings that all begin with. tell: takes a line after each block.
    Raises hierfed.errors.HierfedError for ratings without times, and methods that cannot go on.

    >>> found = hierfed.prequential(data="ratings.csv", by="200", rounds=1, update_rounds=1, protocol="temporal")
    >>> found.to_frame()["block"].to_list()[-2:]
    ['all', 'CPU s']
    """
    overrides, table = _asked(data, {"data.vote_average": "leave_out", **settings})
    asked = load_settings(preset, overrides)
    with one_torch_thread():
        dataset = load_dataset(asked, table=table)
        case = Case(asked, dataset.catalogue, asked.data.limits(dataset.ratings.limits))
        method = prepare(case).method
        if not method.resumes:
            raise HierfedError(f"preset '{preset}': its model cannot go on from block to block: take hierarchical")
        full = asked.training.rounds
        return judge_then_learn(
            method, dataset.ratings, by, full_rounds=full, rounds=update_rounds, first=first, tell=tell
        )


def _runner(preset: str, data: Any, settings: Mapping[str, Any]) -> Runner:
    """A function that runs a preset with more settings, and keeps its result alone."""
    overrides, table = _asked(data, settings)
    load_settings(preset, overrides)
    return lambda more: run_experiment(load_settings(preset, {**overrides, **more}), table=table).result


def _asked(data: Any, settings: Mapping[str, Any]) -> tuple[dict[str, Any], pl.DataFrame | None]:
    """The overrides of the settings, and the ratings themselves where they are in memory."""
    overrides = {key: str(value) if isinstance(value, PurePath) else value for key, value in settings.items()}
    if data is not None:
        overrides["data.source"] = IN_MEMORY if is_table(data) else str(data)
    return overrides, frame_of(data) if is_table(data) else None

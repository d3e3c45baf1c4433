"""The command line: run, compare, recommend, data, presets, report."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click
import typer

from hierfed import __version__
from hierfed.errors import HierfedError, SettingsError
from hierfed.settings import Settings, load_settings, parse_assignments, parse_value, preset_names

if TYPE_CHECKING:
    from rich.console import RenderableType

    from hierfed.companion.process import Companion
    from hierfed.results import Result

INTERRUPTED = 130

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Personalised recommendations learned from ratings that never leave their owner.",
)

Preset = Annotated[str, typer.Argument(help="A preset's name (see `hierfed presets`) or a settings file, NAME.toml.")]
Data = Annotated[
    str | None,
    typer.Option("--data", help="embedded, movielens-small, a folder, or a CSV or Parquet table.", show_default=False),
]
Join = Annotated[str | None, typer.Option(help="links, paper, title or none: how items get their features.")]
Test = Annotated[str | None, typer.Option(help="A table with the test rows, or a named split such as u1.")]
ProtocolOption = Annotated[
    str | None, typer.Option("--protocol", help="two_groups, warm, temporal, cold or given: what is held out of whom.")
]
Columns = Annotated[
    list[str] | None, typer.Option("--column", help="user=NAME, item=NAME, rating=NAME, time=NAME; repeatable.")
]
Seed = Annotated[
    int | None,
    typer.Option(min=0, help="The seed, or the first of --seeds; else the settings' own.", show_default=False),
]
Sets = Annotated[list[str] | None, typer.Option("--set", help="key=value, overriding a setting; repeatable.")]
Out = Annotated[Path, typer.Option(help="The folder that holds the runs.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else, on standard output.")]


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Options of hierfed itself."""
    if version:
        typer.echo(f"hierfed {__version__}")
        raise typer.Exit


@app.command()
def run(
    preset: Preset = "hierarchical",
    data: Data = None,
    join: Join = None,
    protocol: ProtocolOption = None,
    test: Test = None,
    column: Columns = None,
    seed: Seed = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Run this many seeds.", show_default=False)] = None,
    set_: Sets = None,
    name: Annotated[str | None, typer.Option(help="The run's folder; the preset's name if not given.")] = None,
    out: Out = Path("runs"),
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run an experiment: train a global model, personalise it, and report what that gained."""
    settings = _settings(preset, data, join, protocol, test, column, seed, set_)
    companion = _companion([settings])
    from hierfed import runs  # noqa: PLC0415 - torch takes seconds to load, and other commands do not need it
    from hierfed.report import terminal  # noqa: PLC0415

    silent = quiet or as_json
    folder = runs.free_folder(out, name or Path(preset).stem)
    if seeds is None:
        results = [_run_one(settings, folder, silent, companion)]
        if not silent:
            _print(terminal.result_tables(results[0]))
    else:
        results = []
        for each in range(settings.seed, settings.seed + seeds):
            results.append(_run_seed(settings, folder, each, silent, companion))
        summary = runs.save_summary(results, folder)
        if not silent:
            _print(terminal.summary_table(summary))
    if as_json:
        name = "result.json" if seeds is None else "summary.json"
        sys.stdout.write((folder / name).read_text(encoding="utf-8"))
    elif not quiet:
        _print_path("The report", folder / "report.html")


@app.command()
def compare(
    presets: Annotated[list[str], typer.Argument(help="Two or more presets or settings files.")],
    data: Data = None,
    join: Join = None,
    protocol: ProtocolOption = None,
    seed: Seed = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds to run of each.")] = 3,
    set_: Sets = None,
    name: Annotated[str, typer.Option(help="The folder of the comparison.")] = "compare",
    out: Out = Path("runs"),
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run presets on the same seeds and show the paired differences."""
    labels = {Path(preset).stem: preset for preset in presets}
    if len(labels) < max(2, len(presets)):
        raise SettingsError(
            f"compare needs two presets or more, of different names; there are: {', '.join(preset_names())}"
        )
    every = {label: _settings(preset, data, join, protocol, None, None, seed, set_) for label, preset in labels.items()}
    companion = _companion(every.values())
    from hierfed import runs  # noqa: PLC0415
    from hierfed.evaluation.summary import compare as compare_results  # noqa: PLC0415
    from hierfed.report import terminal  # noqa: PLC0415

    silent = quiet or as_json
    folder = runs.free_folder(out, name)
    first = next(iter(every.values())).seed
    results: dict[str, list[Result]] = {
        label: [_run_seed(settings, folder / label, each, silent, companion) for each in range(first, first + seeds)]
        for label, settings in every.items()
    }
    summaries = {label: runs.save_summary(each, folder / label) for label, each in results.items()}
    differences = compare_results(results)
    found = {
        "summaries": {label: summary.model_dump(mode="json") for label, summary in summaries.items()},
        "differences": [difference.model_dump(mode="json") for difference in differences],
    }
    (folder / "comparison.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if as_json:
        sys.stdout.write((folder / "comparison.json").read_text(encoding="utf-8"))
    elif not quiet:
        _print(terminal.comparison_table(summaries, differences))
        _print_path("The reports", folder)


@app.command()
def recommend(
    folder: Annotated[Path, typer.Argument(help="The folder of a run of the hierarchical model.")],
    user: Annotated[str, typer.Option(help="The user's id, as in the ratings.")],
    count: Annotated[int, typer.Option("-k", "--count", min=1, help="How many items.")] = 10,
    as_json: Json = False,
) -> None:
    """Recommend items to a user: titles, expected ratings with 90% intervals, and the own ratings that moved them."""
    from hierfed.report import terminal  # noqa: PLC0415
    from hierfed.serving import Served  # noqa: PLC0415

    answer = Served(folder).recommend(user, count)
    if as_json:
        sys.stdout.write(json.dumps(asdict(answer), indent=1) + "\n")
    else:
        _print(terminal.recommendations_table(answer))


@app.command()
def data(
    source: Annotated[str, typer.Argument(help="embedded, movielens-small, a folder, or a table.")] = "embedded",
    join: Join = None,
    test: Test = None,
    column: Columns = None,
) -> None:
    """Show what a source holds: counts, hashes, join coverage, licence, and what was dropped and why."""
    from hierfed.data.sources import load  # noqa: PLC0415
    from hierfed.report import terminal  # noqa: PLC0415
    from hierfed.report.progress import downloading  # noqa: PLC0415

    columns = parse_assignments(column or [])
    with downloading() as progress:
        dataset = load(source, join=[join] if join else (), columns=columns or None, test=test, progress=progress)
    _print(terminal.dataset_table(dataset))


@app.command()
def presets(
    settings: Annotated[str | None, typer.Option(help="Show all settings of this preset.", show_default=False)] = None,
) -> None:
    """List the presets, or all settings of one."""
    if settings is not None:
        typer.echo(load_settings(settings).to_toml(), nl=False)
        return
    for name in preset_names():
        typer.echo(f"{name:10} {load_settings(name).description}")


@app.command()
def report(folder: Annotated[Path, typer.Argument(help="The folder of a run.")]) -> None:
    """Write a run's figures and page again, from its result."""
    from hierfed import runs  # noqa: PLC0415
    from hierfed.report import terminal  # noqa: PLC0415
    from hierfed.results import Result  # noqa: PLC0415

    found = runs.rewrite_report(folder)
    _print(terminal.result_tables(found) if isinstance(found, Result) else terminal.summary_table(found))
    _print_path("The report", folder / "report.html")


def main() -> None:
    """Run the command line; an error of the user's is one line on standard error and an exit code."""
    gc.disable()  # until the libraries are loaded: their objects stay, and to search them again and again takes long
    try:
        code = app(standalone_mode=False) or 0
    except HierfedError as error:
        typer.echo(f"error: {error}", err=True)
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    if code == INTERRUPTED:
        typer.echo("stopped; what rounds were finished are in the run's rounds.jsonl", err=True)
    sys.exit(code)


def _settings(
    preset: str,
    data: str | None,
    join: str | None,
    protocol: str | None,
    test: str | None,
    columns: list[str] | None,
    seed: int | None,
    sets: list[str] | None,
) -> Settings:
    if test is not None and protocol not in (None, "given"):
        raise SettingsError(f"--test gives the test rows, so --protocol {protocol} cannot choose others: leave one out")
    named = {"seed": seed, "data.source": data, "data.join": join, "data.test": test, "split.protocol": protocol}
    overrides: dict[str, Any] = {key: value for key, value in named.items() if value is not None}
    if columns:
        overrides["data.columns"] = parse_assignments(columns)
    overrides |= {key: parse_value(text) for key, text in parse_assignments(sets or []).items()}
    return load_settings(preset, overrides)


def _companion(settings: Iterable[Settings]) -> Companion | None:
    """A helper until the command ends, where there are networks to train without a federation."""
    from hierfed.companion.process import Companion  # noqa: PLC0415

    if all(each.method != "averaging" for each in settings):
        return None
    return click.get_current_context().with_resource(Companion())


def _run_seed(settings: Settings, folder: Path, seed: int, silent: bool, companion: Companion | None) -> Result:
    from hierfed import runs  # noqa: PLC0415

    return _run_one(settings.model_copy(update={"seed": seed}), runs.seed_folder(folder, seed), silent, companion)


def _run_one(settings: Settings, folder: Path, silent: bool, companion: Companion | None) -> Result:
    from hierfed import runs  # noqa: PLC0415
    from hierfed.evaluation.baselines import begin_here  # noqa: PLC0415
    from hierfed.experiment import run_experiment  # noqa: PLC0415
    from hierfed.report.progress import watching  # noqa: PLC0415

    if not gc.isenabled():
        gc.freeze()
        gc.enable()
    with watching(settings, f"{settings.preset}, seed {settings.seed}", silent) as watcher:
        log = runs.RoundLog(folder)
        begin = begin_here if companion is None else partial(companion.begin, settings)
        outcome = run_experiment(settings, observers=[log, watcher], progress=watcher.on_download, begin=begin)
        watcher.on_stage("report")
        return runs.save_run(outcome, folder)


def _print_path(what: str, path: Path) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    Console().print(Text.assemble(f"{what}: ", (str(path), "bold")), soft_wrap=True)


def _print(content: RenderableType) -> None:
    from rich.console import Console  # noqa: PLC0415

    Console().print(content)

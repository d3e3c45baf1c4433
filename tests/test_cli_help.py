"""Help explains every command, argument and option, in the environment that is pinned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

import click
import pytest
import typer
from typer.testing import CliRunner

from hierfed.cli import app
from hierfed.cli.options import DataOptions, TableOptions


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from commands(inner, (*path, name))


EVERY = [(path, command) for path, command in commands(typer.main.get_command(app)) if path]


@pytest.mark.parametrize("path, command", EVERY, ids=[" ".join(path) for path, _ in EVERY])
def test_help_explains_every_argument_and_option(path, command):
    result = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "400"})
    assert result.exit_code == 0
    shown = " ".join(result.output.split())
    for parameter in command.params:
        words = getattr(parameter, "help", None)
        assert words, f"{' '.join(path)}: {parameter.name} has no help"
        assert " ".join(words.split()) in shown, f"{' '.join(path)}: the help of {parameter.name} is not shown"
    if isinstance(command, click.Group):
        assert all(name in shown for name in command.commands)


def test_runs_comparisons_and_federations_take_the_same_data():
    """And a node and a peer, which have no split of their own, the same forms of tables."""
    taken = {path: {parameter.name for parameter in command.params} for path, command in EVERY}
    for name in ("run", "compare", "federation"):
        assert {field.name for field in fields(DataOptions)} <= taken[name,]
    for path in (("node",), ("peer",), ("data", "show")):
        assert {field.name for field in fields(TableOptions)} <= taken[path]


def test_help_breaks_its_lines_where_the_terminal_ends_alone():
    shown = CliRunner().invoke(app, ["update", "--help"], env={"COLUMNS": "400"}).output
    told = "learn of other items from each other. With more rounds, or all rounds anew, the global model learns too"
    assert any(told in line for line in shown.splitlines())


def test_hierfed_data_lists_its_commands_and_shows_sources():
    shown = CliRunner().invoke(app, ["data", "--help"]).output
    assert "show" in shown
    assert "make" in shown
    assert CliRunner().invoke(app, ["data", "nowhere.csv"]).exception is not None

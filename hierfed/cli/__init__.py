"""The command line: run, compare, recommend, data, presets, report, audit, and those of a federation."""

from __future__ import annotations

import gc
import sys
from typing import Annotated

import click
import typer

from hierfed import __version__
from hierfed.cli.experiments import compare, run
from hierfed.cli.federation import federation, keys_new, keys_server, node, personalise, server
from hierfed.cli.finished import audit, recommend, report
from hierfed.cli.inspection import DataGroup, data_make, data_show, presets
from hierfed.cli.interruption import INTERRUPTED
from hierfed.errors import HierfedError


def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Options of hierfed itself."""
    if version:
        typer.echo(f"hierfed {__version__}")
        raise typer.Exit


def _application() -> typer.Typer:
    """Every command, in the order in which `--help` lists them."""
    made = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help="Personalised recommendations learned from ratings that never leave their owner.",
    )
    made.callback(invoke_without_command=True)(options)
    for command in (run, compare, recommend, presets, report, audit, server, node, federation, personalise):
        made.command()(command)
    data = typer.Typer(cls=DataGroup, help="Show what a source of ratings holds, or make ratings like MovieLens'.")
    data.command("show")(data_show)
    data.command("make")(data_make)
    made.add_typer(data, name="data")
    keys = typer.Typer(no_args_is_help=True, help="Make keys and certificates for a federation.")
    keys.command("new")(keys_new)
    keys.command("server")(keys_server)
    made.add_typer(keys, name="keys")
    return made


app = _application()


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
        typer.echo("stopped", err=True)
    sys.exit(code)

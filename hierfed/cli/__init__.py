"""The command line: experiments and studies, recommendations, a service, data, reports, checks and federations."""

from __future__ import annotations

import _thread
import errno
import gc
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import click
import typer

from hierfed import __version__
from hierfed.cli.edges import edge
from hierfed.cli.experiments import compare, run
from hierfed.cli.federation import federation, keys_new, keys_server, node, personalise, server
from hierfed.cli.finished import audit, forget, recommend, report, update
from hierfed.cli.inspection import DataGroup, data_make, data_show, presets, settings
from hierfed.cli.interruption import INTERRUPTED
from hierfed.cli.leaks import leak_test
from hierfed.cli.listing import runs
from hierfed.cli.logs import LOG, logs_json
from hierfed.cli.output import print_what_can_be, say
from hierfed.cli.peers import peer
from hierfed.cli.prequential import prequential
from hierfed.cli.service import page, serve
from hierfed.cli.status import status
from hierfed.cli.study import study
from hierfed.errors import HierfedError, SettingsError, StorageError
from hierfed.settings import setting_named

# A disk that is full, or may not be written to.
STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
# Packages that not every installation has, with the extra that brings them.
EXTRAS = {"cryptography": "privacy", "flwr": "flower", "fastapi": "serve", "uvicorn": "serve"}


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
        # Click makes suggestions too.
        suggest_commands=False,
        pretty_exceptions_enable=False,
        help="Personalised recommendations learned from ratings that never leave their owner.",
    )
    made.callback(invoke_without_command=True)(options)
    finished = (recommend, update, forget, serve, page, report, audit, leak_test)
    for command in (
        run,
        compare,
        study,
        prequential,
        runs,
        presets,
        settings,
        *finished,
        server,
        node,
        edge,
        status,
        peer,
        federation,
        personalise,
    ):
        made.command(help=_in_paragraphs(command))(command)
    data = typer.Typer(cls=DataGroup, help="Show what a source of ratings holds, or make ratings like MovieLens'.")
    data.command("show")(data_show)
    data.command("make")(data_make)
    made.add_typer(data, name="data")
    keys = typer.Typer(no_args_is_help=True, help="Make keys and certificates for a federation.")
    keys.command("new")(keys_new)
    keys.command("server")(keys_server)
    made.add_typer(keys, name="keys")
    return made


def _in_paragraphs(command: Callable[..., None]) -> str:
    """A command's docstring as its help; `--help` breaks its lines where the terminal ends, and nowhere else."""
    return "\n\n".join(" ".join(each.split()) for each in (command.__doc__ or "").split("\n\n"))


app = _application()


def main() -> None:
    """Run the command line; an error of the user's is one line on standard error and an exit code."""
    print_what_can_be()
    gc.disable()  # until the libraries are loaded: their objects stay, and to search them again and again takes long
    sys.unraisablehook = _raise_again
    try:
        code = _run()
    except (KeyboardInterrupt, click.Abort):
        code = INTERRUPTED
    if code == INTERRUPTED:
        say("stopped")
    sys.exit(code)


def command() -> None:
    """Run the command line as a process of its own, which ends with it."""
    try:
        main()
    finally:
        # All is done: Ctrl-C would now end in a traceback, with the exit code of what was done.
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _run() -> int:
    try:
        return app(standalone_mode=False) or 0
    except HierfedError as error:
        _tell_error(str(error))
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        # The help is shown already, and says it all.
        return error.exit_code
    except click.ClickException as error:
        say(f"error: {error.format_message().rstrip('.')}{_usage(error)}")
        if isinstance(error, click.NoSuchOption) and (setting := setting_named(error.option_name.lstrip("-"))):
            say(f"{setting} is a setting: --set {setting}=VALUE")
        return error.exit_code
    except (OSError, ModuleNotFoundError, MemoryError, RuntimeError) as error:
        told = _lacking(error)
        if told is None:
            raise
        _tell_error(str(told))
        return told.exit_code


def _lacking(error: Exception) -> HierfedError | None:
    """An error of the user's where the machine lacks room to write, a package or memory; None for a defect."""
    if isinstance(error, OSError):
        return StorageError(Path(error.filename or "a file"), error) if error.errno in STORAGE else None
    if isinstance(error, ModuleNotFoundError):
        extra = EXTRAS.get(error.name or "")
        if extra is None:
            return None
        return SettingsError(f"this needs the package {error.name}: pip install 'hierfed[{extra}]'")
    if not _is_out_of_memory(error):
        return None
    return HierfedError(f"not enough memory ({error}): take smaller settings, fewer rows, or a larger machine")


def _is_out_of_memory(error: Exception) -> bool:
    """True for Python's and numpy's error, and for what torch says in its place."""
    return isinstance(error, MemoryError) or "allocate memory" in str(error) or "out of memory" in str(error)


def _tell_error(line: str) -> None:
    if logs_json():
        LOG.error("%s", line)
    else:
        say(f"error: {line}")


def _usage(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    return "" if context is None else f"; `{context.command_path} --help` lists what there is"


def _raise_again(lost: sys.UnraisableHookArgs) -> None:
    """Let Ctrl-C be heard again where Python had to drop it, as in a destructor; other errors are written as ever."""
    if issubclass(lost.exc_type, KeyboardInterrupt):
        # From here it would be dropped again.
        _thread.start_new_thread(_interrupt_soon, ())
    else:
        sys.__unraisablehook__(lost)


def _interrupt_soon() -> None:
    time.sleep(0.01)
    _thread.interrupt_main()

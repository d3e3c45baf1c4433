"""Commands that let people use a finished run: serve it over HTTP, or make a page of it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from hierfed.addresses import is_loopback
from hierfed.cli.logs import LogFormat, log_to_stderr
from hierfed.errors import HierfedError, SettingsError

Folder = Annotated[Path | None, typer.Argument(help="The folder of a run.", show_default=False)]
OwnState = Annotated[
    Path | None, typer.Option("--state", help="On a node: its own folder, in place of a run's.", show_default=False)
]


def serve(
    folder: Folder = None,
    state: OwnState = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 8000,
    tokens: Annotated[
        Path | None,
        typer.Option(
            help="A file of lines TOKEN USER, with * for all users; others may not read it.", show_default=False
        ),
    ] = None,
    certificate: Annotated[Path | None, typer.Option(help="The TLS certificate, PEM.", show_default=False)] = None,
    key: Annotated[Path | None, typer.Option(help="Its private key, PEM.", show_default=False)] = None,
    name: Annotated[
        list[str] | None, typer.Option(help="A name under which it is called, beside loopback's; repeatable.")
    ] = None,
    rate: Annotated[float, typer.Option(min=1, help="Requests of one client a second.")] = 200.0,
    prepare: Annotated[
        int, typer.Option(min=0, help="Users whose lists are made before it answers; those of others as they ask.")
    ] = 1000,
    log_format: LogFormat = "text",
) -> None:
    """Serve recommendations of a run, or of a node's state, over HTTP; nothing there is changed.

    Without --tokens whoever reaches the port may ask for every user, so it listens on
    loopback alone; any other address takes --tokens, --certificate and --key.
    A newer model is loaded as it lands, without a request lost.
    """
    source = _one(folder, state)
    if (certificate is None) != (key is None):
        raise SettingsError("--certificate and --key go together")
    if not is_loopback(host) and (tokens is None or certificate is None):
        raise SettingsError(f"--host {host}: others could ask for every user: give --tokens, --certificate and --key")
    if any(importlib.util.find_spec(module) is None for module in ("fastapi", "uvicorn", "prometheus_client")):
        raise HierfedError("serving takes more packages: pip install 'hierfed[serve]'")
    from hierfed.service.access import read_tokens  # noqa: PLC0415 - torch takes seconds to load
    from hierfed.service.answering import prepare_lists  # noqa: PLC0415
    from hierfed.service.app import LOOPBACK, Limits, create_app  # noqa: PLC0415
    from hierfed.service.app import serve as answer  # noqa: PLC0415
    from hierfed.service.current import KEPT_ANSWERS, Current  # noqa: PLC0415

    log_to_stderr(log_format)
    known = None if tokens is None else read_tokens(tokens)
    current = Current(source, prepare=lambda model: prepare_lists(model, prepare), most=KEPT_ANSWERS + prepare)
    app = create_app(current, known, Limits(rate, (*LOOPBACK, host, *(name or []))))
    answer(source, app, host, port, certificate, key)


def page(
    folder: Folder = None,
    state: OwnState = None,
    out: Annotated[Path, typer.Option(help="The new folder of the page.")] = Path("page"),
) -> None:
    """Make a page that recommends in the visitor's browser: static files, and no rating leaves it.

    The page publishes the shared model; what that is, and what it may leak, is said
    in `arrays.json` and on the page. No file of a user is read.
    """
    from hierfed.cli.output import print_path  # noqa: PLC0415 - torch takes seconds to load
    from hierfed.page.bundle import write_page  # noqa: PLC0415

    told = write_page(_one(folder, state), out)
    for line in told:
        typer.echo(line)
    print_path("The page", out / "index.html")


def _one(folder: Path | None, state: Path | None) -> Path:
    if (folder is None) == (state is None):
        raise SettingsError("name a run's folder, or a node's with --state DIR: one of the two")
    if state is not None and not state.is_dir():
        raise HierfedError(f"--state {state}: no such folder; `hierfed node --state` makes one")
    return folder or state or Path()

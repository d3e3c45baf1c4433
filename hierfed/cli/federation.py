"""Commands of a real federation: server, node, keys, federation, and personalise on a node."""

from __future__ import annotations

import importlib.util
import logging
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hierfed.cli.interruption import end_on_sigterm
from hierfed.cli.logs import LogFormat, log_to_stderr
from hierfed.cli.options import (
    Data,
    DataOptions,
    Json,
    Out,
    Preset,
    Query,
    Quiet,
    Refit,
    Seed,
    Sets,
    TableOptions,
    settings_of,
    taking,
)
from hierfed.cli.output import print_json, print_path, say
from hierfed.data.settings import TableSettings
from hierfed.errors import HierfedError, SettingsError

if TYPE_CHECKING:
    from hierfed.deployment.state import Origin
    from hierfed.engines.flower.superlink import Certificates

LAST_PORT = 65535

NODE_SOURCES = "a folder, a table (CSV, TSV, Parquet, SQLite), or postgresql://USER@HOST/DATABASE."
State = Annotated[Path, typer.Option("--state", help="The node's own folder, readable by its owner only.")]
Deadline = Annotated[float, typer.Option(min=1, help="Seconds for the answers to a round.")]
Insecure = Annotated[
    bool, typer.Option("--insecure", help="Without TLS and keys: anyone on the way can read and change all.")
]
Health = Annotated[
    str | None,
    typer.Option(help="HOST:PORT, or a port of this machine: answers /healthz and /metrics there.", show_default=False),
]
TestShare = Annotated[
    float, typer.Option(min=0, max=0.9, help="Of each user's rows: never learned from, to be judged on.")
]
LeastNodes = Annotated[int | None, typer.Option(min=1, help="Take part only with so many nodes; 3 if not given.")]
LeastRaters = Annotated[
    int | None, typer.Option(min=1, help="Take part only where items have so many raters; 5 if not given.")
]
PolicyFile = Annotated[Path | None, typer.Option("--policy", help="A TOML file with this node's conditions.")]
TestTable = Annotated[str | None, typer.Option("--test", help="A table with rows to be judged on.")]
Name = Annotated[str | None, typer.Option(help="The run's folder; the preset's name if not given.")]


_NO_OPTIONS, _NO_TABLE_OPTIONS = DataOptions(), TableOptions()


def server(
    preset: Annotated[
        str | None,
        typer.Argument(
            help="A preset's name or a settings file, NAME.toml; hierarchical, or with --update the former settings."
        ),
    ] = None,
    listen: Annotated[str, typer.Option(help="HOST:PORT; other machines need a HOST that they can reach.")] = (
        "127.0.0.1:9092"
    ),
    nodes: Annotated[int, typer.Option(min=1, help="How many nodes must be there to begin.")] = 3,
    quorum: Annotated[
        int | None,
        typer.Option(min=1, help="Contributions that a round needs; more than half of --nodes if not given."),
    ] = None,
    deadline: Deadline = 600.0,
    catalogue: Annotated[
        Path | None,
        typer.Option(
            help="The items, as `hierfed data --catalogue` writes them; else those of --data, or of --update."
        ),
    ] = None,
    data: Data = None,
    tls_cert: Annotated[Path | None, typer.Option(help="The server's certificate.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="The private key of the certificate.")] = None,
    ca: Annotated[Path | None, typer.Option(help="The authority that signed the certificate.")] = None,
    allow_key: Annotated[list[Path] | None, typer.Option(help="A node's public key, KEY.pub; repeatable.")] = None,
    insecure: Insecure = False,
    begin_anew: Annotated[
        bool, typer.Option("--begin-anew", help="Keep what is in the folder as before-1, and train from the start.")
    ] = False,
    update: Annotated[
        Path | None,
        typer.Option(help="The folder of a finished training to go on from, with ratings as they are now."),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="With --update: how many, after the opening ones; 5 if not given.")
    ] = None,
    keep_embedding: Annotated[
        bool,
        typer.Option(
            "--keep-embedding",
            help="With --update: two opening rounds, not eight. A node refuses it if a user of its has left.",
        ),
    ] = False,
    set_: Sets = None,
    name: Name = None,
    out: Out = Path("runs"),
    health: Health = None,
    log_format: LogFormat = "text",
) -> None:
    """Serve a federation until it is trained; started again, it goes on where it was.

    With --update it begins from a finished model, and a few rounds over all ratings
    follow. Items keep their numbers, and new ones come after them.
    """
    require_flower()
    if keep_embedding and update is None:
        raise SettingsError("--keep-embedding goes with --update: a training from the start has none to keep")
    if rounds is not None and update is None:
        raise SettingsError("--rounds goes with --update; for a training from the start say --set rounds=")
    if preset is None:
        preset = _usual_preset(update)
    settings = settings_of(preset, DataOptions(data=data), seed=None, sets=set_)
    log_to_stderr(log_format)
    where, port = address_of("--listen", listen)
    tls = certificates_of(tls_cert, tls_key, ca, "--ca")
    folder = out / (name or (Path(preset).stem if update is None else f"{update.name}-updated"))
    from hierfed.data.division import load_dataset  # noqa: PLC0415
    from hierfed.data.reading.catalogue_file import CATALOGUE, read_catalogue  # noqa: PLC0415

    if catalogue is not None:
        items = read_catalogue(catalogue)
    elif update is not None and data is None:  # Those of before, in their order.
        items = read_catalogue(update / CATALOGUE, as_written=True)
    else:
        items = load_dataset(settings).catalogue
    from hierfed.engines.flower.surroundings import settle  # noqa: PLC0415

    settle(folder / "flower")
    from hierfed.cli.watching import LoggedLines  # noqa: PLC0415
    from hierfed.deployment.hosting import Hosting, Update, host  # noqa: PLC0415
    from hierfed.engines.flower.patience import Patience  # noqa: PLC0415
    from hierfed.serving.levels import FEDERATED_ROUNDS  # noqa: PLC0415

    end_on_sigterm()
    hosting = Hosting(where, port, tls, tuple(allow_key or ()), insecure, _health(health))
    observer = LoggedLines()
    least = quorum if quorum is not None else nodes // 2 + 1
    patience, going_on = Patience(deadline=deadline), None
    if update is not None:
        going_on = Update(update, rounds or FEDERATED_ROUNDS, keep_embedding)
    result = host(settings, items, folder, hosting, nodes, least, patience, observer, begin_anew, going_on)
    observer.on_result(result)
    print_path("The model", folder)


def _usual_preset(update: Path | None, preset: str = "hierarchical") -> str:
    """The settings file of the finished training that an update goes on from, if there is one; else this preset."""
    if update is None:
        return preset
    if not (update / "settings.toml").is_file():
        raise SettingsError(f"--update {update}: no finished training of a server is there to go on from")
    return str(update / "settings.toml")


@taking(TableOptions)
def node(
    server: Annotated[str, typer.Option(help="HOST:PORT of the server.")],
    data: Annotated[str, typer.Option("--data", help=f"This node's ratings: {NODE_SOURCES}")],
    state: State,
    name: Annotated[str | None, typer.Option(help="What the node is called; this machine's name if not given.")] = None,
    query: Query = None,
    tables: TableOptions = _NO_TABLE_OPTIONS,
    test: TestTable = None,
    test_share: TestShare = 0.1,
    ca: Annotated[Path | None, typer.Option(help="The authority that signed the server's certificate.")] = None,
    key: Annotated[Path | None, typer.Option(help="The node's private key, as `hierfed keys new` makes it.")] = None,
    catalogue: Annotated[Path | None, typer.Option(help="Take part only if the server has this catalogue.")] = None,
    peer: Annotated[
        list[Path] | None,
        typer.Option(help="Another node's public key: add with these alone, by secure sums alone; repeatable."),
    ] = None,
    epsilon: Annotated[
        float | None,
        typer.Option(min=0, help="Take part only where differential privacy hides each user at this or less."),
    ] = None,
    least_nodes: LeastNodes = None,
    least_raters: LeastRaters = None,
    policy: PolicyFile = None,
    insecure: Insecure = False,
    patience: Annotated[float, typer.Option(min=1, help="Seconds to try again where the server is gone.")] = 120.0,
    quiet: Quiet = False,
    health: Health = None,
    log_format: LogFormat = "text",
) -> None:
    """Take part in a federation with the ratings of this node, which stay here."""
    require_flower()
    log_to_stderr(log_format, logging.ERROR if quiet else logging.INFO)
    address_of("--server", server)
    answers_at = _health(health)
    from hierfed.engines.flower.surroundings import settle  # noqa: PLC0415

    settle(state / "flower")
    from hierfed.cli.watching import LoggedLines  # noqa: PLC0415
    from hierfed.deployment.hosting import Joining, take_part  # noqa: PLC0415
    from hierfed.deployment.policy import read_policy  # noqa: PLC0415

    end_on_sigterm()
    own_name = name or socket.gethostname()
    origin = origin_of(data, query, tables, test, test_share)
    lines = LoggedLines()
    conditions = {"epsilon": epsilon, "least_nodes": least_nodes, "least_raters": least_raters}
    own = read_policy(policy, conditions)
    joining = Joining(server, ca, key, insecure, catalogue, patience, tuple(peer or ()), own, answers_at)
    traffic = take_part(joining, own_name, origin, state, lines.tell, lines.warn)
    lines.tell(f"over; {traffic.sent:,} bytes sent, {traffic.received:,} received")


@taking(DataOptions)
def federation(
    preset: Preset = "hierarchical",
    nodes: Annotated[int | None, typer.Option(min=1, help="How many; else the settings' own.")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="How many; else the settings' own.")] = None,
    tables: DataOptions = _NO_OPTIONS,
    seed: Seed = None,
    deadline: Deadline = 600.0,
    set_: Sets = None,
    name: Annotated[str, typer.Option(help="The run's folder.")] = "federation",
    out: Out = Path("runs"),
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Try out a federation on this machine: a real server, and each node a process with a part of the data."""
    require_flower()
    counts = {"federation.nodes": nodes, "training.rounds": rounds}
    sets = [*(set_ or []), *(f"{key}={count}" for key, count in counts.items() if count is not None)]
    settings = settings_of(preset, tables, seed=seed, sets=sets)
    from hierfed.deployment.plan import check_deployable  # noqa: PLC0415
    from hierfed.engines.flower.surroundings import settle  # noqa: PLC0415
    from hierfed.runs.folder import claimed_folder  # noqa: PLC0415

    check_deployable(settings)
    end_on_sigterm()
    with claimed_folder(out, name) as folder:
        settle(folder / "flower")
        from hierfed.cli.watching import FederationLines, showing  # noqa: PLC0415
        from hierfed.deployment.loopback import run_federation  # noqa: PLC0415
        from hierfed.engines.flower.patience import Patience  # noqa: PLC0415

        with showing(quiet or as_json) as observer:
            result = run_federation(settings, folder, observer, Patience(deadline=deadline))
        if as_json:
            print_json((folder / "result.json").read_text(encoding="utf-8"))
        elif not quiet:
            FederationLines().on_result(result)
            print_path("Server and nodes", folder)


def personalise(state: State, refit: Refit = None) -> None:
    """Fit the models of this node's users, here alone, from the finished global model and their own ratings."""
    require_flower()
    from hierfed.deployment.local_models import personalise as fit  # noqa: PLC0415
    from hierfed.deployment.state import NodeState  # noqa: PLC0415

    node = NodeState.of_a_node(state)
    try:
        made = fit(node, "users" if refit is None else refit)
    finally:
        node.close()
    if made.unknown:
        say(f"{made.unknown:,} ratings left out whose items the catalogue does not know")
    print_path(f"{made.users:,} users' own models, of {made.ratings:,} ratings", made.folder)


def keys_new(
    path: Annotated[Path, typer.Argument(help="The private key's file; the public one is PATH.pub.")] = Path(
        "node.key"
    ),
) -> None:
    """Make a node's key: the private half stays on the node, the public half goes to the server."""
    require_flower()
    from hierfed.deployment.keys import new_key  # noqa: PLC0415

    public = new_key(path)
    print_path("Private, for `hierfed node --key`", path)
    print_path("Public, for `hierfed server --allow-key`", public)


def keys_server(
    hosts: Annotated[list[str], typer.Argument(help="Names or addresses by which nodes reach the server.")],
    folder: Annotated[Path, typer.Option("--out", help="Where to put the files.")] = Path("keys"),
) -> None:
    """Make a certificate for a server, for those who have no authority of their own."""
    require_flower()
    from hierfed.deployment.keys import new_certificates  # noqa: PLC0415

    made = new_certificates(folder, hosts)
    print_path("Certificate, for --tls-cert", made.certificate)
    print_path("Its private key, for --tls-key", made.key)
    print_path("Authority, for --ca on the server and on every node", made.ca)


def origin_of(data: str, query: str | None, tables: TableOptions, test: str | None, test_share: float) -> Origin:
    """Where a node's ratings are, and how to read them, from its options."""
    from hierfed.deployment.state import Origin  # noqa: PLC0415

    form = tables.table_settings().model_dump(
        mode="json", include=set(TableSettings.model_fields), exclude_defaults=True
    )
    columns = form.pop("columns", {})
    return Origin(data, query or "", columns, test or "", 0.0 if test else test_share, form)


def address_of(option: str, text: str) -> tuple[str, int]:
    """Host, without the brackets of an IPv6 address, and port."""
    host, _, port = text.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) <= LAST_PORT:
        raise SettingsError(f"{option} {text}: expected HOST:PORT, such as 127.0.0.1:9092")
    return host.strip("[]"), int(port)


def _health(text: str | None) -> tuple[str, int] | None:
    """The address of --health; a port alone is one of this machine."""
    return None if text is None else address_of("--health", text if ":" in text else f"127.0.0.1:{text}")


def certificates_of(certificate: Path | None, key: Path | None, ca: Path | None, authority: str) -> Certificates | None:
    """The certificate of those that listen; None without any. authority: the option that names the third file."""
    if certificate is None and key is None and ca is None:
        return None
    if certificate is None or key is None or ca is None:
        raise SettingsError(f"TLS needs all of --tls-cert, --tls-key and {authority}")
    for path in (certificate, key, ca):
        if not path.is_file():
            raise SettingsError(f"{path}: no such file; `hierfed keys server HOST` makes certificates")
    from hierfed.engines.flower.superlink import Certificates  # noqa: PLC0415

    return Certificates(certificate, key, ca)


def require_flower(carrier: str = "Flower") -> None:
    """Raise HierfedError where the extra `flower` is not installed; carrier: what carries the command's messages."""
    if importlib.util.find_spec("flwr") is None:
        raise HierfedError(
            f"the extra 'flower' is not installed; {carrier} carries the messages: pip install 'hierfed[flower]'"
        )

"""Commands that read what a run left: recommend, report and audit."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from hierfed.cli.options import Json
from hierfed.cli.output import print_content, print_json, print_path, say
from hierfed.errors import HierfedError, SettingsError


def recommend(
    user: Annotated[str, typer.Option(help="The user's id, as in the ratings.")],
    folder: Annotated[Path | None, typer.Argument(help="The folder of a run.", show_default=False)] = None,
    state: Annotated[
        Path | None, typer.Option(help="On a node: its own folder, in place of a run's.", show_default=False)
    ] = None,
    count: Annotated[int, typer.Option("-k", "--count", min=1, help="How many items.")] = 10,
    include_seen: Annotated[
        bool, typer.Option("--include-seen", help="List what the user has rated too, and say so beside it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Recommend items to a user: titles, expected ratings with 90% intervals, and the own ratings that moved them.

    Ratings are expected for now: where the times of a user's ratings are known, they
    count. What the user has rated is left out, held-out rows too. A user of whom nothing
    is known gets what suits a newcomer, and the list says so. On a node that has
    not been personalised yet the exit code is 3.
    """
    from hierfed.models.threads import one_torch_thread  # noqa: PLC0415
    from hierfed.serving.served import Served  # noqa: PLC0415

    if (folder is None) == (state is None):
        raise SettingsError("recommend from a run's folder, or on a node with --state DIR")
    if user != user.encode("utf-8", "replace").decode():
        raise SettingsError(f"--user {user!r}: expected an id as it is in the ratings, in UTF-8")
    if state is not None and not state.is_dir():
        raise HierfedError(f"--state {state}: no such folder; `hierfed node --state` makes one")
    served = Served(folder or state or Path())
    with one_torch_thread():
        answer = served.recommend(user, count, include_seen, int(time.time()))
    if served.superseded:
        personalise = f"`hierfed personalise --state {state or folder}`"
        say(f"the model of the training before serves until {personalise} has run")
    if as_json:
        sys.stdout.write(json.dumps(asdict(answer), indent=1) + "\n")
    else:
        from hierfed.report.terminal import recommendations_table  # noqa: PLC0415

        print_content(recommendations_table(answer))


def update(
    folder: Annotated[Path, typer.Argument(help="The folder of a run.")],
    data: Annotated[
        str | None,
        typer.Option(help="Ratings as they are now, in the form of those of the run.", show_default=False),
    ] = None,
    level: Annotated[
        Literal["users", "rounds", "all"],
        typer.Option(help="users: their own models alone. rounds: some more rounds. all: a training anew."),
    ] = "users",
    rounds: Annotated[
        int | None, typer.Option(min=1, help="With --level rounds: how many; 2 if not given.", show_default=False)
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="The data hold new ratings alone: all that they lack stay.")
    ] = False,
    withdraw: Annotated[
        str | None,
        typer.Option(help="Ratings to take back, in the form of those of the run.", show_default=False),
    ] = None,
) -> None:
    """Let a run learn from ratings as they are now: new, changed and withdrawn ones, new users and new items.

    Users alone: the global model stays, nothing is sent, and items that the run
    does not know wait; users of one node learn of other items from each other.
    With more rounds, or all rounds anew, the global model learns
    too, and new items are shared. A user whom the data name has these ratings
    and, unless you say --keep, no others. Without any change no file is touched.
    """
    from hierfed.plain_text import plural  # noqa: PLC0415
    from hierfed.serving.levels import USUAL_ROUNDS  # noqa: PLC0415
    from hierfed.serving.update import update_run  # noqa: PLC0415

    if rounds is not None and level != "rounds":
        raise SettingsError(f"--rounds {rounds} goes with --level rounds; --level {level} has no number of its own")
    done = update_run(folder, data, level, rounds=rounds or USUAL_ROUNDS, keep=keep, withdraw=withdraw)
    if done.unknown:
        say(f"{plural(done.unknown, 'rating')} left out whose items the run's catalogue does not know")
    if done.rounds:
        new = plural(done.new_items, "new item")
        say(f"{plural(done.rounds, 'round')}, {new}; reports keep the figures of the training before")
    fitted = f"{plural(done.fitted, 'user')} fitted, {done.new:,} of them new"
    print_path(f"{fitted}; {done.same:,} of those in the data are as they were", folder)


def forget(
    user: Annotated[list[str], typer.Option(help="The user's id, as in the ratings; repeatable.")],
    folder: Annotated[Path | None, typer.Argument(help="The folder of a run.", show_default=False)] = None,
    state: Annotated[
        Path | None, typer.Option(help="On a node: its own folder, in place of a run's.", show_default=False)
    ] = None,
    least_users: Annotated[int, typer.Option(min=1, help="Fewer users do not leave at once.")] = 5,
    fresh_rounds: Annotated[
        bool, typer.Option("--fresh-rounds", help="Train from the start, and let fewer users leave.")
    ] = False,
    tolerance: Annotated[
        float, typer.Option(min=0, help="Rounds end once one moves a newcomer's expected ratings by less stars.")
    ] = 0.001,
    rounds: Annotated[int, typer.Option(min=1, help="At most so many rounds.")] = 16,
) -> None:
    """Take users out of a run or a node: their ratings, their own files, and their part in the shared model.

    In a run, further rounds over all others follow, until they change little, and the
    ledger tells how many users left. On a node their files go, and their ratings are
    not read again; their part in the shared model leaves with the node's next training.
    The difference of two sums between which one user left is that user, so at least
    five leave at once.
    """
    from hierfed.serving.forgetting import forget_users  # noqa: PLC0415

    if (folder is None) == (state is None):
        raise SettingsError("forget users of a run's folder, or on a node with --state DIR")
    if folder is None:
        _forget_at_node(state or Path(), user, least_users, fresh_rounds)
        return
    done = forget_users(
        folder, user, least=least_users, fresh_rounds=fresh_rounds, tolerance=tolerance, most_rounds=rounds
    )
    for path in done.remains:
        say(f"still there, outside this run: {path}")
    say("the source of the ratings, copies and backups are not searched")
    print_path(f"{done.users:,} users forgotten in {done.rounds} rounds", folder)


def _forget_at_node(state: Path, users: list[str], least: int, fresh_rounds: bool) -> None:
    from hierfed.deployment.forgetting import forget_at_node  # noqa: PLC0415 - for this command alone
    from hierfed.deployment.state import NodeState  # noqa: PLC0415

    node = NodeState.of_a_node(state)
    try:
        done = forget_at_node(node, users, least=least, fresh_rounds=fresh_rounds)
    finally:
        node.close()
    for path in done.remains:
        say(f"still there, outside this state: {path}")
    if done.waiting:
        say(f"{done.waiting:,} users are in the shared model until this node's next training, which a server begins")
    if 0 < done.waiting < least:
        say("it has to be one from the start: this node takes part in no --update until enough users have changed")
    say("the source of the ratings, copies and backups are not searched: delete the rows there too")
    print_path(f"{done.users:,} users forgotten", state)


def report(
    folder: Annotated[Path, typer.Argument(help="The folder of a run.")],
    figure_format: Annotated[
        Literal["png", "svg", "pdf"] | None,
        typer.Option(metavar="TEXT", help="png, svg or pdf: also write figures for a paper, with text as text."),
    ] = None,
    figure_title: Annotated[
        Literal["finding", "none"],
        typer.Option(metavar="TEXT", help="finding, or none: figures for a paper without their headline."),
    ] = "finding",
) -> None:
    """Write a run's figures and page again, from its result."""
    from hierfed.report import terminal  # noqa: PLC0415
    from hierfed.results import Result  # noqa: PLC0415
    from hierfed.runs import reports  # noqa: PLC0415

    found = reports.rewrite_report(folder)
    print_content(terminal.result_tables(found) if isinstance(found, Result) else terminal.summary_table(found))
    print_path("The report", folder / "report.html")
    if figure_format or figure_title == "none":
        written = reports.write_for_papers(folder, figure_format or "", figure_title != "none")
        for place in dict.fromkeys(path.parent for path in written):
            print_path("Figures for a paper", place)


def audit(
    folder: Annotated[Path, typer.Argument(help="The folder of a run, or a node's or a peer's state.")],
    server_key: Annotated[
        str,
        typer.Option(help="The server's key: its fingerprint, SHA256:..., or its ledger.key.pub.", show_default=False),
    ] = "",
    as_json: Json = False,
) -> None:
    """Verify the signed ledger of a run's rounds, and that the run's files are those that it speaks of."""
    if (folder / "peers.jsonl").is_file() and not (folder / "ledger.jsonl").is_file():
        _audit_peers(folder / "peers.jsonl", as_json)
        return
    from hierfed.ledger.audit import audit as verify  # noqa: PLC0415
    from hierfed.report.audit_words import audit_table  # noqa: PLC0415

    found = verify(folder, server_key)
    if as_json:
        print_json(found.model_dump_json())
    else:
        print_content(audit_table(found))
    if not found.sealed:
        raise _unsealed(folder, found.entries)


def _unsealed(path: Path, entries: int) -> HierfedError:
    return HierfedError(
        f"{path}: valid up to entry {entries}, not sealed: the training goes on, was interrupted, or its last entries "
        "were cut off"
    )


def _audit_peers(path: Path, as_json: bool) -> None:
    from rich.text import Text  # noqa: PLC0415

    from hierfed.ledger.shared import audit_shared  # noqa: PLC0415

    found = audit_shared(path)
    if as_json:
        print_json(found.model_dump_json())
    else:
        rounds = ", ".join(f"{number} of '{stage}'" for stage, number in found.rounds.items())
        print_content(f"Training {found.training}: {found.entries:,} entries, each link of which holds. {rounds}.")
        for name, signed in found.signed.items():
            gone = "" if name in found.members else "; it was gone at the end"
            print_content(Text(f"{name} signed {signed:,}{gone}"))
    if not found.sealed:
        raise _unsealed(path, found.entries)

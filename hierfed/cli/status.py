"""The command that says what a server or a node is doing now."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hierfed.cli.options import Json
from hierfed.cli.output import print_json
from hierfed.errors import HierfedError, NotPersonalisedError
from hierfed.plain_text import plural, printable

if TYPE_CHECKING:
    from hierfed.deployment.status import Status

LISTED_REFUSALS = 5
NODE_PHASES = {
    "waiting": "waits for its server's training to begin",
    "training": "takes part",
    "finished": "over: the server has ended the training",
    "stopped": "not running",
}


def status(
    folder: Annotated[Path, typer.Argument(help="A server's folder, such as runs/hierarchical, or a node's --state.")],
    as_json: Json = False,
) -> None:
    """Say what a server or a node is doing: its round, who is there, who was refused and why, the last contact."""
    from hierfed.deployment.status import read_status  # noqa: PLC0415 - for this command alone

    found = read_status(folder)
    more = {"serves": serves(folder), "forgotten": forgot(folder)} if found.kind == "node" else {}
    told = {name: words for name, words in more.items() if words}
    if as_json:
        print_json(json.dumps(found.model_dump() | told))
        return
    for line in status_lines(found, time.time()) + [f"{name}: {words}" for name, words in told.items()]:
        typer.echo(printable(line))


def status_lines(found: Status, now: float) -> list[str]:
    """The status as lines for people; now: seconds since 1970."""
    if found.kind == "node":
        return _node_lines(found, now)
    present = found.present
    phases = {
        "waiting": f"waits for {plural(found.nodes, 'node')}, {len(present)} are there",
        "training": f"trains; {found.done} of {found.rounds} rounds since {_when(found.began)}",
        "finished": f"trained, at {_when(found.changed)}",
        "stopped": "not running; the same command goes on where it was",
    }
    lines = [f"server '{found.name}': {phases[found.phase]}"]
    lines += [f"problem: {found.problem}"] if found.problem else []
    if found.stage:
        abandoned = f", {found.abandoned} rounds abandoned" if found.abandoned else ""
        lines.append(f"last round: {found.stage} {found.round}{abandoned}")
    lines.append(f"a round needs {plural(found.quorum, 'node')}")
    for name, member in found.members.items():
        here = "there" if member.present and found.phase != "stopped" else "gone"
        lines.append(f"node {name}: {here}, last contact {_ago(member.last_contact, now)}")
    if found.refusals:
        lines.append(f"refused: {found.refusals}, the last ones:")
    for each in found.refused[-LISTED_REFUSALS:]:
        where = f", {each.round}" if each.round else ""
        lines.append(f"  {_when(each.at)} {f'node {each.node}' if each.node else 'a node'}{where}: {each.reason}")
    return lines


def _node_lines(found: Status, now: float) -> list[str]:
    lines = [f"node '{found.name}': {NODE_PHASES[found.phase]}"]
    lines += [f"problem: {found.problem}"] if found.problem else []
    lines += [f"last round: {found.stage} {found.round}"] if found.stage else []
    return [*lines, f"last contact with the server: {_ago(found.last_contact, now)}"]


def serves(folder: Path) -> str:
    """The models that a node recommends from, in words."""
    from hierfed.runs.models import MODEL, read_header  # noqa: PLC0415 - torch takes seconds to load
    from hierfed.runs.served_pair import pair_folder  # noqa: PLC0415

    try:
        pair = pair_folder(folder)
        digest = str(read_header(pair).get("digest", ""))
        newer = (folder / MODEL).is_file() and read_header(folder).get("digest") != digest
    except NotPersonalisedError:
        return "nothing yet: no model, or not personalised"
    except HierfedError as error:
        return f"nothing: {error}"
    waits = "; a newer one waits for `hierfed personalise`" if newer else ""
    return f"the model {digest[:12]}{waits}"


def forgot(folder: Path) -> str:
    """The users whom a node has forgotten, in words without a name; "" where there are none."""
    from hierfed.deployment.forgetting import forgotten_users  # noqa: PLC0415 - torch takes seconds to load

    found = forgotten_users(folder)
    if not found.users:
        return ""
    waits = f"; the part of {found.waiting} in the shared model leaves with the next training" if found.waiting else ""
    return f"{found.users} users, the last ones at {_when(found.last)}{waits}"


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _ago(at: float, now: float) -> str:
    """A time in the past, as people say it."""
    if at <= 0:
        return "never"
    seconds = max(now - at, 0.0)
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}s ago"
    return f"{seconds:.0f} seconds ago"

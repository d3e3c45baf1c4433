"""An audit for the terminal: what was verified, who signed, and what no signature proves."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from hierfed.ledger.audited import Audited
from hierfed.plain_text import plural
from hierfed.report import words

MOST_LINES = 5


def audit_table(found: Audited) -> Group:
    """Each key, rounds contributed to and countersigned of these, and the rest in sentences."""
    table = Table(box=None, pad_edge=False, title=f"Training {found.training}", title_justify="left")
    table.add_column("", overflow="fold")
    table.add_column("key", no_wrap=True, min_width=len(found.server))
    table.add_column("rounds", justify="right")
    table.add_column("signed", justify="right")
    table.add_row("server", found.server, "", "")
    for node in found.nodes:
        counts = words.count(node.contributed), words.count(node.countersigned)
        table.add_row(Text(node.name), node.fingerprint, *counts)
    return Group(table, *map(Text, audit_sentences(found)))


def audit_sentences(found: Audited) -> list[str]:
    """The findings that the table does not hold."""
    rounds = ", ".join(f"{words.count(number)} of '{stage}'" for stage, number in found.rounds.items()) or "none"
    abandoned = f", and {plural(found.abandoned, 'abandoned one')}" if found.abandoned else ""
    told = [f"{words.count(found.entries)} entries, each link of which holds. Rounds: {rounds}{abandoned}."]
    for node in found.nodes:
        if node.unsigned:
            lines = ", ".join(map(str, node.unsigned[:MOST_LINES]))
            more = ", ..." if len(node.unsigned) > MOST_LINES else ""
            told.append(f"Node {node.name} did not countersign what it contributed to in lines {lines}{more}.")
    if found.simulated:
        told.append("A simulation: one process made all keys, so the signatures show the chain and no witness.")
    spent = "no differential privacy" if found.epsilon is None else f"epsilon {found.epsilon:.4g}"
    told.append(f"Spent: {spent}. Compared with the ledger: {', '.join(found.compared) or 'nothing beside it'}.")
    if not found.expected:
        told.append(
            "No key was expected of the server (--server-key), so a ledger written anew from its first line on, by "
            "whoever holds keys of their own, would pass."
        )
    return told

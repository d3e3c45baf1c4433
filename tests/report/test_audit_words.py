"""What an audit prints: legible at 80 columns, keys whole, and nothing claimed that was not verified."""

from __future__ import annotations

from io import StringIO
from typing import Any

from rich.console import Console

from hierfed.ledger.audited import Audited, AuditedNode
from hierfed.report.audit_words import audit_table

KEY = "SHA256:" + "aB3/+" * 8 + "xyz"


def rendered(**changes: Any) -> str:
    nodes = [
        AuditedNode(name="hospital", fingerprint=KEY, contributed=1234, countersigned=1234, unsigned=[]),
        AuditedNode(
            name="[red] cross of a town",
            fingerprint=KEY[::-1],
            contributed=9,
            countersigned=2,
            unsigned=[3, 4, 5, 6, 7, 8, 9],
        ),
    ]
    told: dict[str, Any] = {
        "training": "f00d" * 4,
        "entries": 1240,
        "rounds": {"rating": 1230, "ease": 1},
        "abandoned": 0,
        "server": KEY,
        "expected": True,
        "simulated": False,
        "nodes": nodes,
        "epsilon": None,
        "sealed": True,
        "models": {},
        "compared": ["settings.toml"],
    }
    out = StringIO()
    Console(width=80, file=out).print(audit_table(Audited(**told | changes)))
    assert all(len(line) <= 80 for line in out.getvalue().splitlines())
    return out.getvalue()


def words(**changes: Any) -> str:
    return " ".join(rendered(**changes).split())


def test_keys_are_whole_and_counts_beside_them():
    text = rendered()
    assert [line.split() for line in text.splitlines() if KEY in line] == [
        ["server", KEY],
        ["hospital", KEY, "1,234", "1,234"],
    ]
    assert ["[red]", "cross", KEY[::-1], "9", "2"] in [line.split() for line in text.splitlines()]


def test_sentences_say_what_there_is_and_no_more():
    text = words()
    assert "1,240 entries, each link of which holds. Rounds: 1,230 of 'rating', 1 of 'ease'." in text
    assert "Node [red] cross of a town did not countersign what it contributed to in lines 3, 4, 5, 6, 7, ..." in text
    assert "Spent: no differential privacy. Compared with the ledger: settings.toml." in text
    for absent in ("simulation", "--server-key", "abandoned", "Node hospital"):
        assert absent not in text
    text = words(expected=False, simulated=True, abandoned=2, epsilon=1.23456, compared=[], rounds={})
    assert "Rounds: none, and 2 abandoned ones." in text
    assert "A simulation: one process made all keys" in text
    assert "epsilon 1.235. Compared with the ledger: nothing beside it." in text
    assert "(--server-key)" in text

"""The ledger that all peers sign: every changed byte is found, and who shows two histories is named."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("cryptography")

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from hierfed.cli import app
from hierfed.errors import DamagedError, HierfedError
from hierfed.ledger.chain import BrokenLink
from hierfed.ledger.entries import canonical
from hierfed.ledger.keys import public_text
from hierfed.ledger.shared import (
    END,
    FILE,
    PeersOpening,
    SharedEntry,
    SharedLedger,
    Statement,
    audit_shared,
    former_training,
    read_shared,
    sign,
    two_histories,
)

NAMES = ("north", "south", "west")
KEYS = {name: Ed25519PrivateKey.generate() for name in NAMES}
PEERS = {name: public_text(key) for name, key in KEYS.items()}
OPENING = PeersOpening(training="0" * 16, settings="0" * 64, catalogue="0" * 64, limits=(1.0, 5.0), peers=PEERS)


def said(ledger: SharedLedger, **changes: Any) -> Statement:
    usual = {
        "training": "0" * 16,
        "position": ledger.position,
        "previous": ledger.head,
        "view": 0,
        "stage": "rating",
        "round": ledger.position,
        "members": list(NAMES),
        "model": "a" * 64,
    }
    return Statement(**{**usual, **changes})


def line(ledger: SharedLedger, **changes: Any) -> bytes:
    """A line that all have signed; changes: of north's statement alone."""
    each = {name: sign(KEYS[name], said(ledger, **(changes if name == "north" else {}))) for name in NAMES}
    return canonical(SharedEntry(said=each))


def test_a_line_of_all_statements_is_the_same_for_all_and_can_be_read_again(tmp_path):
    ledger, other = SharedLedger(OPENING, tmp_path), SharedLedger(OPENING)
    for _ in range(2):
        given = {name: sign(KEYS[name], said(ledger)) for name in reversed(NAMES)}
        other.adopt(ledger.append(given))
    assert ledger.lines == other.lines == read_shared(tmp_path / FILE).lines


def test_an_audit_tells_who_signed_and_who_was_gone(tmp_path):
    ledger = SharedLedger(OPENING, tmp_path)
    ledger.adopt(line(ledger))
    left = {name: sign(KEYS[name], said(ledger, members=["north", "west"], view=1)) for name in ("north", "west")}
    ledger.append(left)
    found = audit_shared(tmp_path / FILE)
    assert (found.entries, found.rounds, found.members) == (3, {"rating": 2}, ["north", "west"])
    assert found.signed == {"north": 2, "south": 1, "west": 2}
    assert not found.sealed
    ledger.append({name: sign(KEYS[name], said(ledger, members=["north", "west"], stage=END)) for name in left})
    shown = CliRunner().invoke(app, ["audit", str(tmp_path)])
    assert shown.exit_code == 0
    assert "4 entries" in shown.output
    assert "south signed 1; it was gone at the end" in shown.output


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_an_audit_tells_that_the_end_is_missing(tmp_path, options):
    """Lines that were cut off leave a sound ledger, of less."""
    ledger = SharedLedger(OPENING, tmp_path)
    ledger.adopt(line(ledger))
    shown = CliRunner().invoke(app, ["audit", str(tmp_path), *options])
    assert isinstance(shown.exception, HierfedError)
    assert f"{FILE}: valid up to entry 2, not sealed" in str(shown.exception)


def test_a_former_ledger_is_kept_under_the_name_of_its_training(tmp_path):
    SharedLedger(OPENING, tmp_path)
    written = (tmp_path / FILE).read_bytes()
    SharedLedger(OPENING.model_copy(update={"training": "1" * 16}), tmp_path)
    assert (tmp_path / f"peers-{'0' * 16}.jsonl").read_bytes() == written
    assert former_training(tmp_path) == "1" * 16


@pytest.mark.parametrize(
    "first",
    [
        b"", b"{}", b"[]", b"\xff", b"null", canonical(OPENING)[:-9], canonical(OPENING) + b" ",
        canonical(OPENING).replace(b"0" * 16, b"../" * 5 + b"x", 1), canonical(OPENING).replace(b"0" * 16, b"x", 1),
        canonical(OPENING).replace(b"1.0", b"NaN"), canonical(OPENING).replace(b"1.0", b"-Infinity"),
        canonical(OPENING).replace(b"1.0", b"1e999"), canonical(OPENING).replace(b"north", b"\\ud800"),
    ],
)  # fmt: skip
def test_a_former_ledger_without_its_first_line_is_refused_and_left(tmp_path, first):
    """Its training names the file that it is kept in: a path would be one outside of the folder."""
    (tmp_path / FILE).write_bytes(first + b"\n")
    with pytest.raises(DamagedError, match=r"peers\.jsonl: damaged: line 1: .* move it away"):
        SharedLedger(OPENING, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    with pytest.raises(HierfedError, match="line 1: the entry"):
        read_shared(tmp_path / FILE)


def test_every_changed_byte_is_found(tmp_path):
    ledger = SharedLedger(OPENING, tmp_path)
    ledger.adopt(line(ledger))
    ledger.adopt(line(ledger))
    written = (tmp_path / FILE).read_bytes()
    for place in range(0, len(written), 37):
        changed = bytearray(written)
        changed[place] ^= 1
        (tmp_path / FILE).write_bytes(bytes(changed))
        with pytest.raises(HierfedError, match=r"line [123]"):
            read_shared(tmp_path / FILE)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"previous": "f" * 64}, "follows another history"),
        ({"position": 7}, "another place"),
        ({"training": "1" * 16}, "another training"),
        ({"members": ["south", "west"]}, "does not count itself in"),
        ({"round": 9}, "other rounds"),
    ],
)
def test_a_statement_that_does_not_fit_is_refused(changes, reason):
    ledger = SharedLedger(OPENING)
    with pytest.raises(BrokenLink, match=reason):
        ledger.adopt(line(ledger, **changes))
    assert ledger.position == 1


def test_a_line_that_a_member_has_not_signed_is_refused():
    ledger = SharedLedger(OPENING)
    given = {name: sign(KEYS[name], said(ledger)) for name in NAMES}
    with pytest.raises(BrokenLink, match="other members"):
        ledger.append({name: given[name] for name in ("north", "south")})
    with pytest.raises(BrokenLink, match="is not what that peer signed"):
        ledger.append({**given, "west": sign(KEYS["north"], said(ledger))})


def test_two_signed_heads_name_the_peer_that_signed_both():
    ledger = SharedLedger(OPENING)
    one, two = line(ledger), line(ledger, model="b" * 64)
    assert two_histories([one, two], PEERS) == ["north"]
    assert two_histories([one, one], PEERS) == []


def test_nobody_is_named_by_what_another_signed_or_by_a_round_that_was_repeated():
    """A forger has no key of north's; and a new view is a new place."""
    ledger = SharedLedger(OPENING)
    forged = {name: sign(KEYS[name], said(ledger)) for name in NAMES}
    forged["north"] = sign(KEYS["south"], said(ledger, model="b" * 64))
    again = {name: sign(KEYS[name], said(ledger, view=1, model="b" * 64)) for name in NAMES}
    lines = [line(ledger), canonical(SharedEntry(said=forged)), canonical(SharedEntry(said=again)), b"no entry"]
    assert two_histories(lines, PEERS) == []

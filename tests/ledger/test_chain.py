"""Whatever is changed in a ledger, the chain says where."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from hierfed.errors import HierfedError
from hierfed.ledger.book import read_chain
from hierfed.ledger.chain import BrokenLink, Chain
from hierfed.ledger.entries import End, Line, Opening, RoundEntry, Seal, canonical, read_line, server_text
from hierfed.ledger.scribe import Scribe, countersign, countersign_all

HERE = Path("ledger.jsonl")
TWO = ("hospital", "bücherei")


def joined(lines) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def broken(written: bytes) -> str:
    """The first broken link's line; an unsealed ledger counts as broken."""
    try:
        chain = read_chain(written, HERE)
    except HierfedError as error:
        assert "\n" not in str(error)
        return str(error)
    return "" if chain.ended else f"not sealed after {len(chain.entries)}"


def resigned(writer, line: bytes, key=None, **changes) -> bytes:
    """The line with other contents, signed again."""
    entry = read_line(line).entry.model_copy(update=changes)
    return canonical(Line(entry=entry, signature=(key or writer.key).sign(server_text(entry)).hex()))


def test_an_untouched_ledger_is_sound_and_says_who_signed(small):
    chain = read_chain(small.written, HERE)
    assert chain.ended
    assert [type(entry) for entry in chain.entries] == [Opening, *[RoundEntry] * 5, Seal, End]
    assert [chain.countersigners(position) for position in range(8)] == [
        ["bücherei", "hospital"],
        ["bücherei"],
        [],
        ["bücherei", "hospital", "late comer"],
        ["bücherei", "hospital"],
        ["bücherei", "hospital"],
        ["bücherei", "hospital"],
        [],
    ]
    assert chain.nodes == small.public


def test_hashes_and_signatures_are_those_of_the_bytes_in_the_file(small):
    """What someone without this package would compute: sha256 of the line before, Ed25519 over the entry's JSON."""
    before, line = small.lines[3:5]
    told = json.loads(line)
    assert told["entry"]["previous"] == hashlib.sha256(before).hexdigest()
    entry = json.dumps(told["entry"], sort_keys=True, separators=(",", ":")).encode()
    small.key.public_key().verify(bytes.fromhex(told["signature"]), b"hierfed ledger entry\n" + entry)
    for name, signature in told["entry"]["countersignatures"].items():
        text = b"hierfed ledger countersignature\n" + told["entry"]["previous"].encode()
        small.nodes[name].public_key().verify(bytes.fromhex(signature), text)


def test_every_single_byte_counts(small):
    """Each byte of the file in turn is another one: the first line that does not hold is the one it is in."""
    chain, flipped, start = Chain(), bytearray(small.written), 0
    for number, line in enumerate(small.lines):
        for place in range(start, start + len(line) + 1):
            flipped[place] ^= 1 << (place % 8)
            with pytest.raises(BrokenLink):
                chain.extend(bytes(flipped).split(b"\n")[number])
            flipped[place] ^= 1 << (place % 8)
        chain.extend(line)
        start += len(line) + 1
    assert start == len(flipped)


@pytest.mark.parametrize("number", range(8))
def test_a_missing_entry_is_found(small, number):
    lines = small.lines[:number] + small.lines[number + 1 :]
    found = broken(joined(lines))
    if number < 7:
        assert found.startswith(f"ledger.jsonl, line {number + 1}")
    else:
        assert found == "not sealed after 7"


@pytest.mark.parametrize("number", range(8))
def test_an_entry_that_stands_twice_is_found(small, number):
    lines = [*small.lines[: number + 1], *small.lines[number:]]
    assert broken(joined(lines)).startswith(f"ledger.jsonl, line {number + 2}")


@pytest.mark.parametrize("first", range(8))
def test_two_entries_that_changed_places_are_found(small, first):
    for second in range(first + 1, 8):
        lines = list(small.lines)
        lines[first], lines[second] = lines[second], lines[first]
        assert broken(joined(lines)).startswith(f"ledger.jsonl, line {first + 1}")


def test_an_end_that_was_cut_off_is_found_wherever(small):
    ends = {place for place, byte in enumerate(small.written) if byte == ord("\n")}
    near = {place + step for place in ends for step in (-1, 0, 1)} - {len(small.written)}
    for length in near.union(range(0, len(small.written), 97)):
        found = broken(small.written[:length])
        whole = small.written[:length].count(b"\n")
        at_a_line = length == 0 or small.written[length - 1 : length] == b"\n"
        assert found.startswith(f"not sealed after {whole}" if at_a_line else f"ledger.jsonl, line {whole + 1}")


def test_an_entry_of_another_run_is_found(small, writer):
    writer.open(*TWO)
    writer.round("rating", 0, TWO)
    lines = [*small.lines[:1], writer.lines[1], *small.lines[2:]]
    assert "line 2, after the opening: the entry does not follow the entry before it" in broken(joined(lines))
    lines = [small.lines[0], resigned(writer, small.lines[1], training="beef" * 4)]
    assert "is of another training, beefbeefbeefbeef" in broken(joined(lines))
    lines = [small.lines[0], resigned(writer, small.lines[1], settings="0" * 64)]
    assert "names other settings than the opening" in broken(joined(lines))


def test_an_entry_that_another_key_signed_is_found(small):
    other = Ed25519PrivateKey.generate()
    for number, line in enumerate(small.lines[1:], 1):
        lines = [*small.lines[:number], resigned(small, line, other), *small.lines[number + 1 :]]
        assert f"line {number + 1}" in broken(joined(lines))
        assert "is not what the server signed" in broken(joined(lines))


def test_what_the_server_itself_changes_afterwards_breaks_the_next_link(small):
    lines = list(small.lines)
    lines[4] = resigned(small, lines[4], epsilon=0.1)
    found = broken(joined(lines))
    assert "line 6, after round 2 of 'rating': the entry does not follow the entry before it" in found


def test_countersignatures_must_be_their_nodes_own(small):
    for names in (("bücherei", "hospital"), ("hospital", "late comer")):
        line = read_line(small.lines[5]).entry
        signatures = dict(line.countersignatures)
        signatures[names[1]] = countersign(small.nodes[names[0]], small.lines[4])
        lines = [*small.lines[:5], resigned(small, small.lines[5], countersignatures=signatures)]
        assert f"holds a countersignature of the entry before it that '{names[1]}' did not make" in broken(
            joined(lines)
        )
    signatures = {"nobody": countersign(small.nodes["hospital"], small.lines[4])}
    lines = [*small.lines[:5], resigned(small, small.lines[5], countersignatures=signatures)]
    assert "holds a countersignature of 'nobody', whose key the ledger does not know" in broken(joined(lines))
    early = {"late comer": countersign(small.nodes["late comer"], small.lines[1])}
    lines = [*small.lines[:2], resigned(small, small.lines[2], countersignatures=early)]
    assert "'late comer', whose key the ledger does not know" in broken(joined(lines))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"contributors": ["hospital", "stranger"]}, "names 'stranger' as a contributor"),
        ({"contributors": ["hospital", "hospital"]}, "names a contributor twice"),
        ({"round": 3}, "is round 3 of 'rating', where round 2 is due"),
        ({"round": 1}, "is round 1 of 'rating', where round 2 is due"),
        ({"model": "0" * 64}, "changes the model without a sum"),
        ({"joined": {}}, "names 'late comer' as a contributor"),
        ({"joined": {"late comer": "ssh-ed25519 AAAA"}}, "no public key as that of 'late comer'"),
        ({"position": 7}, "says that it is number 7, and is number 3"),
    ],
)
def test_a_round_that_cannot_be_is_found_although_the_server_signed_it(small, changes, words):
    lines = [*small.lines[:3], resigned(small, small.lines[3], **changes)]
    assert words in broken(joined(lines))


def test_a_key_serves_one_name(small):
    hospital = small.public["hospital"]
    for joined_keys in ({"late comer": hospital}, {"hospital": small.public["late comer"]}):
        changes = {"joined": joined_keys, "contributors": []}
        lines = [*small.lines[:3], resigned(small, small.lines[3], **changes)]
        assert "where name or key are in the ledger already" in broken(joined(lines))
    twice = resigned(small, small.lines[0], nodes={"hospital": hospital, "spital": hospital})
    assert "line 1: the entry names a key of 'spital' where" in broken(twice + b"\n")
    own = resigned(small, small.lines[0], nodes={"hospital": read_line(small.lines[0]).entry.server})
    assert "line 1: the entry names a key of the server" in broken(own + b"\n")


def test_a_stage_that_is_over_does_not_come_back(small, writer):
    writer.open(*TWO)
    writer.round("rating", 1, TWO)
    writer.round("ease", 0, TWO)
    with pytest.raises(BrokenLink, match="goes back to stage 'rating'"):
        writer.round("rating", 2, TWO)


def test_the_seal_holds_the_last_models_and_nothing_follows_the_end(small):
    sealed = read_line(small.lines[6]).entry
    for models in ({}, {**sealed.models, "rating": "0" * 64}):
        lines = [*small.lines[:6], resigned(small, small.lines[6], models=models)]
        assert "seals another model of stage 'rating'" in broken(joined(lines))
    chain = read_chain(small.written, HERE)
    with pytest.raises(BrokenLink, match="behind the end"):
        chain.extend(Scribe(small.key, chain).end({}))
    with pytest.raises(BrokenLink, match="behind the end"):
        chain.extend(Scribe(small.key, chain).seal(sealed.models, {}, {}))
    with pytest.raises(BrokenLink, match="second opening"):
        chain.extend(small.lines[0])
    chain = read_chain(joined(small.lines[:4]), HERE)
    with pytest.raises(BrokenLink, match="ends what was not sealed"):
        chain.extend(Scribe(small.key, chain).end({}))
    sealed_only = read_chain(joined(small.lines[:7]), HERE)
    with pytest.raises(BrokenLink, match="behind the end"):
        sealed_only.extend(Scribe(small.key, sealed_only).seal(sealed.models, {}, {}))


def test_to_countersign_for_all_is_to_countersign_for_each(small):
    each = {name: countersign(key, small.lines[2]) for name, key in small.nodes.items()}
    assert countersign_all(small.nodes, small.lines[2]) == each


def test_a_refused_line_leaves_the_chain_as_it_was(small):
    chain = read_chain(joined(small.lines[:4]), HERE)
    before = (chain.head, dict(chain.nodes), dict(chain.models), len(chain.entries))
    for line in (small.lines[5], resigned(small, small.lines[4], contributors=["stranger"]), b"", b"{}"):
        with pytest.raises(BrokenLink):
            chain.extend(line)
    assert (chain.head, chain.nodes, chain.models, len(chain.entries)) == before
    chain.extend(small.lines[4])


def test_the_same_json_in_other_bytes_is_no_entry(small):
    line = small.lines[4]
    told = json.loads(line)
    spaced = json.dumps(told, sort_keys=True).encode()
    unsorted = json.dumps(dict(reversed(told.items())), separators=(",", ":")).encode()
    unescaped = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    doubled = line.replace(b'"kind":"round"', b'"kind":"round","kind":"round"')
    shouted = line.replace(told["signature"].encode(), told["signature"].upper().encode())
    for other in (spaced, unsorted, unescaped, doubled, shouted, line + b" ", line + b"\r", b"\xef\xbb\xbf" + line):
        assert other != line
        with pytest.raises(ValueError, match=r"^is no(t written as| entry of)"):
            read_line(other)


EDITS = st.tuples(
    st.sampled_from(["replace", "insert", "delete", "copy", "move"]),
    st.floats(0, 1),
    st.floats(0, 1),
    st.binary(max_size=6),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(EDITS, min_size=1, max_size=3))
def test_no_edit_at_random_passes(small, edits):
    written = small.written
    for kind, first, second, new in edits:
        start, end = sorted(int(share * len(written)) for share in (first, second))
        part = written[start:end]
        written = {
            "replace": written[:start] + new + written[start + len(new) :],
            "insert": written[:start] + new + written[start:],
            "delete": written[:start] + written[end:],
            "copy": written[:end] + part + written[end:],
            "move": written[:start] + written[end:] + part,
        }[kind]
    assert (broken(written) == "") == (written == small.written)

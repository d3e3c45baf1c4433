"""A ledger's file is only appended to, and survives a crash in the midst of a line."""

from __future__ import annotations

import os

import pytest

from hierfed.errors import HierfedError
from hierfed.ledger.book import Book
from hierfed.ledger.chain import BrokenLink
from hierfed.ledger.entries import FILE


def test_lines_are_on_the_disk_as_they_are_appended(small, tmp_path, monkeypatch):
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    book = Book(tmp_path / FILE)
    for number, line in enumerate(small.lines, 1):
        book.append(line)
        assert synced[-1] == (tmp_path / FILE).stat().st_size
        assert (tmp_path / FILE).read_bytes() == b"".join(each + b"\n" for each in small.lines[:number])
    assert len(synced) == len(small.lines)
    again = Book(tmp_path / FILE)
    assert again.lines() == small.lines
    assert again.lines(5) == small.lines[5:]
    assert again.chain.head == small.chain.head


def test_half_a_line_is_cut_off_and_can_be_written_again(small, tmp_path):
    path, whole = tmp_path / FILE, b"".join(line + b"\n" for line in small.lines[:4])
    for length in (1, 40, len(small.lines[4])):
        path.write_bytes(whole + small.lines[4][:length])
        book = Book(path)
        assert path.read_bytes() == whole
        book.append(small.lines[4])
        assert path.read_bytes() == whole + small.lines[4] + b"\n"


def test_what_does_not_fit_is_not_written(small, tmp_path):
    book = Book(tmp_path / FILE)
    book.append(small.lines[0])
    with pytest.raises(BrokenLink):
        book.append(small.lines[2])
    assert (tmp_path / FILE).read_bytes() == small.lines[0] + b"\n"


def test_a_changed_file_is_refused_and_left_as_it_is(small, tmp_path):
    path = tmp_path / FILE
    changed = small.written.replace(b'"late"', b'"dead"')
    assert changed != small.written
    path.write_bytes(changed)
    with pytest.raises(HierfedError, match=r"ledger\.jsonl, line 3, after round 0 of 'rating': the entry is not what"):
        Book(path)
    assert path.read_bytes() == changed


@pytest.mark.parametrize("end", [b"", b'{"half a li'])
def test_a_ledger_of_another_version_is_refused_in_one_line_and_left_as_it_is(small, tmp_path, end):
    path = tmp_path / FILE
    other = small.written.replace(b"hierfed ledger 1", b"hierfed ledger 9") + end
    assert b"ledger 9" in other
    path.write_bytes(other)
    with pytest.raises(HierfedError, match=r"ledger\.jsonl, line 1") as error:
        Book(path)
    assert "\n" not in str(error.value)
    assert path.read_bytes() == other

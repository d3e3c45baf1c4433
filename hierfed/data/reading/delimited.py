"""Delimited text files (CSV, TSV, `::`) in memory, read fast. An error names the exact place."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from hierfed.data.grouping import blocks, on_threads
from hierfed.data.ratings import SourceFile
from hierfed.data.reading.checks import POLARS
from hierfed.data.reading.files import read_bytes
from hierfed.data.reading.packed import unpacked
from hierfed.errors import DataError

SEPARATORS = (",", "\t", ";", "|")
# The ASCII unit separator replaces GroupLens' `::`, since polars splits on single bytes only.
_UNIT_SEPARATOR = "\x1f"


@dataclass(frozen=True)
class Delimited:
    """One delimited file, decoded and in memory.

    path: as the user would name it.
    data: UTF-8 without byte order mark, lines ended by newlines.
    names: one per column.
    header: True if the first line of `data` holds the names.
    quoted: True if `"` quotes a field.
    skip: True if rows with a wrong number of fields are left out; else they are an error.
    """

    path: Path
    data: bytes
    separator: str
    names: tuple[str, ...]
    header: bool
    quoted: bool
    size: int
    sha256: str
    skip: bool = False

    def source_file(self, rows: int) -> SourceFile:
        """The provenance entry of this file.

        rows: number of its data rows.
        """
        return SourceFile(self.path.name, self.size, self.sha256, rows)

    def typed(self, types: Mapping[str, type[pl.DataType]]) -> pl.DataFrame | None:
        """The columns named in `types`, parsed as such; None if any row does not fit (then ask `strings`).

        A file with a field such as `007`, `+7` or ` 7` does not fit either, since a number would lose its spelling.
        """
        if b'"' in self.data or _has_padded(self.data, self.separator):
            return None
        try:
            frame = self._read(types).select(list(types))
        except POLARS:
            return None
        # polars fills short rows with nulls. Long rows raise, so the count of separators reveals short ones.
        if self.data.count(self.separator.encode()) != self._separators(frame.height):
            return None
        return frame if not any(column.null_count() for column in frame) else None

    def strings(self, *, known_short: Callable[[Sequence[str]], bool] | None = None) -> pl.DataFrame:
        """Every column as text, null if a field is empty.

        known_short: True for a row with too few fields that is a known defect of the published file; nulls fill the
        row.
        Raises DataError for a wrong encoding, an unclosed quote or a wrong number of fields.
        """
        try:
            frame = self._read({})
        except POLARS:
            return self._strings_one_by_one(known_short)
        inner = 0
        if b'"' in self.data and self.quoted:
            counts = frame.select(pl.all().str.count_matches(self.separator, literal=True).sum())
            inner = sum(value or 0 for value in counts.row(0))
        if self.data.count(self.separator.encode()) - inner != self._separators(frame.height):
            return self._strings_one_by_one(known_short)
        return frame

    def line(self, row: int) -> int:
        """The 1-based line of the file at which data row `row` (0-based) begins."""
        width = len(self.names)
        lines = (line for line, fields in self.rows() if not self.skip or len(fields) == width)
        for number, line in enumerate(lines):
            if number == row:
                return line
        raise IndexError(row)

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Each data row as (line number, fields), read slowly and exactly.

        Raises DataError for a wrong encoding or an unclosed quote.
        """
        text = io.StringIO(decode(self.data, self.path), newline="")
        if self.quoted:
            reader = csv.reader(text, delimiter=self.separator, strict=True)
        else:
            reader = csv.reader(text, delimiter=self.separator, quoting=csv.QUOTE_NONE, strict=True)
        line, first = 1, True
        while True:
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise DataError(f"{self.path}, line {line}: a quoted field that does not end properly") from error
            if not (first and self.header):
                yield line, fields
            line, first = reader.line_num + 1, False

    def _read(self, types: Mapping[str, type[pl.DataType]]) -> pl.DataFrame:
        text: dict[str, type[pl.DataType]] = dict.fromkeys(self.names, pl.String)
        return pl.read_csv(
            self.data,
            has_header=self.header,
            separator=self.separator,
            quote_char='"' if self.quoted else None,
            schema={**text, **types},
        )

    def _separators(self, rows: int) -> int:
        return (rows + self.header) * (len(self.names) - 1)

    def _strings_one_by_one(self, known_short: Callable[[Sequence[str]], bool] | None) -> pl.DataFrame:
        width = len(self.names)
        columns: list[list[str | None]] = [[] for _ in self.names]
        for line, fields in self.rows():
            if len(fields) != width and self.skip:
                continue
            if len(fields) != width and not (len(fields) < width and known_short and known_short(fields)):
                found = "is empty" if not fields else f"has {len(fields)} field{'s' * (len(fields) != 1)}"
                raise DataError(f"{self.path}, line {line}: {found}, expected {width} ({', '.join(self.names)})")
            padded: list[str | None] = [field or None for field in fields]
            for column, field in zip(columns, padded + [None] * (width - len(fields)), strict=True):
                column.append(field)
        return pl.DataFrame(dict(zip(self.names, columns, strict=True)), schema=dict.fromkeys(self.names, pl.String))


def open_delimited(
    path: Path,
    *,
    separator: str | None = None,
    names: Sequence[str] | None = None,
    encoding: str | None = "utf-8",
    quoted: bool = True,
) -> Delimited:
    """Read a delimited file into memory.

    separator: None takes the most frequent one of the first line.
    names: the columns of a file without header.
    encoding: `utf-8`, `latin-1`, or None for UTF-8 if the file is valid UTF-8 and latin-1 otherwise.
    Raises DataError if the file is missing, empty, holds no data rows, or is in another encoding.
    """
    return delimited(read_text(path, encoding), separator=separator, names=names, quoted=quoted)


@dataclass(frozen=True)
class Text:
    """A text file in memory: UTF-8 without byte order mark. size, sha256: of the file as it lies on disk."""

    path: Path
    data: bytes
    size: int
    sha256: str

    @property
    def first(self) -> str:
        """The first line. Raises DataError if it is empty, or no UTF-8."""
        first = decode(self.data[: self.data.find(b"\n") + 1] or self.data, self.path).rstrip("\r\n")
        if not first.strip():
            empty = not self.data.strip()
            raise DataError(f"{self.path}: the file is empty" if empty else f"{self.path}, line 1: is empty")
        return first


def read_text(path: Path, encoding: str | None = "utf-8") -> Text:
    """Read a text file, packed or not; see `open_delimited`.

    encoding: any that Python knows; None for UTF-8 if the file is valid UTF-8 and latin-1 otherwise.
    """
    raw = read_bytes(path)
    data = _to_utf8(unpacked(raw, path), path, encoding)
    # Some editors save old Mac line ends, or blank lines at the end; neither changes a row.
    if b"\r" in data and b"\n" not in data:
        data = data.replace(b"\r", b"\n")
    if data.endswith((b"\n\n", b"\n\r\n")):
        data = data.rstrip(b"\r\n") + b"\n"
    return Text(path, data, len(raw), hashlib.sha256(raw).hexdigest())


def delimited(
    text: Text, *, separator: str | None, names: Sequence[str] | None, quoted: bool = True, skip: bool = False
) -> Delimited:
    """A text as a table; see `open_delimited`.

    skip: see Delimited.
    """
    path, data, first = text.path, text.data, text.first
    if separator == "::":
        # Checked before bytes are removed, so that a message names the byte of the file.
        decode(data, path)
        data, separator = data.replace(b"::", _UNIT_SEPARATOR.encode()), _UNIT_SEPARATOR
        first = first.replace("::", _UNIT_SEPARATOR)
    if separator is None:
        separator = max(SEPARATORS, key=first.count)
    header = names is None
    columns = tuple(names) if names is not None else _header(first, separator, path)
    if header and b"\n" not in data.rstrip():
        raise DataError(f"{path}: the file holds a header and no data rows")
    return Delimited(path, data, separator, columns, header, quoted, text.size, text.sha256, skip)


def decode(data: bytes, path: Path) -> str:
    """`data` as UTF-8 text. Raises DataError with line and byte if it is not UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        raise DataError(
            f"{path}, line {line}: byte {column} of the line is 0x{data[error.start]:02x}, expected UTF-8 text; "
            "for another encoding: --encoding latin-1"
        ) from error


def _has_padded(data: bytes, separator: str) -> bool:
    """True if a field begins with white space, a plus, a zero before a digit, or a minus and a zero before no point."""

    def padded(block: slice) -> bool:
        before, after = b"\n" * (block.start == 0), b"\n\n" * (block.stop + 2 > len(data))
        codes = np.frombuffer(before + data[max(block.start - 1, 0) : block.stop + 2] + after, np.uint8)
        begins = (codes[:-3] == ord(separator)) | (codes[:-3] == ord("\n"))
        # White space, plus and minus come before the zero in ASCII, the other digits after it.
        places = np.flatnonzero(begins & (codes[1:-2] <= ord("0")))
        first, second, third = (codes[places + ahead] for ahead in (1, 2, 3))
        odd = (first == ord(" ")) | (first == ord("\t")) | (first == ord("+"))
        odd |= (first == ord("0")) & (second >= ord("0")) & (second <= ord("9"))
        odd |= (first == ord("-")) & (second == ord("0")) & (third != ord("."))
        return bool(odd.any())

    return any(on_threads(padded, blocks(len(data))))


def _to_utf8(raw: bytes, path: Path, encoding: str | None) -> bytes:
    data = raw.removeprefix(b"\xef\xbb\xbf")
    if encoding not in (None, "utf-8"):
        try:
            return data.decode(encoding).removeprefix("\ufeff").encode()
        except UnicodeError as error:
            raise DataError(f"{path}: cannot be read as {encoding}: {error}") from error
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in data[:1000]:
        raise DataError(
            f"{path}, line 1: the file looks like UTF-16 or binary data, expected UTF-8 text; "
            "UTF-16 needs --encoding utf-16"
        )
    if encoding is None:
        try:
            data.decode("utf-8")
        except UnicodeDecodeError:
            return data.decode("latin-1").encode()
    return data


def _header(first: str, separator: str, path: Path) -> tuple[str, ...]:
    try:
        names = tuple(name.strip() for name in next(csv.reader([first], delimiter=separator, strict=True)))
    except csv.Error as error:
        raise DataError(f"{path}, line 1: the header holds a stray quote or line end") from error
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise DataError(f"{path}, line 1: column {repeated!r} stands twice in the header")
    return names

"""The content and origin of a data set, as lines to show."""

from __future__ import annotations

import datetime

from hierfed.data.rating_codes import code_warning
from hierfed.data.ratings import Dataset


def describe(dataset: Dataset) -> list[tuple[str, str]]:
    """Pairs of a label and a text: counts, range, files with sha256, licence, join, rows dropped by reason, notes.

    A label may repeat (one pair per file, reason and note).
    """
    ratings, provenance, join = dataset.ratings, dataset.provenance, dataset.provenance.join
    lines = [
        ("source", provenance.name),
        ("ratings", f"{len(ratings):,} by {dataset.users:,} users of {dataset.items:,} items"),
        ("range", f"{ratings.value.min():g} to {ratings.value.max():g}, mean {ratings.value.mean(dtype=float):.4f}"),
    ]
    if ratings.time is not None:
        lines.append(("time", f"{_day(int(ratings.time.min()))} to {_day(int(ratings.time.max()))}"))
    if dataset.test_rows is not None:
        lines.append(("test", f"{int(dataset.test_rows.sum()):,} of the ratings are the source's own test ratings"))
    used = len(ratings)
    lines += [
        ("rows", f"{provenance.rows_in:,} in = {used:,} used + {sum(provenance.dropped.values()):,} dropped"),
        *(("dropped", f"{count:,}: {reason}") for reason, count in provenance.dropped.items()),
        ("join", _join_text(dataset)),
    ]
    told = (join.warning, code_warning(ratings.value), *provenance.warnings)
    lines += [("warning", warning) for warning in told if warning]
    lines += [
        ("file", f"{file.name}: {file.rows:,} rows, {file.bytes:,} bytes, sha256 {file.sha256}")
        for file in provenance.files
    ]
    lines += [("licence", provenance.licence), ("cite", provenance.citation)]
    lines += [("note", note) for note in provenance.notes]
    return lines


def _join_text(dataset: Dataset) -> str:
    join, rows = dataset.provenance.join, dataset.provenance.rows_in
    if join.name == "none":
        return "none"
    text = f"{join.name}: metadata for {join.kept:,} ratings ({100 * join.kept / rows:.1f}%) of {join.items:,} items"
    if join.kept_before_deduplication != join.kept:
        text += f"; {join.kept_before_deduplication:,} rows before repeated metadata ids were taken out"
    kept = len(dataset.ratings) - join.kept
    if kept > 0:
        text += f"; the other {kept:,} ratings are kept, their items' features imputed and flagged"
    return text


def _day(seconds: int) -> str:
    moment = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(seconds=seconds)
    return moment.date().isoformat()

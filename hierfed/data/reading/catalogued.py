"""A folder with `ratings.parquet` and `items.parquet`: a table of ratings, and public data on its items."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from hierfed.data.catalogue import NUMERIC_FEATURES
from hierfed.data.ids import places
from hierfed.data.ratings import SourceFile
from hierfed.data.reading.assembly import Source
from hierfed.data.reading.catalogue_file import read_catalogue
from hierfed.data.reading.files import read_bytes
from hierfed.data.reading.licences import generated_terms
from hierfed.data.reading.rating_part import join_parts
from hierfed.data.reading.tables import read_tables
from hierfed.data.settings import TableSettings
from hierfed.generated.files import ITEMS, RATINGS, TRUTH, world_numbers

_DESCRIBED = ("item_id", "title", "year", "genres")
_UNUSED = ("metadata_genres", *NUMERIC_FEATURES)


def read_catalogued(folder: Path, how: TableSettings, test: str | None) -> Source:
    """The ratings of the table, with titles, years and genres of the catalogue; see `read_tables`.

    `items.parquet` is as `read_catalogue` takes it; without it, items have no public data. For a generated world, whose
    truth is in the folder, the provenance says so.
    """
    source = read_tables(str(folder / RATINGS), how, test, "")
    items, truth = folder / ITEMS, folder / TRUTH
    if truth.is_file():
        source = replace(source, terms=generated_terms(world_numbers(truth)))
    if not items.is_file():
        return source
    raw = read_bytes(items)
    catalogue = read_catalogue(items).frame
    rated = join_parts([source.train] if source.test is None else [source.train, source.test]).item.ids
    notes = list(source.notes)
    unknown = places(rated, catalogue["item_id"]).null_count()
    if unknown:
        notes.append(f"{unknown} rated items are not in {ITEMS}: no title, year or genres")
    unused = [name for name in _UNUSED if name in catalogue.columns and catalogue[name].count()]
    if unused:
        notes.append(f"{ITEMS}: {', '.join(unused)} are not used")
    file = SourceFile(ITEMS, len(raw), hashlib.sha256(raw).hexdigest(), catalogue.height)
    return replace(source, files=(*source.files, file), films=catalogue.select(_DESCRIBED), notes=tuple(notes))

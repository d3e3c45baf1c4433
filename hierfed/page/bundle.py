"""Static files of a page: the shared model as compact data, and scripts that make the visitor's own model of it.

Nothing of a user is read: neither `private/` nor a result. The files need no connection once they are loaded.
"""

from __future__ import annotations

import base64
import gzip
import json
import shutil
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hierfed import __version__
from hierfed.data.catalogue import Catalogue
from hierfed.errors import HierfedError, StorageError
from hierfed.methods import Case, prepare
from hierfed.models.browser import BrowserModel
from hierfed.models.intervals import INTERVAL_LEVEL, quantile
from hierfed.plain_text import printable
from hierfed.runs.models import MODEL, KeptModel, load_model, load_ranking
from hierfed.runs.private_files import PRIVATE
from hierfed.runs.served_pair import pair_folder
from hierfed.serving.served import LONGEST_TITLE

STATIC = ("index.html", "style.css", "model.js", "main.js")
DATA, ARRAYS = "data.js", "arrays.json"
# Nothing may be loaded from elsewhere, sent anywhere, or framed.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'none'; form-action 'none'; "
    "base-uri 'none'"
)
# A header can forbid more than a tag in the page can.
HEADERS = {
    "Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
LEAK = (
    "The shared model is made of sums over many people, and still tells something of them: with docs/privacy.md's "
    "attacks on small trainings of this method, whether a rating was in them is told from chance with AUC .533 and "
    "whether a person was with .744 (.5 is a guess); one invented person with extreme ratings is found every time."
)


def page_files(folder: Path) -> dict[str, bytes]:
    """The files of a page by name, of a run's folder or a node's state.

    Raises HierfedError for a folder of private files, and for a method whose formulas the page does not have.
    """
    if PRIVATE in folder.resolve().parts:
        raise HierfedError(f"{folder}: holds what is private to its users; name the run's folder")
    place = pair_folder(folder)
    if not (place / MODEL).is_file():
        raise HierfedError(f"{folder}: no run to make a page of; runs are under runs/")
    kept = load_model(place)
    earlier = load_ranking(place) or {}
    method = prepare(Case(kept.settings, kept.catalogue, kept.limits, earlier)).method
    found = method.browser_model(kept.shared)
    if found is None:
        raise HierfedError(
            f"{folder}: the page has no formulas for method '{kept.settings.method}' with these settings, and takes "
            "preset hierarchical with kriging; `hierfed serve` takes every preset"
        )
    data = page_data(kept, found)
    static = files("hierfed.page") / "static"
    page = {name: (static / name).read_bytes() for name in STATIC}
    page[DATA] = f"var HIERFED_DATA = {json.dumps(data, separators=(',', ':'))};\n".encode()
    page[ARRAYS] = json.dumps(data["published"], indent=1).encode()
    return page


def write_page(folder: Path, out: Path) -> list[str]:
    """Write a page into a new folder; gives what it publishes, a line each.

    Raises HierfedError where the folder exists, StorageError where it cannot be written.
    """
    if PRIVATE in out.resolve().parts:
        raise HierfedError(f"--out {out}: lies among private files, and a page is for everyone: choose another place")
    if out.exists():
        raise HierfedError(f"--out {out}: exists: name a new folder")
    page = page_files(folder)
    # Whole or not there, as every other file.
    unfinished = out.with_name(f".{out.name}.unfinished")
    try:
        unfinished.mkdir(parents=True, exist_ok=True)
        for name, content in page.items():
            (unfinished / name).write_bytes(content)
        unfinished.rename(out)
    except OSError as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise StorageError(out, error) from error
    told = json.loads(page[ARRAYS])
    packed = len(gzip.compress(page[DATA]))
    return [
        f"publishes the shared model, {len(told['arrays'])} arrays, {packed / 1e6:.2f} MB compressed: {ARRAYS}",
        f"data: {told['data']}; licence: {told['licence']}",
        LEAK,
    ]


def page_data(kept: KeptModel, model: BrowserModel) -> dict[str, Any]:
    """All that `data.js` holds."""
    letters = None
    if model.letters is not None:
        letters = {
            "starts": _text(model.letters.starts),
            "columns": _text(model.letters.columns),
            "codes": _text(model.letters.codes),
            "step": model.letters.step,
            "width": model.letters.width,
        }
    return {
        "name": printable(kept.header.get("data", "")) or "these items",
        "digest": kept.header.get("digest", ""),
        "policy": POLICY,
        "quantile": quantile(),
        "level": INTERVAL_LEVEL,
        "threshold": kept.settings.factors.min_raters,
        **_catalogue(kept.catalogue),
        "constants": dict(model.constants),
        "small": {name: _text(array.astype("<f8")) for name, array in model.small.items()},
        "of_items": {
            name: {"codes": _text(each.codes.T), "lowest": each.lowest.tolist(), "step": each.step.tolist()}
            for name, each in model.of_items.items()
        },
        "letters": letters,
        "published": _published(kept.header, model),
    }


def _published(header: Mapping[str, str], model: BrowserModel) -> dict[str, Any]:
    """What the page tells of itself: each array, the data, their licence, and the measured leak."""
    arrays = [
        {
            "name": name,
            "shape": list(each.codes.shape),
            "type": "uint16, rounded by column",
            "holds": _words(model, name),
        }
        for name, each in model.of_items.items()
    ]
    arrays += [
        {"name": name, "shape": list(array.shape), "type": "float64", "holds": _words(model, name)}
        for name, array in model.small.items()
    ]
    if model.letters is not None:
        shape = [len(model.letters.starts) - 1, model.letters.width]
        arrays.append({"name": "letters", "shape": shape, "type": "uint16, sparse", "holds": _words(model, "letters")})
    return {
        "made_by": f"hierfed {__version__}",
        "data": printable(header.get("data", "")) or "not recorded",
        "licence": printable(header.get("licence", "")) or "not recorded: ask the owner of the data before you publish",
        "arrays": arrays,
        "constants": list(model.constants),
        "leak": LEAK,
    }


def _words(model: BrowserModel, name: str) -> str:
    return model.words.get(name) or model.words[name.split("_", maxsplit=1)[0]]


def _catalogue(catalogue: Catalogue) -> dict[str, Any]:
    frame = catalogue.frame
    ids = frame["item_id"].cast(pl.String).to_list()
    titles = [
        printable(title or f"item {item}", LONGEST_TITLE) for title, item in zip(frame["title"], ids, strict=True)
    ]
    genres = [[printable(each) for each in some or []] for some in frame["genres"].to_list()]
    names = sorted({name for some in genres for name in some})
    place = {name: number for number, name in enumerate(names)}
    return {
        "ids": ids,
        "titles": titles,
        "years": frame["year"].to_list(),
        "genre_names": names,
        "genres": [[place[name] for name in some] for some in genres],
    }


def _text(array: np.ndarray) -> str:
    """An array's bytes, little-endian, row by row, as base64."""
    return base64.b64encode(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()).decode("ascii")

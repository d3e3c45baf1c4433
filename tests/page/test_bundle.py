"""The files of a page: what they hold, and what is refused."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import hierfed
from hierfed.errors import HierfedError, StorageError
from hierfed.models.browser import rounded
from hierfed.page.bundle import HEADERS, POLICY, page_files, write_page


def test_a_page_holds_the_shared_model_and_nothing_of_a_user(model, site):
    place = site / "some" / "place"
    assert {path.name for path in place.iterdir()} == {
        "index.html",
        "style.css",
        "model.js",
        "main.js",
        "data.js",
        "arrays.json",
    }
    text = b"".join(path.read_bytes() for path in place.iterdir())
    assert not re.search(rb"https?://(?!www\.w3\.org)", text)
    served = model.served.user("4").model
    secret = served.posterior.mean[0].numpy().tobytes()
    assert secret[:8] not in text


def test_the_pages_policy_is_the_headers_too(site):
    index = (site / "some" / "place" / "index.html").read_text(encoding="utf-8")
    assert f'content="{POLICY}"' in index
    assert HEADERS["Content-Security-Policy"].startswith(POLICY)
    assert not re.search(r"<script(?![^>]* src=)|<style| on\w+=| style=", index)


def test_private_files_and_methods_without_formulas_are_refused(model, tmp_path, films):
    folder = model.served.folder
    with pytest.raises(HierfedError, match="private to its users"):
        page_files(folder / "private")
    with pytest.raises(HierfedError, match="among private files"):
        write_page(folder, folder / "private" / "page")
    with pytest.raises(HierfedError, match="exists"):
        write_page(folder, tmp_path)
    with pytest.raises(HierfedError, match="no run to make a page of"):
        page_files(tmp_path)


@pytest.mark.parametrize("preset", ["local", "item_biases", "network", "hierarchical"])
def test_a_preset_without_formulas_is_refused_with_the_reason(films, preset):
    more = {"krige": False, "rounds": 1, "select": False, "rank_items": False} if preset == "hierarchical" else {}
    small = {"rounds": 1, "nodes": 2, "personal_nodes": 2} if preset in ("network", "item_biases") else {}
    method = {"network": "averaging"}.get(preset, preset)
    fitted = hierfed.fit(films, preset, protocol="warm", scale=(0.5, 5.0), **more, **small)
    with pytest.raises(HierfedError, match=f"no formulas for method '{method}'.*every preset"):
        page_files(fitted.served.folder)


def test_rounding_is_by_at_most_half_a_step():
    rng = np.random.default_rng(0)
    values = np.column_stack([rng.normal(0, 3, 1000), np.full(1000, 2.5), rng.integers(0, 2, 1000)])
    found = rounded(torch.from_numpy(values))
    assert (np.abs(found.values - values) <= np.ptp(values, 0) / 131070 * (1 + 1e-9)).all()
    assert (found.values[:, 1] == 2.5).all()


def test_a_page_that_cannot_be_written_leaves_nothing(model, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"file/page: cannot be written: Not a directory"):
        write_page(model.served.folder, tmp_path / "file" / "page")
    write, written = Path.write_bytes, []

    def full(path, content):
        written.append(path)
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match="No space left"):
        write_page(model.served.folder, tmp_path / "page")
    assert len(written) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["file"]

"""The tutorials run from their first cell to their last, as a reader runs them."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

TUTORIALS = sorted((Path(__file__).parents[1] / "docs" / "tutorials").glob("*.ipynb"))

# What a tutorial says of its own output.
TOLD = {
    "three-companies": [
        r"companies ([0-9a-f]{64})\nalone \1\n",
        "5 entries, each link of which holds. Rounds: 2 of 'rating'",
    ]
}


@pytest.mark.slow
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_runs(path, tmp_path, monkeypatch):
    # Readers have the environment of hierfed activated.
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells), "outputs go old: they are made when the docs are"
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = "".join("".join(output.get("text", "")) for cell in notebook.cells for output in cell.get("outputs", ()))
    assert "error:" not in printed.replace("unknown error:", "")
    for line in TOLD.get(path.stem, ()):
        assert re.search(line, printed), line

"""The tutorials run from their first cell to their last, in IPython, as a reader runs them."""

from __future__ import annotations

import contextlib
import re
import sys
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("IPython")

TUTORIALS = sorted((Path(__file__).parents[1] / "docs" / "tutorials").glob("*.ipynb"))

# What a tutorial says of its own output.
TOLD = {
    "three-companies": [
        r"companies ([0-9a-f]{64})\nalone \1\n",
        "5 entries, each link of which holds. Rounds: 2 of 'rating'",
    ]
}


# Runs the cells of a notebook; those who read have the environment of hierfed activated.
CELLS = """
import json, os, sys
from pathlib import Path
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

_, notebook, home, programs = sys.argv
os.environ |= {"IPYTHONDIR": home, "PATH": os.pathsep.join([programs, os.environ["PATH"]])}
shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
for cell in json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]:
    if cell["cell_type"] == "code":
        shell.run_cell("".join(cell["source"])).raise_error()
"""


@pytest.mark.slow
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_runs(path, parent, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells), "outputs go old: they are made when the docs are"
    folder, out = tmp_path / "work", tmp_path / "out"
    folder.mkdir()
    words = [path, tmp_path / "ipython", Path(sys.executable).parent]
    with contextlib.closing(parent.start(folder, words, CELLS, out)) as process:
        _, errors = process.communicate()
    printed = out.read_text(encoding="utf-8")
    assert process.returncode == 0, printed + errors
    assert "error:" not in printed.replace("unknown error:", "")
    for line in TOLD.get(path.stem, ()):
        assert re.search(line, printed), line

"""The docs name files that are there: relative links, and paths of the package, its tests and its benchmarks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
EVERY_DOC = pytest.mark.parametrize("path", DOCS, ids=lambda path: path.relative_to(ROOT).as_posix())

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_NAMED = re.compile(r"(?<![\w./-])(?:hierfed|benchmarks|tests|docs|examples|deploy)/(?:[\w./-]*[\w/])")
_FILE = re.compile(r"(?<![\w./-])[\w.-]+(?:/[\w.-]+)*/[\w-]+\.py\b")


def broken_links(text: str, folder: Path) -> list[str]:
    """The targets of relative links that no file or folder has; folder: where the text lies."""
    targets = [target.partition("#")[0] for target in _LINK.findall(text) if "://" not in target]
    return [target for target in targets if target and not (folder / target).exists()]


def missing_paths(text: str) -> list[str]:
    """The paths of this repository that the text names, whole or as the package sees them, and that are not there."""
    plain = re.sub(r"\]\([^)]*\)", "]", text.replace("\\", ""))
    whole = [path for path in _NAMED.findall(plain) if not (ROOT / path).exists()]
    files = [path for path in _FILE.findall(plain) if not _is_there(path)]
    return sorted({*whole, *files})


def _is_there(path: str) -> bool:
    return (ROOT / path).exists() or (ROOT / "hierfed" / path).exists()


@EVERY_DOC
def test_relative_links_lead_to_files(path):
    assert broken_links(path.read_text(encoding="utf-8"), path.parent) == []


@EVERY_DOC
def test_files_that_are_named_are_there(path):
    assert missing_paths(path.read_text(encoding="utf-8")) == []


def test_the_docs_are_found():
    assert {"README.md", "CHANGELOG.md", "architecture.md", "decisions.md", "privacy.md"} <= {doc.name for doc in DOCS}


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("[a](README.md)", []),
        ("[a](docs/privacy.md#secure-sums)", []),
        ("[a](#here), [b](https://example.org/gone.md)", []),
        ("![a](docs/images/gone.png)", ["docs/images/gone.png"]),
        ("[a](docs/gone.md#part)", ["docs/gone.md"]),
    ],
)
def test_a_broken_link_would_be_found(text, broken):
    assert broken_links(text, ROOT) == broken


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("`hierfed/experiment.py`, then `models/devices.py` and hierfed/methods/averaging.", []),
        ("[hierfed/methods/\\_\\_init\\_\\_.py](x)", []),
        ("run `python benchmarks/rounds.py --nodes 8`.", []),
        ("`pip install 'hierfed[flower]'`; runs/hierfed/model.safetensors", []),
        ("`hierfed/gone.py`", ["hierfed/gone.py"]),
        ("see `models/loop.py`", ["models/loop.py"]),
        ("tests/gone/test_it.py, benchmarks/gone.py", ["benchmarks/gone.py", "tests/gone/test_it.py"]),
        ("the room hierfed/companion/", ["hierfed/companion/"]),
    ],
)
def test_a_missing_file_would_be_found(text, missing):
    assert missing_paths(text) == missing

"""The examples and the README's Python run as they stand, each in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
README = ROOT / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL) if README.is_file() else []


def printed(words: list[str], cwd: Path) -> str:
    """What a Python process prints; it must end well and say nothing on standard error."""
    done = subprocess.run([sys.executable, *words], cwd=cwd, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_there_are_examples() -> None:
    assert {path.name for path in EXAMPLES} >= {"first_run.py", "own_module.py"}


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs_anywhere_and_prints_figures(path: Path, tmp_path: Path) -> None:
    out = printed([str(path)], tmp_path)
    assert re.search(r"\d\.\d{3}", out)
    assert list(tmp_path.iterdir()) == [], "an example leaves nothing behind"


def test_the_first_example_takes_five_lines_to_its_figures() -> None:
    lines = (ROOT / "examples" / "first_run.py").read_text(encoding="utf-8").splitlines()
    code = [line for line in lines if line.strip() and not line.startswith(('"""', "#"))]
    assert len(code) <= 5


@pytest.mark.slow
@pytest.mark.parametrize("block", range(len(BLOCKS)))
def test_python_of_the_readme_runs_as_it_stands(block: int, tmp_path: Path) -> None:
    out = printed(["-c", BLOCKS[block]], tmp_path)
    assert re.search(r"\d\.\d{3}", out)
    for saved in re.findall(r'\.save\("([^"]+)"\)', BLOCKS[block]):
        assert (tmp_path / saved / "report.html").is_file()

"""The examples and the README's Python run as they stand, each in a process of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from tests.forked import Forked, Parent

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
README = ROOT / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL) if README.is_file() else []


@dataclass(frozen=True)
class Started:
    """A Python process, the folder it works in, and the file that takes what it prints."""

    process: Forked
    folder: Path
    out: Path

    def printed(self) -> str:
        """What the process prints; it must end well and say nothing on standard error."""
        _, err = self.process.communicate()
        assert self.process.returncode == 0, err
        assert err == ""
        return self.out.read_text(encoding="utf-8")


def own_table() -> pl.DataFrame:
    """The reader's own `ratings.csv`: forty people, thirty items, by nothing but their numbers."""
    rows = [
        (user, item, 1 + (user * item + user + item) % 9 / 2) for user in range(40) for item in range(user % 2, 30, 2)
    ]
    return pl.DataFrame(rows, schema=["user", "item", "rating"], orient="row")


@pytest.fixture(scope="module")
def started(parent: Parent, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Started]]:
    """Every example and README block, started at once, so that they share the cores."""
    codes = {path.stem: path.read_text(encoding="utf-8") for path in EXAMPLES}
    codes |= {f"block {number}": code for number, code in enumerate(BLOCKS)}
    processes = {}
    table = own_table()
    for name, code in codes.items():
        folder, out = tmp_path_factory.mktemp("work"), tmp_path_factory.mktemp("out") / "out"
        if "ratings.csv" in code:
            table.write_csv(folder / "ratings.csv")
        processes[name] = Started(parent.start(folder, (), code, out), folder, out)
    yield processes
    for each in processes.values():
        each.process.close()


def test_there_are_examples() -> None:
    assert {path.name for path in EXAMPLES} >= {"first_run.py", "own_module.py"}


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs_anywhere_and_prints_figures(path: Path, started: dict[str, Started]) -> None:
    assert re.search(r"\d\.\d", started[path.stem].printed())
    left = {entry.name for entry in started[path.stem].folder.iterdir()}
    assert left <= {"ratings.csv"}, "an example leaves nothing behind"


@pytest.mark.slow
@pytest.mark.parametrize("block", range(len(BLOCKS)))
def test_python_of_the_readme_runs_as_it_stands(block: int, started: dict[str, Started]) -> None:
    run = started[f"block {block}"]
    assert re.search(r"\d\.\d{3}", run.printed())
    for saved in re.findall(r'\.save\("([^"]+)"\)', BLOCKS[block]):
        assert (run.folder / saved / "report.html").is_file()


def test_the_first_example_takes_five_lines_to_its_figures() -> None:
    lines = (ROOT / "examples" / "first_run.py").read_text(encoding="utf-8").splitlines()
    code = [line for line in lines if line.strip() and not line.startswith(('"""', "#"))]
    assert len(code) <= 5

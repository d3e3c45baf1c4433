"""Commands that used to end in a traceback, in an empty reason, or in silence: each ends in one line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from hierfed import cli

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def hierfed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Run a command in this process, in an empty folder; gives its exit code and its standard error."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["hierfed", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), capsys.readouterr().err

    return call


@pytest.mark.parametrize("words", [(), ("keys",)])
def test_a_command_without_words_shows_its_help_and_no_empty_error(hierfed: Command, words: tuple[str, ...]) -> None:
    assert hierfed(*words) == (2, "")


ROWS = "user,item,rating\n" + "".join(f"u{u},i{i},{1 + (u + i) % 5}\n" for u in range(20) for i in range(8))
REFUSED = {
    ("run", "--data", ""): "no such data: the name is empty; for the folder at hand say '.'",
    ("run", "--data", "r.csv", "--name", "a\x1b[31m"): "leave out control characters",
    ("run", "--data", "r.csv", "--column", "user"): "'user': expected key=value, such as user=who",
    ("run", "--data", "r.csv", "--track", "nosuch"): "no tracker 'nosuch'",
    ("run", "--set", "scale=5"): "data.scale: expected the lowest and the highest rating, such as 0.5,5 (found 5)",
    ("run", "--set", "scale=[nan,5]"): "such as 0.5,5 (found [nan, 5])",
    ("run", "--set", "scale=[1,true]"): "such as 0.5,5 (found [1, True])",
    ("run", "--set", "scale=1,2,3"): "such as 0.5,5 (found [1, 2, 3])",
    ("update", "runs/x", "--data", "r.csv", "--rounds", "3"): "--rounds 3 goes with --level rounds",
    ("update", "runs/x"): "nothing to learn from: name ratings with --data",
    ("study", "gone.toml"): "gone.toml: cannot be read: No such file or directory",
}


@pytest.mark.parametrize("words, told", REFUSED.items(), ids=[" ".join(words) for words in REFUSED])
def test_one_line_says_what_is_wrong_and_nothing_is_left(
    hierfed: Command, tmp_path: Path, words: tuple[str, ...], told: str
) -> None:
    (tmp_path / "r.csv").write_text(ROWS)
    code, line = hierfed(*words)
    assert code == 2
    assert line.startswith("error: ")
    assert told in line
    assert line.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["r.csv"]


@pytest.mark.parametrize(
    "error, code, told",
    [
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 1, "error: not enough memory (DefaultCPU"),
        (MemoryError("Unable to allocate 7 TiB"), 1, "error: not enough memory (Unable to allocate 7 TiB): take"),
        (ModuleNotFoundError("", name="cryptography"), 2, "pip install 'hierfed[privacy]'"),
    ],
)
def test_what_the_machine_lacks_is_one_line(
    hierfed: Command, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, told: str
) -> None:
    def fail(**_: object) -> NoReturn:
        raise error

    monkeypatch.setattr(cli, "app", fail)
    found, line = hierfed("run")
    assert found == code
    assert told in line
    assert line.count("\n") == 1


@pytest.mark.parametrize("error", [RuntimeError("a defect"), ModuleNotFoundError("", name="hierfed.gone")])
def test_a_defect_is_no_line(hierfed: Command, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(**_: object) -> NoReturn:
        raise error

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(type(error)):
        hierfed("run")


def test_a_state_that_is_a_file(hierfed: Command, tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text(ROWS)
    code, line = hierfed("node", "--server", "127.0.0.1:1", "--data", "r.csv", "--state", "r.csv")
    assert code == 1
    assert line.startswith("error: r.csv/flower: cannot be written: ")
    assert line.count("\n") == 1


def test_a_place_that_cannot_be_written_is_refused_before_the_work(hierfed: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, line = hierfed("prequential", "--data", "gone.csv", "--by", "year", "--out", "file/found")
    assert code == 1
    assert line == "error: cannot make the folder file/found: Not a directory; choose another with --out\n"


def test_an_empty_ledger_is_no_run_to_repeat(hierfed: Command, tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    (tmp_path / "r.csv").write_text(ROWS)
    (tmp_path / "empty").touch()
    code, line = hierfed("run", "item_biases", "--data", "r.csv", "--replay", "empty")
    assert code == 1
    assert line == "error: --replay empty: is empty; give the ledger.jsonl of the run to repeat\n"


@pytest.mark.parametrize("left", ["rounds.jsonl", "result.json"])
def test_a_server_says_whose_the_folder_is(hierfed: Command, tmp_path: Path, left: str) -> None:
    """A stopped run leaves its rounds, which were called damaged."""
    (tmp_path / "items.csv").write_text("item_id\n1\n2\n")
    (tmp_path / "runs" / "hierarchical").mkdir(parents=True)
    (tmp_path / "runs" / "hierarchical" / left).write_text('{"round":1}\n')
    code, line = hierfed("server", "--listen", "127.0.0.1:1", "--catalogue", "items.csv")
    assert code == 2
    assert line == "error: runs/hierarchical: holds a run that no server has made; choose another --name\n"

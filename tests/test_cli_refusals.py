"""Wrong words, files and numbers on the command line: one clear line each, and nothing is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli_folders import SMALL, assert_refused, made, strict_json, write_folder
from tests.commands import Hierfed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_folder(tmp_path_factory.mktemp("data") / "ml")


WRONG_WORDS: dict[str, tuple[list[str], list[str]]] = {
    "unknown preset": (["run", "papr"], ["papr", "did you mean 'paper'?"]),
    "preset file that is not there": (["run", "mine.toml"], ["mine.toml", "no such settings file"]),
    "unknown setting": (["run", "paper", "--set", "ronds=3"], ["ronds", "did you mean 'rounds'?"]),
    "setting of another section": (["run", "paper", "--set", "model.rounds=3"], ["model.rounds"]),
    "text for a number": (["run", "paper", "--set", "rounds=many"], ["training.rounds", "'many'"]),
    "number out of range": (["run", "paper", "--set", "rounds=0"], ["training.rounds", "0"]),
    "share above 1": (["run", "paper", "--set", "sample=1.5"], ["split.sample", "1.5"]),
    "not a number": (["run", "paper", "--set", "learning_rate=nan"], ["training.learning_rate"]),
    "unknown choice": (["run", "paper", "--set", "partition=row"], ["federation.partition", "'rows'"]),
    "setting without a value": (["run", "paper", "--set", "rounds"], ["'rounds'", "key=value"]),
    "unknown join": (["run", "paper", "--join", "titles"], ["data.join", "title"]),
    "unknown data": (["run", "paper", "--data", "embeded"], ["embeded", "did you mean 'embedded'?"]),
    "data of data": (["data", "nowhere"], ["nowhere", "embedded"]),
    "join that is not possible": (["data", "embedded", "--join", "links"], ["links", "title"]),
    "column without a name": (["run", "paper", "--column", "user"], ["'user'", "expected key=value"]),
    "columns of embedded data": (["run", "paper", "--column", "user=x"], ["embedded"]),
    "test rows of embedded data": (["run", "paper", "--test", "x.csv"], ["embedded"]),
    "query of embedded data": (["run", "paper", "--query", "SELECT 1"], ["a query needs a database", "embedded"]),
    "query to compare on embedded data": (["compare", "paper", "network", "--query", "SELECT 1"], ["a query needs"]),
    "more ratings than pairs": (["data", "make", "new", *made(10, 30, 301)], ["301 ratings", "too many", "300 pairs"]),
    "fewer ratings than 20 each": (["data", "make", "new", *made(10, 30, 199)], ["199 ratings", "too few", "200"]),
    "a negative number of users": (["data", "make", "new", *made(-10, 30, 300)], ["-10 users", "at least 1"]),
    "a negative seed": (["data", "make", "new", *made(10, 30, 300), "--seed", "-1"], ["seed -1"]),
    "server without a query": (["data", "postgresql://localhost/shop"], ["postgresql://localhost/shop", "--query"]),
    "one preset to compare": (["compare", "paper"], ["two presets or more"]),
    "the same preset twice": (["compare", "paper", "paper"], ["two presets or more"]),
    "unknown preset to show": (["presets", "--settings", "nett"], ["nett"]),
    "misspelt command": (
        ["recomend", "runs/paper"],
        ["No such command 'recomend'. Did you mean 'recommend'?; `"],
    ),
    "option that is left out": (["recommend", "runs/paper"], ["Missing option '--user'; `"]),
    "unknown setting to explain": (["settings", "roundz"], ["did you mean 'rounds'?; `hierfed settings` lists"]),
    "unknown preset to compare": (["compare", "paper", "netwrk"], ["did you mean 'network'?"]),
}


@pytest.mark.parametrize("case", WRONG_WORDS)
def test_wrong_words_are_one_line_and_leave_nothing(hierfed: Hierfed, tmp_path: Path, case: str) -> None:
    words, parts = WRONG_WORDS[case]
    assert_refused(hierfed(*words), *parts)
    assert list(tmp_path.iterdir()) == []


GOOD = "userId,movieId,rating,timestamp\n1,1,4.0,1000000000\n2,1,3.5,1000000001\n"


BAD_RATINGS = {
    "letters": (GOOD + "3,1,four,1000000002\n", ["line 4", "column rating", "'four'"]),
    "out of range": (GOOD + "3,1,9.0,1000000002\n", ["line 4", "column rating", "9"]),
    "duplicate pair": (GOOD + "1,1,2.0,1000000009\n", ["line 4", "user 1", "item 1", "line 2"]),
    "empty": ("", ["empty"]),
    "header only": ("userId,movieId,rating,timestamp\n", ["no data rows"]),
    "column missing": ("userId,rating,timestamp\n1,4.0,5\n", ["line 1", "item"]),
    "short row": (GOOD + "3,1\n", ["line 4", "2 fields"]),
    "time": (GOOD + "3,1,4.0,yesterday\n", ["line 4", "timestamp", "'yesterday'"]),
}


@pytest.mark.parametrize("command", ["run", "data"])
@pytest.mark.parametrize("case", BAD_RATINGS)
def test_bad_ratings_are_one_line_that_says_where(hierfed: Hierfed, tmp_path: Path, case: str, command: str) -> None:
    content, parts = BAD_RATINGS[case]
    write_folder(tmp_path / "ml", content)
    # Else the folder would be nobody's, and of any scale.
    (tmp_path / "ml" / "README.txt").write_text("MovieLens (ml-25m), by the University of Minnesota")
    words = ["run", "paper", "--data", "ml"] if command == "run" else ["data", "ml"]
    assert_refused(hierfed(*words), "ratings.csv", *parts)
    assert not (tmp_path / "runs").exists()


def test_a_settings_file_that_is_no_text_or_no_toml_is_one_line(hierfed: Hierfed, tmp_path: Path) -> None:
    for name, content in (("bytes.toml", b"\xff\xfe\x00"), ("bad.toml", b"rounds = = 3")):
        (tmp_path / name).write_bytes(content)
        assert_refused(hierfed("run", name), name)


def test_a_folder_without_ratings_is_one_line(hierfed: Hierfed, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert_refused(hierfed("run", "paper", "--data", "empty"), "empty", "no ratings found", "ratings.csv")
    assert not (tmp_path / "runs").exists()


def test_ratings_in_another_encoding_are_one_line(hierfed: Hierfed, tmp_path: Path) -> None:
    write_folder(tmp_path / "ml")
    (tmp_path / "ml" / "ratings.csv").write_text(GOOD, encoding="utf-16")
    assert_refused(hierfed("data", "ml"), "ratings.csv", "UTF-8")


@pytest.mark.parametrize(
    ("setting", "parts"),
    [
        ("personal_nodes=500", ["500 nodes", "users"]),
        ("nodes=500", ["500 nodes"]),
    ],
)
def test_more_nodes_than_there_can_be_is_one_line_and_leaves_nothing(
    hierfed: Hierfed, folder: str, tmp_path: Path, setting: str, parts: list[str]
) -> None:
    assert_refused(hierfed("run", "network", "--data", folder, *SMALL, "--set", setting), *parts)
    assert not (tmp_path / "runs").exists()


def test_report_on_a_folder_that_is_no_run_is_one_line(hierfed: Hierfed, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    assert_refused(hierfed("report", "other"), "other", "cannot read a run there", code=1)
    assert_refused(hierfed("report", "nowhere"), "nowhere", code=1)
    assert list((tmp_path / "other").iterdir()) == []


def test_report_on_a_damaged_result_is_one_line(hierfed: Hierfed, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"name": "x"')
    assert_refused(hierfed("report", "."), "result.json", code=1)


def test_a_folder_that_cannot_be_made_is_one_line(hierfed: Hierfed, folder: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    found = hierfed("run", "network", "--data", folder, "--out", "file", "--quiet", *SMALL)
    assert_refused(found, "cannot make the folder", "--out", code=1)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    "words", [["run", "--seeds", "0"], ["run", "--seed", "-1"], ["run", "--no-such-option"], ["fly"]]
)
def test_words_that_the_parser_refuses_exit_with_2_and_no_traceback(hierfed: Hierfed, words: list[str]) -> None:
    found = hierfed(*words)
    assert found.code == 2
    assert found.out == ""
    assert "Traceback" not in found.err
    assert any(word in found.err for word in words[-2:])


def test_a_training_that_diverges_is_one_line_and_keeps_the_rounds_before(
    hierfed: Hierfed, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hierfed.methods.averaging.averaging import FederatedAveraging

    losses = iter([[1.0], [1.0], [float("nan")]])
    monkeypatch.setattr(FederatedAveraging, "train_loss", lambda *_: next(losses))
    found = hierfed("run", "network", "--data", folder, "--quiet", *SMALL, "--set", "rounds=5")
    assert (found.code, found.out) == (1, "")
    assert found.errors == [
        "the rounds that were finished: runs/network/rounds.jsonl",
        "error: training diverged in round 3: lower training.learning_rate",
    ]
    kept = (tmp_path / "runs" / "network" / "rounds.jsonl").read_text().splitlines()
    assert [strict_json(line)["round"] for line in kept] == [1, 2]
    assert [path.name for path in (tmp_path / "runs" / "network").iterdir()] == ["rounds.jsonl"]


def test_a_training_that_diverges_at_once_leaves_nothing(hierfed: Hierfed, folder: str, tmp_path: Path) -> None:
    found = hierfed("run", "network", "--data", folder, "--quiet", *SMALL, "--set", "learning_rate=1e30")
    assert_refused(found, "training diverged in round 1: lower training.learning_rate", code=1)
    assert not (tmp_path / "runs").exists()


def test_users_heads_on_a_network_of_huge_units_are_one_line(hierfed: Hierfed, folder: str) -> None:
    # A round's change is bounded; a node's own training is not.
    sets = ("--set", "node_level=fine_tuning", "--set", "tuning_learning_rate=3e12")
    found = hierfed("run", "network", "--data", folder, "--quiet", *SMALL, *sets)
    assert found.code == 1
    assert found.errors[-1].startswith("error: personalisation diverged: ")
    assert "lower training.learning_rate" in found.errors[-1]


def test_temporal_on_one_time_is_one_line(hierfed: Hierfed, tmp_path: Path) -> None:
    rows = [f"{user},{item},{(user + item) % 5 + 1},1000000000" for user in range(8) for item in range(9)]
    (tmp_path / "r.csv").write_text("\n".join(["user,item,rating,time", *rows]) + "\n")
    found = hierfed("run", "network", "--data", "r.csv", "--protocol", "temporal", *SMALL)
    assert_refused(found, "all 72 ratings bear the same time, so there is nothing to order by")
    assert not (tmp_path / "runs").exists()


def test_an_update_of_no_training_is_one_line(hierfed: Hierfed, tmp_path: Path) -> None:
    found = hierfed("server", "--update", "runs/first", "--insecure")
    assert_refused(found, "--update runs/first: no finished training of a server is there to go on from")
    assert not list(tmp_path.iterdir())

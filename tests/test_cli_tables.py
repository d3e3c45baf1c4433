"""The options that say how a table is written are those of every command that reads one, and of Python."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

import hierfed
from hierfed.cli import app
from hierfed.cli.options import DataOptions, TableOptions, settings_of
from hierfed.deployment.sources import read_source
from hierfed.deployment.state import Origin
from hierfed.errors import SettingsError

TABLE = [
    f"--{name}"
    for name in ["column", "header", "separator", "encoding", "time-format", "no-rating", "repeats", "bad-rows"]
]
DATA = [f"--{name}" for name in ["data", "query", "join", "protocol", "test"]]


def help_of(*command: str) -> str:
    result = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("command", ["run", "compare", "federation"])
def test_experiments_take_the_same_options(command):
    assert [option for option in TABLE + DATA if option not in help_of(command)] == []


@pytest.mark.parametrize("command", [("node",), ("data", "show")])
def test_what_reads_a_table_takes_its_form(command):
    assert [option for option in TABLE if option not in help_of(*command)] == []


def test_options_become_settings():
    options = DataOptions(
        column=["user=who", "item=2"],
        header="no",
        separator="tab",
        encoding="latin-1",
        time_format="dd/mm/yyyy",
        no_rating=["-1", "empty"],
        repeats="last",
        bad_rows="skip",
        data="r.csv",
        protocol="warm",
    )
    settings = settings_of("hierarchical", options, seed=3, sets=["data.repeats=mean"])
    data = settings.data
    assert (data.columns, data.header, data.separator) == ({"user": "who", "item": "2"}, "no", "\t")
    assert (data.encoding, data.time_format, data.no_rating) == ("latin-1", "dd/mm/yyyy", (-1.0, "empty"))
    assert (data.repeats, data.bad_rows, data.source) == ("mean", "skip", "r.csv")
    assert (settings.seed, settings.split.protocol) == (3, "warm")
    plain = settings_of("hierarchical", DataOptions(protocol="warm"), seed=3, sets=[])
    assert settings.digest() == plain.digest()


@pytest.mark.parametrize(
    "options, told",
    [
        ({"no_rating": ["never"]}, "data.no_rating"),
        ({"separator": "abc"}, "data.separator: 'abc' separates nothing"),
        ({"encoding": "utf-99"}, "data.encoding: Python knows no encoding 'utf-99'"),
        ({"column": ["user"]}, "expected key=value"),
    ],
)
def test_options_that_do_not_fit(options, told):
    with pytest.raises(SettingsError) as caught:
        TableOptions(**options).table_settings()
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_settings_of_a_run_repeat_it(tmp_path):
    options = DataOptions(column=["user=1"], separator="tab", no_rating=["-1", "empty"], repeats="mean")
    settings = settings_of("hierarchical", options, seed=None, sets=[])
    (tmp_path / "settings.toml").write_text(settings.to_toml())
    again = settings_of(str(tmp_path / "settings.toml"), DataOptions(), seed=None, sets=[])
    assert again.data == settings.data


def test_hierfed_data_shows_what_was_dropped(tmp_path):
    path = tmp_path / "r.txt"
    path.write_text("1;1;4\n1;2;-1\n1;3;x\n2;1;5\n2;1;3\n")
    arguments = ["data", str(path), "--header", "no", "--no-rating", "-1", "--bad-rows", "skip", "--repeats", "mean"]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    for told in (
        "5 in = 2 used + 3 dropped",
        "1: seen, not rated (rating -1)",
        "1: column rating: no rating",
        "1: rated again (repeats: mean)",
    ):
        assert told in result.output


def test_a_node_reads_a_table_in_its_own_form(tmp_path):
    path = tmp_path / "r.txt"
    path.write_text("9;u1;4\n9;u2;-1\n9;u1;2\n")
    form = {"header": "no", "no_rating": [-1], "repeats": "mean"}
    source = read_source(Origin(str(path), columns={"user": "2", "item": "1", "rating": "3"}, table=form))
    assert source.train.value.tolist() == [3.0]
    assert source.train.dropped == {"seen, not rated (rating -1)": 1, "rated again (repeats: mean)": 1}


def rows(users: int = 30, items: int = 12) -> pl.DataFrame:
    every = [(f"u{u}", f"i{i}", float(1 + (u * i + i) % 5)) for u in range(users) for i in range(items) if (u + i) % 3]
    return pl.DataFrame(every, schema=["user", "item", "rating"], orient="row")


def test_python_takes_tables_and_paths(tmp_path):
    frame = rows()
    frame.write_csv(tmp_path / "r.csv")
    options = {"rounds": 1, "nodes": 2, "protocol": "warm"}
    runs = [
        hierfed.run("item_biases", data=data, **options)
        for data in (frame, frame.lazy(), Path(tmp_path / "r.csv"), str(tmp_path / "r.csv"))
    ]
    assert len({run.result.digest for run in runs}) == 1
    assert runs[0].result.data.source == "a table in memory"

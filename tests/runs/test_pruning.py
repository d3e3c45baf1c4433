"""Old runs are deleted, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hierfed.atomic import held
from hierfed.errors import HierfedError
from hierfed.runs.pruning import finished_runs, prune


def make(out: Path, name: str, day: int, file: str = "result.json") -> Path:
    folder = out / name
    (folder / "private").mkdir(parents=True)
    (folder / file).write_text("{}")
    os.utime(folder / file, (day, day))
    return folder


def test_the_newest_stay_and_what_is_no_finished_run_is_left_alone(tmp_path):
    days = {"b": 3, "a": 1, "c": 2, "d": 4}
    runs = {name: make(tmp_path, name, day) for name, day in days.items()}
    several = make(tmp_path, "seeds", 0 + 1, "summary.json")
    under_way = tmp_path / "under way"
    under_way.mkdir()
    (under_way / "rounds.jsonl").write_text("")
    study = tmp_path / "study"
    make(study, "variant", 1)
    (tmp_path / "link").symlink_to(runs["a"])
    assert finished_runs(tmp_path)[:3] == [runs["d"], runs["b"], runs["c"]]
    told = []
    assert set(prune(tmp_path, 2, told.append)) == {runs["a"], runs["c"], several} == set(told)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"b", "d", "under way", "study", "link"}
    assert (study / "variant").is_dir()
    assert prune(tmp_path, 2) == []


def test_a_run_that_a_server_holds_stays(tmp_path):
    old, new = make(tmp_path, "old", 1), make(tmp_path, "new", 2)
    with held(old / ".lock"):
        assert prune(tmp_path, 1) == []
    assert prune(tmp_path, 1) == [old]
    assert new.is_dir()


def test_a_place_that_cannot_be_read_is_said(tmp_path):
    with pytest.raises(HierfedError, match="choose the place with --out"):
        prune(tmp_path / "no", 1)

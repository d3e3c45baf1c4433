"""What a run leaves behind: whole, repeatable, and with nothing private in what may be shared."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from hierfed.errors import HierfedError, SettingsError
from hierfed.experiment import Outcome, run_experiment
from hierfed.observer import Observer
from hierfed.results import Result, Summary, write_record
from hierfed.runs import folder as runs
from hierfed.runs import reports
from hierfed.runs.private_files import user_file
from hierfed.settings import Settings, load_settings

FIGURES = ("global_rmse", "training_loss", "node_rmse", "weight_change", "baselines", "user_gain")
FIRST_USER = 7_310_001
SMALL: dict[str, Any] = {
    "rounds": 2,
    "nodes": 3,
    "personal_nodes": 3,
    "hidden": [6, 4],
    "local_epochs": 1,
    "tuning_epochs": 1,
    "node_level": "fine_tuning",
    "user_level": "ridge_head",
}


def write_folder(place: Path) -> str:
    """360 ratings of 30 users on 40 films, the users with long ids that occur nowhere else by chance."""
    rng = np.random.default_rng(5)
    ratings, films = ["userId,movieId,rating,timestamp"], ["movieId,title,genres"]
    for user in range(30):
        for film in rng.choice(40, 12, replace=False).tolist():
            ratings.append(f"{FIRST_USER + user},{film + 1},{rng.integers(1, 11) / 2},{10**9 + user}")
    films += [f"{film + 1},Film {film} ({1950 + film}),{('Action', 'Comedy', 'Drama')[film % 3]}" for film in range(40)]
    (place / "ratings.csv").write_text("\n".join(ratings) + "\n")
    (place / "movies.csv").write_text("\n".join(films) + "\n")
    return str(place)


def small_settings(source: str, seed: int = 0) -> Settings:
    return load_settings("network", {**SMALL, "data.source": source, "seed": seed})


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_folder(tmp_path_factory.mktemp("ml"))


class SavedRun:
    """A run that was logged and saved into `folder`."""

    def __init__(self, source: str, folder: Path, seed: int = 0):
        self.folder = folder
        self.outcome: Outcome = run_experiment(small_settings(source, seed), observers=[runs.RoundLog(folder)])
        self.result: Result = reports.save_run(self.outcome, folder)

    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "result.json").read_text(encoding="utf-8"))
        return found


@pytest.fixture(scope="module")
def saved(source: str, tmp_path_factory: pytest.TempPathFactory) -> SavedRun:
    """One run, saved once; tests that change its folder must copy it."""
    return SavedRun(source, tmp_path_factory.mktemp("runs") / "mine")


def test_every_file_is_there_and_no_other(saved: SavedRun) -> None:
    found = {str(path.relative_to(saved.folder)) for path in saved.folder.rglob("*") if path.is_file()}
    expected = {"settings.toml", "result.json", "rounds.jsonl", "model.safetensors", "report.html", "ledger.jsonl"}
    expected |= {"catalogue.parquet", "private/files.json"}
    expected |= {f"figures/{name}.{end}" for name in FIGURES for end in ("png", "svg")}
    expected |= {"ranking.safetensors"}
    expected |= {f"private/node-{number}/node.safetensors" for number in (1, 2, 3)}
    ids = saved.outcome.dataset.user_ids
    placed = {(f"node-{node.name}", user) for node in saved.outcome.personal_nodes for user in node.train.user.tolist()}
    nowhere = set(range(len(ids))) - {user for _, user in placed}
    for place, user in placed | {("held-out", user) for user in nowhere}:
        expected.add(f"private/{place}/{user_file(str(ids[user]))}.safetensors")
    assert found == expected


def test_the_settings_are_whole_and_repeat_the_run(saved: SavedRun) -> None:
    path = saved.folder / "settings.toml"
    again = load_settings(path)
    assert again.model_dump(exclude={"preset"}) == saved.outcome.settings.model_dump(exclude={"preset"})
    assert run_experiment(again).result.digest == saved.result.digest
    written = tomllib.loads(path.read_text(encoding="utf-8"))
    for section, value in saved.outcome.settings.model_dump(mode="json").items():
        assert written[section] == value


def test_each_round_is_one_line_and_they_are_the_result_s_rounds(saved: SavedRun) -> None:
    lines = (saved.folder / "rounds.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == saved.json()["rounds"]
    assert len(lines) == 2


def test_rounds_are_on_disk_as_they_end(source: str, tmp_path: Path) -> None:
    """Whoever stops a run keeps its finished rounds."""
    folder, seen = tmp_path / "stopped", []

    class Noting(Observer):
        def round(self, record: Any) -> None:
            seen.append((folder / "rounds.jsonl").read_text(encoding="utf-8").count("\n"))

    run_experiment(small_settings(source), observers=[runs.RoundLog(folder), Noting()])
    assert seen == [1, 2]


def test_the_model_is_the_outcome_s_and_says_what_it_is(saved: SavedRun) -> None:
    with safe_open(saved.folder / "model.safetensors", framework="pt") as stored:
        header = stored.metadata()
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - it is no mapping
    predictor = saved.outcome.method.predictor
    expected = predictor.named(saved.outcome.shared.arrays["parameters"])
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in expected.items())
    assert tensors["layers.0.weight"].shape == (6, len(saved.result.data.features))
    assert header["digest"] == saved.result.digest == saved.json()["digest"]
    assert json.loads(header["features"]) == saved.result.data.features
    # The shared model travels; where its owner's data lie does not.
    settings = json.loads(header["settings"])
    assert Settings.model_validate(settings).digest() == saved.outcome.settings.digest()
    assert not {"source", "columns", "test", "query"} & settings["data"].keys()
    assert header["format"] == "hierfed averaging 3"


def test_private_state_is_the_owner_s_only(saved: SavedRun) -> None:
    mode = stat.S_IMODE((saved.folder / "private").stat().st_mode)
    assert mode == 0o700
    nodes = zip(saved.outcome.personal_nodes, saved.outcome.personal_models, strict=True)
    for node, model in nodes:
        place = saved.folder / "private" / f"node-{node.name}"
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
        tensors = dict(model.tensors())[None]
        with safe_open(place / "node.safetensors", framework="pt") as stored:
            assert set(stored.keys()) == set(tensors)
            for name, tensor in tensors.items():
                assert torch.equal(stored.get_tensor(name), tensor)


def test_private_stays_private_whatever_the_umask(source: str, saved: SavedRun, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        reports.save_run(saved.outcome, tmp_path / "open")
    finally:
        os.umask(before)
    places = [tmp_path / "open" / "private", *(tmp_path / "open" / "private").glob("*/")]
    assert len(places) == 5
    assert [stat.S_IMODE(place.stat().st_mode) for place in places] == [0o700] * 5


def test_nothing_that_may_be_shared_names_a_user_or_holds_a_user_s_parameters(saved: SavedRun) -> None:
    shared = ["result.json", "report.html", "model.safetensors", "rounds.jsonl", "settings.toml"]
    ids = re.compile(rb"73100\d\d")
    assert ids.search(Path(saved.outcome.settings.data.source, "ratings.csv").read_bytes())
    needles: list[bytes] = []
    for node, model in zip(saved.outcome.personal_nodes, saved.outcome.personal_models, strict=True):
        users = [tensors for user, tensors in model.tensors() if user is not None]
        assert len(users) == len({*node.train.user.tolist()})
        assert any((tensors["user_weights"] != 0).any() for tensors in users)
        for tensors in users:
            needles += [tensors[name].numpy().tobytes() for name in ("user_weights", "user_bias", "items", "ratings")]
            needles.append(f"{float(tensors['user_bias']):.6g}".encode()[:7])
        needles.append(json.dumps(sorted({*node.train.user.tolist()})).encode())
    for name in shared:
        content = (saved.folder / name).read_bytes()
        assert not ids.search(content), name
        for needle in needles:
            assert needle not in content, name
    text = "".join((saved.folder / name).read_text(encoding="utf-8") for name in ("result.json", "rounds.jsonl"))
    assert "user_bias" not in text
    assert "user_weights" not in text
    assert len(saved.json()["users"]["gains"]) == saved.result.users.users


KEYS: dict[str, set[str]] = {
    "data": {"ratings", "users", "items", "nodes", "join"},
    "rounds": {"round", "train_loss", "global_rmse", "bytes_up", "bytes_down", "seconds"},
    "nodes": {"node", "train_rows", "test_rows", "rmse_before", "rmse_after", "gain", "weight_change_l2"},
    "users": {"rmse_before", "rmse_after", "macro_rmse_after", "share_worse"},
    "baselines": {"global_mean", "item_mean", "user_mean", "biases", "local_only", "centralised"},
    "verdict": {"beats_global_mean", "beats_biases", "gain_mean", "gain_sd", "p_value", "nodes_harmed"},
    "seconds": {"data", "train", "personalise", "report", "total"},
}


@pytest.mark.parametrize("part", KEYS)
def test_the_result_has_every_key_that_the_design_promises(saved: SavedRun, part: str) -> None:
    found = saved.json()[part]
    for record in found if isinstance(found, list) else [found]:
        assert KEYS[part] <= record.keys()


def test_the_join_and_the_settings_are_in_the_result(saved: SavedRun) -> None:
    found = saved.json()
    assert {"name", "kept", "dropped"} <= found["data"]["join"].keys()
    assert found["settings"] == saved.outcome.settings.model_dump(mode="json")
    assert found["name"] == "mine"
    assert found["seed"] == 0


def test_the_result_on_disk_is_the_result_given_back(saved: SavedRun) -> None:
    written = Result.model_validate_json((saved.folder / "result.json").read_text(encoding="utf-8"))
    # Figures that were not measured are NaN, which equals nothing.
    assert written.model_dump_json() == saved.result.model_dump_json()
    assert saved.result.name == "mine"
    assert saved.result.seconds.report > 0
    parts = saved.result.seconds.model_dump(exclude={"total"})
    assert saved.result.seconds.total == pytest.approx(sum(parts.values()))


def test_result_json_is_strict_json_also_where_a_figure_is_undefined(saved: SavedRun, tmp_path: Path) -> None:
    node = saved.result.nodes[0].model_copy(update={"gain": float("nan"), "rmse_after": float("nan")})
    undefined = saved.result.model_copy(update={"nodes": [node, *saved.result.nodes[1:]]})
    write_record(undefined, tmp_path / "result.json")

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    text = (tmp_path / "result.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=refuse)["nodes"][0]["gain"] is None
    assert np.isnan(Result.model_validate_json(text).nodes[0].gain)
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"], "no half-written file stays"


def test_a_folder_that_is_there_is_never_given_again(tmp_path: Path) -> None:
    names = []
    for _ in range(3):
        with runs.claimed_folder(tmp_path, "paper") as folder:
            assert list(folder.iterdir()) == []
            names.append(folder.name)
    assert names == ["paper", "paper-2", "paper-3"]
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("file", "link"):
        with runs.claimed_folder(tmp_path, name) as folder:
            assert folder.name == f"{name}-2"


def test_of_runs_that_begin_together_each_has_a_folder_of_its_own(tmp_path: Path) -> None:
    together = 12
    barrier = Barrier(together)

    def claim(number: int) -> str:
        barrier.wait()
        with runs.claimed_folder(tmp_path / "runs", "paper") as folder:
            return folder.name

    with ThreadPoolExecutor(together) as threads:
        names = list(threads.map(claim, range(together)))
    assert sorted(names) == sorted(["paper", *(f"paper-{number}" for number in range(2, together + 1))])


def test_runs_that_begin_and_fail_together_leave_no_folder(tmp_path: Path) -> None:
    together = 12
    barrier = Barrier(together)

    def fail(number: int) -> None:
        barrier.wait()
        for _ in range(20):
            with pytest.raises(HierfedError, match="wrong"), runs.claimed_folder(tmp_path / "a" / "runs", "paper"):
                raise HierfedError("wrong")

    with ThreadPoolExecutor(together) as threads:
        list(threads.map(fail, range(together)))
    assert list(tmp_path.glob("a/runs/*")) == []


@pytest.mark.parametrize("failure", [HierfedError, KeyboardInterrupt, SystemExit, MemoryError])
def test_a_run_that_fails_takes_its_empty_folders_away_and_no_file(
    tmp_path: Path, failure: type[BaseException]
) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(failure), runs.claimed_folder(tmp_path, "paper") as folder:
        (folder / "seed-1" / "figures").mkdir(parents=True)
        raise failure
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    with pytest.raises(failure), runs.claimed_folder(tmp_path / "new" / "runs", "paper") as folder:
        (folder / "seed-1").mkdir()
        (folder / "seed-2").mkdir()
        (folder / "seed-2" / "rounds.jsonl").write_text("{}")
        raise failure
    assert [path.name for path in folder.iterdir()] == ["seed-2"]


def test_a_folder_below_a_file_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(HierfedError, match=r"cannot make the folder .*--out") as caught:
        runs.make_folder(tmp_path / "file" / "runs")
    assert "\n" not in str(caught.value)


def test_a_name_no_file_system_takes_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(HierfedError, match="cannot make the folder"):
        runs.make_folder(tmp_path / ("n" * 300))


def copy_of(folder: Path, place: Path) -> Path:
    return Path(shutil.copytree(folder, place))


def test_the_report_is_restored_from_the_result_alone(saved: SavedRun, tmp_path: Path) -> None:
    folder = copy_of(saved.folder, tmp_path / "mine")
    before = {path.name: path.read_bytes() for path in (folder / "figures").iterdir()}
    for path in [*(folder / "figures").iterdir(), folder / "report.html", folder / "model.safetensors"]:
        path.unlink()
    result = (folder / "result.json").read_bytes()
    found = reports.rewrite_report(folder)
    assert found.model_dump_json() == saved.result.model_dump_json()
    assert {path.name: path.read_bytes() for path in (folder / "figures").iterdir()} == before
    assert saved.result.digest in (folder / "report.html").read_text(encoding="utf-8")
    assert (folder / "result.json").read_bytes() == result


@pytest.mark.parametrize(
    "damage",
    ["", "{", "[]", "null", '{"version": 1}', "\x00\x01", '{"name": 3}'],
    ids=["empty", "cut off", "list", "null", "keys missing", "binary", "wrong type"],
)
def test_a_damaged_result_is_one_clear_line(tmp_path: Path, damage: str) -> None:
    (tmp_path / "result.json").write_text(damage)
    with pytest.raises(HierfedError, match=r"result\.json: not a result") as caught:
        reports.rewrite_report(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_misspelt_key_in_the_result_is_named(saved: SavedRun, tmp_path: Path) -> None:
    text = (saved.folder / "result.json").read_text(encoding="utf-8").replace('"global_rmse"', '"globl_rmse"', 1)
    text = re.sub(r'"sha256": "\w+"', '"sha256": ""', text)
    (tmp_path / "result.json").write_text(text, encoding="utf-8")
    with pytest.raises(HierfedError, match=r"rounds\.0\.glob"):
        reports.rewrite_report(tmp_path)


def test_a_result_that_is_not_utf8_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(HierfedError, match=r"result\.json"):
        reports.rewrite_report(tmp_path)


def test_a_folder_without_a_run_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(HierfedError, match="cannot read a run there"):
        reports.rewrite_report(tmp_path)


@pytest.fixture(scope="module")
def several(source: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[SavedRun], Summary]:
    """Two seeds in the folders that belong to them, and their summary."""
    folder = tmp_path_factory.mktemp("seeds") / "both"
    both = [SavedRun(source, runs.seed_folder(folder, seed), seed) for seed in (4, 5)]
    return folder, both, reports.save_summary([each.result for each in both], folder)


def test_the_summary_has_mean_sd_and_range_of_the_seeds(several: tuple[Path, list[SavedRun], Summary]) -> None:
    folder, both, summary = several
    assert Summary.model_validate_json((folder / "summary.json").read_text(encoding="utf-8")) == summary
    assert summary.seeds == [4, 5]
    assert summary.name == "both"
    for key, value in {
        "global_rmse": [each.result.final_rmse for each in both],
        "rmse_after": [each.result.users.rmse_after for each in both],
        "gain_per_node": [each.result.verdict.gain_mean for each in both],
        "baseline_biases": [each.result.baselines.biases for each in both],
    }.items():
        spread = summary.figures[key]
        assert spread.mean == pytest.approx(np.mean(value))
        assert spread.sd == pytest.approx(np.std(value, ddof=1))
        assert [spread.min, spread.max] == [min(value), max(value)]
    (pair,) = [each for each in summary.differences if (each.first, each.second) == ("rmse_after", "rmse_before")]
    gains = [each.result.users.rmse_after - each.result.users.rmse_before for each in both]
    assert pair.mean == pytest.approx(np.mean(gains))


def test_the_summary_s_page_leads_to_each_seed_s(several: tuple[Path, list[SavedRun], Summary]) -> None:
    folder, _, _ = several
    links = re.findall(r'href="([^"]+)"', (folder / "report.html").read_text(encoding="utf-8"))
    assert links == ["seed-4/report.html", "seed-5/report.html"]
    assert all((folder / link).is_file() for link in links)


def test_the_report_of_several_seeds_is_restored(several: tuple[Path, list[SavedRun], Summary], tmp_path: Path) -> None:
    folder = copy_of(several[0], tmp_path / "both")
    pages = [folder / "report.html", folder / "seed-4" / "report.html", folder / "seed-5" / "report.html"]
    for path in pages:
        path.unlink()
    assert reports.rewrite_report(folder) == several[2]
    assert all(path.stat().st_size > 1000 for path in pages)


def test_a_summary_whose_seed_is_lost_is_one_clear_line(
    several: tuple[Path, list[SavedRun], Summary], tmp_path: Path
) -> None:
    (tmp_path / "summary.json").write_bytes((several[0] / "summary.json").read_bytes())
    with pytest.raises(HierfedError, match="seed-4"):
        reports.rewrite_report(tmp_path)


@pytest.mark.parametrize("name", ["", ".", "..", "../elsewhere", "a/b"])
def test_a_name_that_lies_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="no name for a folder"):
        runs.claimed_folder(tmp_path, name).__enter__()

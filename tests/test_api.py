"""The library's front door: light to import, and the same run as on the command line."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hierfed
from hierfed import api
from hierfed.errors import HierfedError, SettingsError
from hierfed.experiment import run_experiment
from hierfed.observer import Observer
from hierfed.results import Result
from hierfed.settings import load_settings

SMALL: dict[str, Any] = {"rounds": 1, "nodes": 2, "personal_nodes": 2, "hidden": [4], "local_epochs": 1}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> str:
    """300 ratings of 30 users on 40 items."""
    rng = np.random.default_rng(8)
    rows = [
        f"{user},{item},{rng.integers(1, 11) / 2}"
        for user in range(30)
        for item in rng.choice(40, 10, replace=False).tolist()
    ]
    path = tmp_path_factory.mktemp("table") / "ratings.csv"
    path.write_text("\n".join(["user,item,rating", *rows]) + "\n")
    return str(path)


def modules_after(statement: str) -> set[str]:
    """The modules that are loaded once a fresh process has run this."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return set(json.loads(done.stdout))


HEAVY = {"torch", "polars", "matplotlib", "sklearn", "scipy", "numpy"}


@pytest.mark.parametrize("statement", ["import hierfed; hierfed.__version__", "import hierfed.cli"])
def test_importing_loads_nothing_heavy(statement: str) -> None:
    loaded = modules_after(statement)
    assert "hierfed" in loaded
    assert not loaded & HEAVY


def test_listing_presets_does_not_load_torch() -> None:
    listing = (
        "import sys\nfrom hierfed.cli import app\nsys.stdout = sys.stderr\napp(['presets'], standalone_mode=False)"
    )
    loaded = modules_after(f"{listing}\nsys.stdout = sys.__stdout__")
    assert "hierfed.settings" in loaded
    assert "torch" not in loaded


def test_the_public_names_are_there_and_no_other() -> None:
    assert {"Run", "__version__", "fit", "load", "run"} <= set(hierfed.__all__)
    assert all(getattr(hierfed, name) is not None for name in hierfed.__all__)
    assert hierfed.run is api.run
    assert hierfed.Run is api.Run
    with pytest.raises(AttributeError, match="no attribute 'rum'"):
        _ = hierfed.rum  # type: ignore[attr-defined]


def test_the_version_is_the_installed_one() -> None:
    from importlib.metadata import version

    assert hierfed.__version__ == version("hierfed")


def test_the_signature_of_run() -> None:
    signature = inspect.signature(hierfed.run)
    kinds = {name: parameter.kind for name, parameter in signature.parameters.items()}
    assert list(kinds) == ["preset", "data", "module", "observers", "seeds", "settings"]
    assert signature.parameters["preset"].default == "hierarchical"
    assert kinds["data"] == kinds["module"] == kinds["observers"] == inspect.Parameter.KEYWORD_ONLY
    assert kinds["settings"] == inspect.Parameter.VAR_KEYWORD


def test_run_is_the_experiment_of_the_same_settings(table: str) -> None:
    run = hierfed.run("network", data=table, seed=4, **SMALL)
    expected = run_experiment(load_settings("network", {**SMALL, "data.source": table, "seed": 4}))
    assert run.result.digest == expected.result.digest
    assert run.result.seed == 4
    assert run.result is run.outcome.result
    assert run.outcome.settings.training.rounds == 1


def test_run_writes_nothing(table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    hierfed.run("network", data=table, **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_save_leaves_a_whole_run_and_gives_its_report(table: str, tmp_path: Path) -> None:
    run = hierfed.run("network", data=table, **SMALL)
    for folder in (tmp_path / "runs" / "mine", str(tmp_path / "runs" / "yours")):
        report = run.save(folder)
        assert report == Path(folder) / "report.html"
        names = {"settings.toml", "result.json", "model.safetensors", "report.html", "figures", "private"}
        assert names <= {path.name for path in Path(folder).iterdir()}
        stored = Result.model_validate_json((Path(folder) / "result.json").read_text(encoding="utf-8"))
        assert stored.digest == run.result.digest
        assert stored.name == Path(folder).name


def test_save_leaves_the_rounds_too(table: str, tmp_path: Path) -> None:
    run = hierfed.run("network", data=table, **{**SMALL, "rounds": 3})
    run.save(tmp_path / "mine")
    lines = (tmp_path / "mine" / "rounds.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["round"] for line in lines] == [1, 2, 3]


def test_a_module_takes_the_network_s_place_and_observers_are_told(table: str) -> None:
    sizes, rounds = [], []

    def make(features: int) -> torch.nn.Module:
        sizes.append(features)
        return torch.nn.Linear(features, 1)

    class Noting(Observer):
        def round(self, record: Any) -> None:
            rounds.append(record)

    run = hierfed.run("network", data=table, module=make, observers=[Noting()], **SMALL)
    assert sizes == [2]
    assert rounds == run.result.rounds
    assert run.outcome.shared.arrays["parameters"].shape == (3,)


def test_wrong_settings_and_data_are_the_library_s_own_errors() -> None:
    with pytest.raises(SettingsError, match="did you mean 'rounds'"):
        hierfed.run("paper", ronds=3)
    with pytest.raises(SettingsError, match="did you mean 'network'"):
        hierfed.run("netwrk")
    with pytest.raises(HierfedError, match="no such data"):
        hierfed.run("paper", data="nowhere")

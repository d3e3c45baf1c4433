"""Studies: their files, what a kill leaves, and their table."""

from __future__ import annotations

from pathlib import Path

import pytest

from hierfed.errors import SettingsError
from hierfed.experiment import run_experiment
from hierfed.generated.files import write_world
from hierfed.results import Result
from hierfed.runs.study import read_study, run_study, study_json, summaries_of
from hierfed.settings import Settings, load_settings

FILE = """
presets = ["network", "item_biases"]
seeds = 2
[settings]
"training.rounds" = 1
[variants.users]
partition = "users"
[variants.sizes]
partition = "sizes"
skew = 2.0
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Result:
    """The result of a small run."""
    folder = tmp_path_factory.mktemp("world") / "ratings"
    write_world(folder, users=40, items=40, ratings=900)
    return run_experiment(load_settings("item_biases", {"source": str(folder), "nodes": 3, "personal_nodes": 3})).result


def write(folder: Path, text: str) -> Path:
    path = folder / "small.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_study_is_every_preset_variant_and_seed(tmp_path):
    found = read_study(write(tmp_path, FILE))
    assert list(found) == ["users", "sizes"]
    assert list(found["sizes"]) == ["network", "item_biases"]
    assert [settings.seed for settings in found["sizes"]["network"]] == [0, 1]
    assert {each.federation.skew for each in found["sizes"]["network"]} == {2.0}
    assert {each.training.rounds for each in found["users"]["network"]} == {1}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('presets = ["network"]\nseed = 3', "seed: Extra inputs"),
        ("seeds = 2", "presets: Field required"),
        ("presets = []", "presets"),
        ('presets = ["network"]\nseeds = 0', "seeds"),
        ("presets = [", "not a study"),
        ('presets = ["netwrok"]', "did you mean 'network'"),
        ('presets = ["network", "network"]', "one name"),
        ('presets = ["network"]\n[variants.a]\nnods = 3', "variant 'a'.*nods"),
        ('presets = ["item_biases"]\n[variants.a]\nkept = "head"', "preset 'item_biases', variant 'a'"),
    ],
)
def test_a_file_that_is_no_study_is_refused_in_one_line(text, reason, tmp_path):
    with pytest.raises(SettingsError, match=reason) as refused:
        read_study(write(tmp_path, text))
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="not a study"):
        read_study(tmp_path / "none.toml")


def test_a_study_that_was_killed_goes_on_and_has_the_same_table(tmp_path, finished):
    study = read_study(write(tmp_path, FILE))
    ran: list[tuple[str, str, int]] = []

    def run(settings: Settings) -> Result:
        if len(ran) == 3:
            raise KeyboardInterrupt
        ran.append((settings.preset, settings.federation.partition, settings.seed))
        return finished.model_copy(update={"seed": settings.seed, "preset": settings.preset})

    lines: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        run_study(study, tmp_path / "killed", lines.append, run)
    before = list(ran)
    ran.clear()

    def go_on(settings: Settings) -> Result:
        ran.append((settings.preset, settings.federation.partition, settings.seed))
        return finished.model_copy(update={"seed": settings.seed, "preset": settings.preset})

    again = run_study(study, tmp_path / "killed", lines.append, go_on)
    assert len(before) == 3
    assert len(ran) == 5
    assert not set(before) & set(ran)
    assert lines[-1] == "8 of 8 runs, about 0 min left"
    assert "3 of 8 runs are there already" in lines
    whole = run_study(study, tmp_path / "whole", run=go_on)
    assert study_json(*summaries_of(again)) == study_json(*summaries_of(whole))
    summaries, differences = summaries_of(whole)
    assert list(summaries) == ["users, network", "users, item_biases", "sizes, network", "sizes, item_biases"]
    assert all(difference.first.split(",")[0] == difference.second.split(",")[0] for difference in differences)

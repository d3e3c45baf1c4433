"""Studies: their files, what a kill leaves, and their table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hierfed.errors import SettingsError
from hierfed.experiment import run_experiment
from hierfed.generated.files import write_world
from hierfed.report.study import lines_of, study_figure
from hierfed.results import Result
from hierfed.runs.study import run_settings, run_study, study_json, summaries_of
from hierfed.runs.study_file import named_studies, read_study
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
GRID = """
presets = ["item_biases"]
[methods.small]
preset = "network"
trials.hidden = [[4], [8]]
[grid.sizes]
partition = "sizes"
skew = [0.5, 1.0, 2.0]
[grid.genre]
partition = "genre"
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
    found = read_study(write(tmp_path, FILE)).cells
    assert list(found) == ["users", "sizes"]
    assert list(found["sizes"]) == ["network", "item_biases"]
    assert not found["sizes"]["network"].trials
    (sizes,), (users,) = found["sizes"]["network"].runs, found["users"]["network"].runs
    assert [settings.seed for settings in sizes] == [0, 1]
    assert {each.federation.skew for each in sizes} == {2.0}
    assert {each.training.rounds for each in users} == {1}


def test_a_grid_has_a_variant_for_each_value_and_one_choice_for_all_of_them(tmp_path):
    plan = read_study(write(tmp_path, GRID), {"source": "elsewhere"})
    assert plan.groups == {"sizes": ["sizes, skew 0.5", "sizes, skew 1.0", "sizes, skew 2.0"], "genre": ["genre"]}
    first, last = (plan.cells[f"sizes, skew {skew}"]["small"] for skew in ("0.5", "2.0"))
    assert first.trials is last.trials
    assert [each.federation.skew for each in first.trials] == [1.0, 1.0]
    assert {each.split.judged_on for each in first.trials} == {"validation"}
    assert [[each.model.hidden for each in runs] for runs in last.runs] == [[(4,), (4,)], [(8,), (8,)]]
    assert {each.split.judged_on for runs in last.runs for each in runs} == {"test"}
    assert not plan.cells["genre"]["item_biases"].trials
    assert last.runs[0][0].data.source == "elsewhere"


def test_validation_rows_choose_for_the_whole_group(tmp_path, finished):
    def run(settings: Settings) -> Result:
        best = settings.model.hidden == (8,) and settings.federation.partition == "sizes"
        users = finished.users.model_copy(update={"rmse_after": 0.5 if best else 0.7})
        return finished.model_copy(update={"users": users, "settings": settings.model_dump(mode="json")})

    found = run_study(read_study(write(tmp_path, GRID)), tmp_path, run=run)
    widths = {variant: methods["small"][0].settings["model"]["hidden"] for variant, methods in found.items()}
    assert widths == {"sizes, skew 0.5": [8], "sizes, skew 1.0": [8], "sizes, skew 2.0": [8], "genre": [4]}


@pytest.mark.parametrize("name", named_studies())
def test_studies_that_come_with_the_package_can_be_read(name):
    plan = read_study(name)
    assert plan.reference
    assert all(len(variants) in (1, 3) for variants in plan.groups.values())


def test_an_unknown_name_lists_the_studies_and_says_that_a_file_may_be_given():
    with pytest.raises(SettingsError) as refused:
        read_study("skw")
    assert str(refused.value) == (
        "no study 'skw', did you mean 'skew'?; there are: skew, skew-small; or give a file, NAME.toml"
    )


def test_the_table_counts_the_nodes_that_are_better_off_with_the_reference(finished):
    nodes = [node.model_copy(update={"rmse_after": 1.0}) for node in finished.nodes]
    others = [node.model_copy(update={"rmse_after": value}) for node, value in zip(nodes, (0.9, 1.1, 1.2), strict=True)]
    alone, all_together = (finished.model_copy(update={"nodes": each}) for each in (nodes, others))
    mine, theirs = lines_of({"users": {"alone": [alone], "all": [all_together]}}, "alone")
    assert mine.less_reference is None
    assert (theirs.worse, theirs.nodes) == (2, 3)
    assert theirs.less_reference is not None
    assert theirs.less_reference.mean == 0
    assert theirs.users == finished.users.users
    twice = [replace(line, variant=variant) for variant in ("users", "time") for line in (mine, theirs)]
    assert len(study_figure(twice, {"users": ["users"], "time": ["time"]}, "alone").axes) == 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('presets = ["network"]\nseed = 3', "seed: Extra inputs"),
        ("seeds = 2", "presets: there is none"),
        ("presets = []", "presets"),
        ('presets = ["network"]\nreference = "netwrok"', "no method 'netwrok', did you mean 'network'"),
        ("[methods.a]\nrounds = 3", "methods.a: expected a preset's name"),
        ('[methods.a]\npreset = "network"\ntrials.nods = [1, 2]', "preset 'a', variant 'as it is'.*nods"),
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
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
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


def test_two_processes_give_the_table_of_one(tmp_path):
    folder = tmp_path / "ratings"
    write_world(folder, users=40, items=40, ratings=900)
    text = f"""
presets = ["item_biases"]
[settings]
source = "{folder}"
nodes = 3
personal_nodes = 3
"""
    plan, lines = read_study(write(tmp_path, text)), list[str]()
    one = run_study(plan, tmp_path / "one")
    two = run_study(plan, tmp_path / "two", lines.append, run_settings, processes=2)
    assert [each.digest for each in one["as it is"]["item_biases"]] == [
        each.digest for each in two["as it is"]["item_biases"]
    ]
    assert lines[-1] == "2 of 2 runs, about 0 min left"

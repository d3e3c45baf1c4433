"""One suite for every method: whatever is in METHODS keeps the same promises."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from typing import Any

import pytest
import torch

from hierfed.data.ratings import rows_to_predict
from hierfed.errors import HierfedError, SettingsError
from hierfed.experiment import run_experiment
from hierfed.federated.private import PrivateState
from hierfed.generated.files import write_world
from hierfed.methods import METHODS
from hierfed.observer import Observer
from hierfed.outcome import Outcome
from hierfed.runs.models import load_model
from hierfed.runs.reports import rewrite_report, save_run
from hierfed.serving.served import Served
from hierfed.settings import Settings, load_settings, preset_names

SMALL: dict[str, Any] = {
    "protocol": "warm",
    "nodes": 4,
    "partition": "users",
    "personal_nodes": 4,
    "personal_partition": "users",
    "rank": 2,
    "embedding_rank": 4,
    "embedding_rounds": 2,
    "select": False,
    "implicit_rounds": 2,
    "implicit_rank": 4,
    "ledger": "none",
}
PRESET = {"averaging": "network", "private_prior": "private"}
EVERY_METHOD = pytest.mark.parametrize("name", sorted(METHODS))
UNITS = ("example", "user", "node")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> str:
    """40 users who rate 80 items."""
    place = tmp_path_factory.mktemp("contracts") / "world"
    write_world(place, users=40, items=80, ratings=1_600, seed=3)
    return str(place)


def settings_of(name: str, world: str, **changes: Any) -> Settings:
    preset = PRESET.get(name, name)
    rounds = {} if name in ("private_prior", "local") else {"rounds": 3}
    return load_settings(preset, {**SMALL, **rounds, "data.source": world, **changes})


@pytest.fixture(scope="module")
def outcomes(world: str) -> dict[str, Outcome]:
    return {name: run_experiment(settings_of(name, world)) for name in METHODS}


@EVERY_METHOD
def test_more_threads_change_nothing(name, outcomes, world):
    again = run_experiment(settings_of(name, world, threads=2))
    assert again.result.digest == outcomes[name].result.digest
    assert again.result.users == outcomes[name].result.users


@EVERY_METHOD
def test_secure_sums_give_the_model_of_open_ones_or_are_refused(name, outcomes, world):
    if not METHODS[name].sends:
        with pytest.raises(SettingsError, match="sends nothing"):
            settings_of(name, world, secure_sums=True)
        return
    secure = run_experiment(settings_of(name, world, secure_sums=True)).shared
    for array, values in outcomes[name].shared.arrays.items():
        torch.testing.assert_close(secure.arrays[array].double(), values.double(), rtol=1e-4, atol=1e-4)


@EVERY_METHOD
@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_that_is_not_declared_is_refused(name, unit, world):
    if unit not in METHODS[name].units:
        with pytest.raises(SettingsError, match="privacy"):
            settings_of(name, world, privacy_unit=unit)


@EVERY_METHOD
def test_private_state_cannot_be_sent(name, outcomes):
    outcome = outcomes[name]
    private = [*outcome.personal_models, *(state for state in outcome.states if state is not None)]
    assert private
    for state in private:
        assert isinstance(state, PrivateState)
        with pytest.raises(TypeError, match="is private to its node"):
            pickle.dumps(state)


@EVERY_METHOD
def test_what_the_server_keeps_is_no_part_of_what_nodes_get(name, outcomes):
    shared = outcomes[name].shared
    assert not shared.server.keys() & shared.arrays.keys()


@EVERY_METHOD
def test_an_observer_can_end_the_training(name, world):
    class Ends(Observer):
        def should_continue(self) -> bool:
            return False

    outcome = run_experiment(settings_of(name, world), observers=[Ends()])
    assert len(outcome.result.rounds) == 1
    assert outcome.result.ended_early == (METHODS[name].rounds(outcome.settings) > 1)


@EVERY_METHOD
def test_a_saved_run_is_read_again(name, outcomes, tmp_path):
    outcome = outcomes[name]
    save_run(outcome, tmp_path / "run")
    kept = load_model(tmp_path / "run")
    assert kept.settings.method == name
    assert kept.header["digest"] == outcome.result.digest
    page = rewrite_report(tmp_path / "run")
    assert page.digest == outcome.result.digest
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000


@EVERY_METHOD
def test_a_saved_run_recommends_nothing_that_was_rated(name, outcomes, tmp_path):
    outcome = outcomes[name]
    save_run(outcome, tmp_path / "run")
    served, ratings = Served(tmp_path / "run"), outcome.dataset.ratings
    ids = outcome.dataset.catalogue.frame["item_id"]
    for number, user in enumerate(outcome.dataset.user_ids.to_list()):
        rated = {str(ids[int(item)]) for item in ratings.item[ratings.user == number]}
        answer = served.recommend(str(user), 10)
        assert answer.known
        assert len(answer.items) == min(10, len(ids) - len(rated))
        assert not rated & {item.item for item in answer.items}
    assert not served.recommend("nobody", 3).known


@EVERY_METHOD
@pytest.mark.parametrize("user_level", ["none", "ridge_head", "kriging"])
def test_a_saved_run_predicts_what_the_run_predicted(name, user_level, outcomes, world, tmp_path):
    outcome = outcomes[name]
    if user_level != "none":
        if name != "averaging":
            pytest.skip("no other method has a user level")
        outcome = run_experiment(settings_of(name, world, user_level=user_level))
    settings = outcome.settings.model_copy(
        update={"serving": outcome.settings.serving.model_copy(update={"refit": "none"})}
    )
    save_run(replace(outcome, settings=settings), tmp_path / "run")
    served = Served(tmp_path / "run")
    items = torch.arange(len(outcome.dataset.catalogue))
    for node, model in list(zip(outcome.personal_nodes, outcome.personal_models, strict=True))[:2]:
        for number in set(node.train.user[:3].tolist()):
            user = served.user(str(outcome.dataset.user_ids[number]))
            assert user is not None
            found = user.model.predict(rows_to_predict(torch.zeros_like(items), items))
            expected = model.predict(rows_to_predict(torch.full_like(items, number), items))
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_a_run_of_a_module_of_ones_own_says_that_it_serves_nobody(world, tmp_path):
    settings = settings_of("averaging", world)
    outcome = run_experiment(settings, module=lambda features: torch.nn.Sequential(torch.nn.Linear(features, 1)))
    save_run(outcome, tmp_path / "run")
    with pytest.raises(HierfedError, match="the run serves no users: it trained a module of your own"):
        Served(tmp_path / "run")


@EVERY_METHOD
def test_results_carry_their_own_words(name, outcomes):
    told = json.loads(outcomes[name].result.model_dump_json())["words"]
    assert told == METHODS[name].words().model_dump(mode="json")


@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_names_a_method(preset):
    assert load_settings(preset).method in METHODS


def test_an_unknown_method_is_an_error():
    with pytest.raises(SettingsError, match="no method 'hierarchicall', did you mean 'hierarchical'"):
        load_settings("hierarchical", {"method": "hierarchicall"})

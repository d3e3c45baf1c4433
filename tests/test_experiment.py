"""A whole experiment: repeatable, the same by every trainer, and told as it goes on."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from hierfed.data.division import assign, load_dataset
from hierfed.errors import HierfedError, SettingsError
from hierfed.experiment import run_experiment
from hierfed.observer import Observer
from hierfed.outcome import Outcome
from hierfed.settings import load_settings
from tests.elsewhere import ELSEWHERE, elsewhere
from tests.reference.loop import train_loop
from tests.small_experiment import (
    SMALL,
    experiment,
    rmse,
    small_ratings,
    split_of,
    stretched,
    write_folder,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_folder(tmp_path_factory.mktemp("ml"))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same ratings as a table without any features or times."""
    path = tmp_path_factory.mktemp("table") / "ratings.csv"
    small_ratings().drop("timestamp").rename({"movieId": "item"}).write_csv(path)
    return str(path)


@pytest.fixture(scope="module")
def outcome(folder: str) -> Outcome:
    """Preset `network` with fine-tuning as well, so that every level has something to do."""
    return experiment(folder, node_level="fine_tuning")


def test_the_same_seed_gives_the_same_model_and_figures(folder: str, outcome: Outcome) -> None:
    again = experiment(folder, node_level="fine_tuning")
    assert again.result.digest == outcome.result.digest
    assert torch.equal(again.shared.arrays["parameters"], outcome.shared.arrays["parameters"])
    for one, other in zip(again.personal_models, outcome.personal_models, strict=True):
        kept, same = (dict(model.tensors()) for model in (one, other))
        assert kept.keys() == same.keys()
        for owner, tensors in same.items():
            assert kept[owner].keys() == tensors.keys()
            assert all(torch.equal(kept[owner][name], tensor) for name, tensor in tensors.items())
    same = {"nodes", "users", "baselines", "personal_baselines", "verdict", "data"}
    assert again.result.model_dump(include=same) == outcome.result.model_dump(include=same)


def test_another_seed_gives_another_model_and_split(folder: str, outcome: Outcome) -> None:
    other = experiment(folder, node_level="fine_tuning", seed=1)
    assert other.result.digest != outcome.result.digest
    assert not np.array_equal(split_of(other).train, split_of(outcome).train)


@pytest.mark.parametrize("preset", ["network", "paper"])
def test_threads_do_not_change_a_bit(folder: str, preset: str) -> None:
    one, two = (experiment(folder, preset, threads=threads) for threads in (1, 2))
    assert one.result.digest == two.result.digest
    assert one.result.nodes == two.result.nodes
    assert one.result.baselines == two.result.baselines


def test_whoever_asks_is_told_how_many_nodes_were_judged(folder: str) -> None:
    told: list[tuple[int, int]] = []

    class Noting(Observer):
        def judged(self, done: int, nodes: int) -> None:
            told.append((done, nodes))

    settings = load_settings("network", {**SMALL, "data.source": folder, "rounds": 1, "personal_nodes": 4})
    run_experiment(settings, observers=[Noting()])
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("preset", ["network", "paper"])
def test_the_stacked_trainer_equals_the_loop(folder: str, preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stacked = experiment(folder, preset).result
    monkeypatch.setattr("hierfed.methods.averaging.build.train_stacked", train_loop)
    loop = experiment(folder, preset).result
    assert stacked.digest != loop.digest, "sums in another order have other last digits"
    for one, other in zip(stacked.rounds, loop.rounds, strict=True):
        assert one.global_rmse == pytest.approx(other.global_rmse, abs=1e-5)
        assert one.train_loss == pytest.approx(other.train_loss, abs=1e-5)
    for one, other in zip(stacked.nodes, loop.nodes, strict=True):
        assert one.rmse_after == pytest.approx(other.rmse_after, abs=1e-4)


@pytest.mark.parametrize("preset", ["network", "paper", "hierarchical"])
def test_a_run_on_a_device_has_the_bits_of_a_run_on_the_cpu(folder: str, preset: str, monkeypatch) -> None:
    asked: list[str] = []

    def device_of(name: str) -> torch.device:
        asked.append(name)
        return ELSEWHERE

    changes = {"threads": 1} | ({"select": False} if preset == "hierarchical" else {})
    here = experiment(folder, preset, **changes)
    for method in ("averaging", "hierarchical"):
        monkeypatch.setattr(f"hierfed.methods.{method}.build.device_of", device_of)
    with elsewhere():
        there = experiment(folder, preset, **changes)
    assert asked
    assert there.result.digest == here.result.digest
    found, expected = (repr((each.result.nodes, each.result.baselines)) for each in (there, here))
    assert found == expected


@pytest.mark.parametrize("preset", ["network", "hierarchical"])
def test_a_gpu_that_is_not_there_is_refused(folder: str, preset: str, monkeypatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SettingsError, match=r"training.device 'cuda': torch finds no GPU .*: set it to 'cpu'"):
        experiment(folder, preset, device="cuda")


def test_torch_s_own_threads_are_left_as_they_were(folder: str) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        experiment(folder, rounds=1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("how", ["rows", "users", "sizes", "genre", "time"])
def test_every_partition_runs_and_gives_finite_figures(folder: str, how: str) -> None:
    personal = "users" if how == "rows" else how
    # Nodes of many users each, so that Dirichlet finds a draw without an empty node.
    changes = {"nodes": 2, "personal_nodes": 2, "concentration": 5.0, "skew": 0.5}
    outcome = experiment(folder, partition=how, personal_partition=personal, rounds=1, **changes)
    nodes, personal_nodes = assign(outcome.dataset, split_of(outcome), outcome.settings)
    assert sum(len(node.train) for node in nodes) == outcome.result.data.split["train"]
    assert sum(len(node.test) for node in personal_nodes) == outcome.result.data.split["personal_test"]
    if how != "rows":
        first, second = (set(node.train.user.tolist()) for node in nodes)
        assert not first & second
    assert np.isfinite(outcome.result.final_rmse)
    assert np.isfinite([node.gain for node in outcome.result.nodes if node.test_rows]).all()


@pytest.mark.parametrize("user_level", ["none", "bias", "ridge_head"])
@pytest.mark.parametrize("node_level", ["none", "fine_tuning", "head", "ditto", "bias"])
def test_every_personalisation_runs_and_gives_finite_figures(folder: str, node_level: str, user_level: str) -> None:
    outcome = experiment(folder, node_level=node_level, user_level=user_level, rounds=1)
    result, shared = outcome.result, outcome.shared.arrays["parameters"]
    assert np.isfinite([node.rmse_after for node in result.nodes]).all()
    moves_first_layer = node_level in ("fine_tuning", "ditto")
    assert all((node.weight_change_l2 > 0) == moves_first_layer for node in result.nodes)
    for model in outcome.personal_models:
        assert torch.equal(model.parameters, shared) == (node_level == "none")
        assert (model.heads is None) == (user_level == "none")
    if node_level == user_level == "none":
        assert all(node.gain == 0 for node in result.nodes)
        assert set(result.users.gains) == {0.0}
    else:
        assert result.users.rmse_after != result.users.rmse_before


def test_early_stopping_never_does_worse_than_the_global_model_on_its_validation_rows(folder: str) -> None:
    """A learning rate that ruins everything: the global model, as epoch 0, must be kept."""
    changes: dict[str, Any] = {"node_level": "fine_tuning", "user_level": "none", "tuning_learning_rate": 50.0}
    kept = experiment(folder, validation=0.3, **changes).result
    ruined = experiment(folder, **changes).result
    assert kept.users.rmse_after < ruined.users.rmse_after
    assert [node.gain for node in kept.nodes] == [0.0] * 3


def make_module(features: int) -> torch.nn.Module:
    torch.manual_seed(3)
    layers = [torch.nn.Linear(features, 5), torch.nn.Tanh(), torch.nn.LayerNorm(5), torch.nn.Linear(5, 1)]
    return torch.nn.Sequential(*layers)


def test_a_module_of_one_s_own_is_trained_alike_by_vmap_and_by_the_loop(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stacked = experiment(folder, module=make_module, node_level="fine_tuning")
    monkeypatch.setattr("hierfed.methods.averaging.build.train_stacked", train_loop)
    loop = experiment(folder, module=make_module, node_level="fine_tuning")
    for one, other in zip(stacked.result.rounds, loop.result.rounds, strict=True):
        assert one.global_rmse == pytest.approx(other.global_rmse, abs=1e-5)
    assert stacked.result.users.rmse_after == pytest.approx(loop.result.users.rmse_after, abs=1e-4)
    features = len(stacked.result.data.features)
    assert stacked.shared.arrays["parameters"].shape == (features * 5 + 5 + 10 + 6,)


def test_a_module_s_rating_is_its_own(folder: str) -> None:
    outcome = experiment(folder, module=make_module, rounds=1)
    module = make_module(len(outcome.result.data.features))
    torch.nn.utils.vector_to_parameters(outcome.shared.arrays["parameters"], module.parameters())
    test = outcome.dataset.ratings.take(split_of(outcome).test)
    with torch.no_grad():
        expected = stretched(outcome, module(outcome.method.features).double()[:, 0].numpy()[test.item])
    assert outcome.result.final_rmse == pytest.approx(rmse(expected - test.value), abs=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda features: torch.nn.Sequential(torch.nn.BatchNorm1d(features), torch.nn.Linear(features, 1)), "batch"),
        (lambda features: torch.nn.Sequential(torch.nn.Linear(features, 1), torch.nn.PReLU()), "Linear"),
        (lambda features: torch.nn.Linear(features, 1, bias=False), "bias"),
    ],
)
def test_a_module_that_cannot_be_averaged_or_has_no_head_is_refused(folder: str, make: Any, message: str) -> None:
    with pytest.raises((HierfedError, ValueError), match=message):
        experiment(folder, module=make)


def test_observers_are_told_of_every_stage_and_round_in_order(folder: str) -> None:
    told: list[Any] = []

    class Noting(Observer):
        def stage(self, name: str) -> None:
            told.append(name)

        def round(self, record: Any) -> None:
            told.append(record)

    settings = load_settings("network", {**SMALL, "data.source": folder})
    result = run_experiment(settings, observers=[Noting()]).result
    assert told == ["data", "train", *result.rounds, "personalise", "baselines"]


class Stopping(Observer):
    """An observer that ends the training after so many rounds, and notes shares."""

    def __init__(self, rounds: int):
        self.rounds, self.ended, self.shares = rounds, 0, list[tuple[int, float]]()

    def share(self, number: int, share: float) -> None:
        self.shares.append((number, share))

    def round(self, record: Any) -> None:
        self.ended = record.round

    def should_continue(self) -> bool:
        return self.ended < self.rounds


@pytest.mark.parametrize("changes", [{"preset": "network"}, {"preset": "paper", "participation": 2, "dropout": 0.2}])
def test_a_run_that_ended_early_is_a_run_of_fewer_rounds(folder: str, changes: dict[str, Any]) -> None:
    """But for the rivals that are trained, which a run that was stopped does without."""
    changes = {**SMALL, "data.join": "none", "data.source": folder, **changes}
    preset, stopping = changes.pop("preset"), Stopping(2)
    asked = load_settings(preset, changes | {"rounds": 5})
    early = run_experiment(asked, observers=[stopping])
    shorter = run_experiment(load_settings(preset, changes | {"rounds": 2}))
    assert early.result.ended_early
    assert not shorter.result.ended_early
    assert early.settings.training.rounds == 5
    found, expected = (figures(each.result) for each in (early, shorter))
    assert found == expected
    assert found["digest"] != figures(run_experiment(asked).result)["digest"]


def test_after_an_end_was_asked_for_the_stages_of_lists_take_one_round_each(folder: str) -> None:
    """What is done after Ctrl-C has a bound that hangs on no setting."""
    small = {"rank": 2, "embedding_rank": 3, "embedding_rounds": 1, "implicit_rank": 3, "implicit_rounds": 9}
    changes = {"data.source": folder, "nodes": 3, "personal_nodes": 3, "select": False, **small}
    asked = load_settings("hierarchical", {**changes, "rounds": 5})
    stopped, whole = (run_experiment(asked, observers=[Stopping(rounds)]) for rounds in (2, 5))
    assert stopped.result.ended_early
    assert (stopped.models["rating"].round, whole.models["rating"].round) == (2, 5)
    assert (stopped.models["implicit"].round, whole.models["implicit"].round) == (1, 9)
    assert stopped.result.ranking.keys() == whole.result.ranking.keys()


def figures(result: Any) -> Any:
    """All that a result says, but for what it was asked for and the time that it took."""
    told = json.loads(result.model_dump_json(exclude={"settings", "seconds", "ended_early"}))
    told.pop("verdict")
    for baselines in (told["baselines"], told["personal_baselines"]):
        baselines.update(dict.fromkeys(("local_only", "centralised")))
    for record in told["rounds"]:
        record.pop("seconds")
    told["metrics"].pop("seconds")
    return told


def test_no_round_is_missing_where_the_last_one_is_the_last_one_wanted(folder: str) -> None:
    stopping = Stopping(2)
    settings = load_settings("network", {**SMALL, "data.source": folder})
    assert not run_experiment(settings, observers=[stopping]).result.ended_early


def test_a_method_without_rounds_never_ends_early(folder: str) -> None:
    settings = load_settings("local", {"nodes": 3, "personal_nodes": 3, "data.source": folder})
    result = run_experiment(settings, observers=[Stopping(0)]).result
    assert not result.ended_early
    assert result.rounds[0].ratings == 0


@pytest.mark.parametrize("changes", [{}, {"privacy_unit": "example", "output_bias": "random"}])
def test_a_round_of_a_network_learns_from_each_rating_once_an_epoch(folder: str, changes: dict[str, Any]) -> None:
    if changes:
        pytest.importorskip("dp_accounting")
    result = experiment(folder, local_epochs=3, **changes).result
    assert [record.ratings for record in result.rounds] == [3 * result.data.split["train"]] * 2


def test_a_round_of_the_hierarchical_model_learns_from_each_rating_once(folder: str) -> None:
    settings = {"nodes": 3, "personal_nodes": 3, "rounds": 4, "protocol": "warm", "min_raters": 2}
    settings |= {"rank_items": False, "select": False, "embedding_rank": 4, "data.source": folder}
    stopping = Stopping(2)
    asked = load_settings("hierarchical", settings)
    early = run_experiment(asked, observers=[stopping]).result
    assert [record.ratings for record in early.rounds] == [early.data.split["train"]] * 2
    assert figures(early) == figures(run_experiment(load_settings("hierarchical", settings | {"rounds": 2})).result)
    # Seven opening rounds gather the embedding; each begins at 0 and ends with all ratings.
    assert [number for number, share in stopping.shares if share == 0] == [-7, -6, -5, -4, -3, -2, -1, 0, 1, 2]
    assert [number for number, share in stopping.shares if share == 1] == [-7, -6, -5, -4, -3, -2, -1, 0, 1, 2]


def test_more_nodes_than_users_is_refused_in_one_line(folder: str) -> None:
    with pytest.raises(HierfedError, match="31 nodes cannot share 9 users") as caught:
        experiment(folder, personal_nodes=31)
    assert str(caught.value).endswith("(--set personal_nodes=9)")
    assert "\n" not in str(caught.value)


def test_a_table_without_times_cannot_be_divided_by_time(table: str) -> None:
    with pytest.raises(HierfedError, match="needs timestamps"):
        experiment(table, partition="time")


def test_load_dataset_reads_what_the_settings_name(folder: str) -> None:
    dataset = load_dataset(load_settings("network", {"data.source": folder}))
    expected = small_ratings()
    assert len(dataset.ratings) == len(expected)
    assert float(dataset.ratings.value.sum(dtype=float)) == pytest.approx(expected["rating"].sum())


def test_a_run_that_diverges_says_so(folder: str) -> None:
    with pytest.raises(HierfedError, match=r"diverged in round 1: lower training\.learning_rate"):
        experiment(folder, learning_rate=1e30)


def test_a_personalisation_that_diverges_says_so(folder: str) -> None:
    with pytest.raises(HierfedError, match=r"diverged on node 1: lower personalisation\.tuning_learning_rate"):
        experiment(folder, node_level="fine_tuning", tuning_learning_rate=1e30)


class BlindTo(torch.nn.Module):
    """A network whose loss is no number once it has learned from an item of this genre, and whose ratings are."""

    def __init__(self, features: int, genre: int):
        super().__init__()
        self.genre, self.head = genre, torch.nn.Linear(features, 1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        rated: torch.Tensor = self.head(inputs)
        if self.training:
            rated = rated + torch.where(inputs[..., self.genre : self.genre + 1] > 0, torch.nan, 0.0).detach()
        return rated


@pytest.mark.parametrize("preset", ["network", "paper"])
def test_a_loss_that_is_no_number_ends_the_run(folder: str, preset: str) -> None:
    with pytest.raises(HierfedError, match=r"^training diverged in round 1: lower training\.learning_rate$"):
        experiment(folder, preset, module=lambda features: BlindTo(features, 2))


def test_a_module_s_first_parameters_come_from_the_seed(folder: str) -> None:
    def make(features: int) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Linear(features, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))

    digests = []
    with torch.random.fork_rng(devices=[]):
        for place_of_torchs_own_generator in (1, 2):
            torch.manual_seed(place_of_torchs_own_generator)
            digests.append(experiment(folder, module=make).result.digest)
    assert digests[0] == digests[1]

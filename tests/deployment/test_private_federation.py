"""A federation under differential privacy: noise from secrets, one release a round, and nothing without noise."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from hierfed.deployment.checkpoint import COPY, FILE
from hierfed.deployment.local_models import personalise
from hierfed.deployment.policy import Policy
from hierfed.engines.exchange import Request
from hierfed.engines.in_process import run_rounds
from hierfed.engines.secure_round import STEPS, UNMASK
from hierfed.errors import HierfedError
from hierfed.methods import Case, prepare
from hierfed.privacy.secure_sum.setup import colluders, smallest_threshold
from hierfed.private_randomness import PrivateStreams
from hierfed.results import DeployedRound, Result
from hierfed.settings import Settings, load_settings
from tests.deployment.conftest import Data, Village, villages

NAMES = ("node 1", "node 2", "node 10")
SCALE = (0.5, 5.0)


class Died(Exception):
    """The server's process ended."""


def private(**changes: Any) -> Settings:
    return load_settings("private", {"epsilon": 3.0, **changes})


@pytest.fixture(scope="module")
def served(data: Data, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Village, Result]]:
    """A federation that is over, for tests that leave it as it is."""
    with villages(data, tmp_path_factory.mktemp("served")) as make:
        found = make(private())
        yield found, found.serve()


def died_after(number: int):
    def on_round(record: DeployedRound) -> None:
        if record.round == number:
            raise Died

    return on_round


def test_the_budget_that_was_given_is_spent_and_nothing_but_releases_is_asked_for(served):
    found, result = served
    assert result.privacy.epsilon_spent == pytest.approx(3.0, rel=1e-6)
    assert [each.contributors for each in result.federation.rounds] == [list(NAMES)] * 3
    assert all(each.train_loss == [] for each in result.federation.rounds)
    assert (result.federation.gain, result.data.ratings) == (None, 0)
    assert {kind for _, kind, _ in found.sent} == {"hello", "setup", "round", *STEPS, "finish", "ledger", "goodbye"}
    entries = [json.loads(line)["entry"] for line in (found.server / "ledger.jsonl").read_text().splitlines()]
    spent = [entry["epsilon"] for entry in entries if entry["kind"] == "round"]
    assert spent == sorted(spent)
    assert spent[-1] == result.privacy.epsilon_spent
    for name in NAMES:
        assert found.sides[name].state.released() == (found.sides[name].state.plan()[0].training, [1, 2, 3])


def test_but_for_the_noise_it_is_the_prior_of_one_process(village, data, monkeypatch):
    def no_noise(stream: Any, deviation: float, grid: float, count: int) -> torch.Tensor:
        return torch.zeros(count, dtype=torch.float64)

    monkeypatch.setattr("hierfed.methods.private_prior.private_prior.discrete_gaussian", no_noise)
    settings = private(epsilon=1e6)
    found = village(settings)
    found.serve()
    streams = PrivateStreams(bytes(32))
    method = prepare(Case(settings, data.catalogue, SCALE, streams=streams)).method
    # What noise is reckoned with hangs on how many nodes share it, which nodes that may collude do not.
    plan, _ = found.sides["node 1"].state.plan()
    expected = run_rounds(replace(method, noise_nodes=plan.method.noise_nodes), data.nodes(), 3).shared.arrays
    arrays = found.models()["rating"].arrays
    for name, array in expected.items():
        torch.testing.assert_close(arrays[name], array, rtol=0, atol=1e-9, msg=lambda text, name=name: name + text)


def test_two_trainings_have_noise_of_their_own(served, village):
    assert village(private()).serve().digest != served[1].digest


def test_those_who_stay_to_a_sum_s_end_and_do_not_collude_add_all_the_noise(served):
    found, _ = served
    plan, _ = found.sides["node 1"].state.plan()
    colluding = colluders(3, 0.33)
    assert plan.method.noise_nodes == smallest_threshold(3, colluding) - colluding == 2


def test_a_server_that_was_stopped_goes_on_with_what_was_spent(village):
    found = village(private())
    with pytest.raises(Died):
        found.serve(on_round=died_after(2))
    found.start(*NAMES)
    result = found.serve()
    assert [each.round for each in found.records] == [1, 2, 3]
    assert result.privacy.epsilon_spent == pytest.approx(3.0, rel=1e-6)


def test_a_sum_that_was_opened_is_not_given_again(village):
    """The server ends after the nodes have opened a sum, and before it has written it down."""
    found = village(private())

    def meddle(name: str, kind: str, facts: Any) -> str:
        return "stop" if kind == UNMASK else ""

    with pytest.raises(BaseException, match=r"^$"):
        found.serve(meddle)
    found.start(*NAMES)
    with pytest.raises(HierfedError, match="abandoned 5 times"):
        found.serve()
    assert "whose sum was opened: it would cost twice" in str(found.sides["node 1"].failure)


def test_a_sum_that_was_not_opened_is_asked_for_again(village):
    found, lost = village(private()), []

    def meddle(name: str, kind: str, facts: Any) -> str:
        if kind == "mask" and len(lost) < 2:
            lost.append(name)
            return "lost"
        return ""

    result = found.serve(meddle)
    assert [each.abandoned for each in result.federation.rounds] == [True, False, False, False]
    assert result.privacy.epsilon_spent == pytest.approx(3.0, rel=1e-6)


def test_another_training_is_refused_by_a_node_whose_budget_is_spent(village):
    found = village(private())
    found.serve()
    model = found.sides["node 1"].state.model("rating").digest()
    found.start(*NAMES)
    for name in (FILE, COPY):
        (found.server / name).unlink()
    with pytest.raises(HierfedError):
        found.serve()
    assert "have spent their budget in training" in str(found.sides["node 1"].failure)
    assert found.sides["node 1"].state.model("rating").digest() == model


@pytest.mark.parametrize(("epsilon", "joins"), [(2.9, False), (3.0, True)])
def test_a_node_joins_for_no_more_than_its_users_were_promised(epsilon, joins, village):
    found = village(private())
    found.start("node 2", policy=Policy(least_nodes=1, least_raters=1, epsilon=epsilon))
    result = found.serve()
    assert ("node 2" in result.federation.rounds[0].contributors) == joins
    if not joins:
        assert "has epsilon 3, and --epsilon asks for 2.9" in str(found.sides["node 2"].failure)


def test_a_node_that_was_promised_privacy_joins_none_without(village, make_settings):
    found = village(make_settings("network", secure_sums=True, scale=list(SCALE)))
    found.start("node 2", policy=Policy(least_nodes=1, least_raters=1, epsilon=8.0))
    found.serve()
    assert "has no differential privacy, and --epsilon asks for 8" in str(found.sides["node 2"].failure)


def test_sums_without_noise_are_refused(served):
    with pytest.raises(HierfedError, match="asks for a sum without noise"):
        served[0].sides["node 1"].answer(Request("judge"))


def test_users_models_are_made_on_the_node_from_the_shared_prior(served, data):
    found, _ = served
    users = {str(user) for user in data.rows("node 1", False).user}
    made = personalise(found.sides["node 1"].state)
    assert made.users == len(users)
    assert len(list((made.folder / "node-node 1").iterdir())) == len(users)


def test_the_secret_is_the_node_s_own_and_readable_by_its_owner_alone(served):
    found, _ = served
    secrets = [(found.place / name / "node.secret") for name in NAMES]
    assert len({path.read_bytes() for path in secrets}) == len(NAMES)
    assert all(path.stat().st_mode & 0o077 == 0 for path in secrets)

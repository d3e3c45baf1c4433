"""A server through to its end, whatever happens on the way: the model is that of the same rows in one process."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from safetensors import safe_open
from safetensors.torch import load_file

from hierfed.atomic import held
from hierfed.deployment.admission import NodeAdmission, ServerObserver
from hierfed.deployment.agreement import agree
from hierfed.deployment.bookkeeping import Bookkeeper
from hierfed.deployment.checkpoint import load_checkpoint
from hierfed.deployment.hosting import LOCK, Hosting, host
from hierfed.deployment.protocol import Introduction, introduce
from hierfed.deployment.round_log import read_rounds
from hierfed.deployment.round_states import RoundStates
from hierfed.deployment.state import NodeState
from hierfed.engines.flower.admission import AdmissionRefused
from hierfed.engines.flower.patience import Patience
from hierfed.engines.flower.records import read_reply
from hierfed.errors import HierfedError, SettingsError
from hierfed.federated.contract import Contribution, SharedModel
from hierfed.methods.averaging.averaging import FederatedAveraging
from hierfed.methods.hierarchical.hierarchical import FactorsState
from hierfed.results import DeployedRound, write_record
from hierfed.serving.served import Served
from tests.deployment.conftest import Village

PRESETS = ("network", "hierarchical")
NAMES = ["node 1", "node 2", "node 10"]
ROUNDS = {
    "network": [("features", 0), ("features", 1)] + [("rating", number) for number in range(4)],
    "hierarchical": [("rating", number) for number in range(-2, 5)]
    + [("ease", 0), ("ease", 1), ("implicit", 0), ("implicit", 1), ("implicit", 2)],
}
ONCE_IN_EACH_STAGE = [("hierarchical", *each) for each in [("rating", 2), ("ease", 0), ("implicit", 1)]]


class Died(Exception):
    """The server's process ended."""


def digests(models: Mapping[str, Any]) -> dict[str, str]:
    return {stage: model.digest() for stage, model in models.items()}


def during(stage: str, number: int, what: str, names: tuple[str, ...] = ()):
    """Meddle with the round's messages to these nodes; with all of them if none is named."""

    def meddle(name: str, kind: str, facts: Mapping[str, Any]) -> str:
        hit = kind == "round" and (facts["stage"], facts["round"]) == (stage, number) and (not names or name in names)
        return what if hit else ""

    return meddle


def die_after(stage: str, number: int):
    def on_round(record: DeployedRound) -> None:
        if (record.stage, record.round) == (stage, number):
            raise Died

    return on_round


@pytest.mark.parametrize("preset", PRESETS)
def test_the_model_is_that_of_the_same_rows_in_one_process(preset, village, make_settings, reference):
    found, expected = village(make_settings(preset)), reference(preset)
    result = found.serve()
    assert digests(found.models()) == digests(expected.models)
    assert result.digest == expected.models["rating"].digest()
    assert result.federation.gain.rows == sum(len(node.test) for node in expected.nodes)
    assert result.federation.gain.rmse_before == pytest.approx(expected.rmse_before, rel=1e-12)
    assert result.federation.gain.rmse_after == pytest.approx(expected.rmse_after, rel=1e-12)
    if expected.coverage is None:
        assert math.isnan(result.federation.gain.coverage)
    else:
        assert result.federation.gain.coverage == pytest.approx(expected.coverage, rel=1e-12)
    # Else these tests would not see whether a personal model is used at all.
    assert abs(expected.rmse_before - expected.rmse_after) > 0.01


def test_ratings_times_twenty_give_the_same_model_and_errors_times_twenty(
    data, village, make_settings, tmp_path, monkeypatch
):
    one = village(make_settings("network", **{"data.scale": [0.5, 5]})).serve()
    file = type(data).file

    def twentyfold(self, name, is_held):
        path = tmp_path / f"{name} {is_held}.parquet"
        pl.read_parquet(file(self, name, is_held)).with_columns(pl.col("rating") * 20).write_parquet(path)
        return str(path)

    monkeypatch.setattr(type(data), "file", twentyfold)
    twenty = village(make_settings("network", **{"data.scale": [10, 100]})).serve()
    assert twenty.digest == one.digest
    assert twenty.federation.gain.rmse_before == pytest.approx(20 * one.federation.gain.rmse_before, rel=1e-9)
    assert twenty.federation.gain.rmse_after == pytest.approx(20 * one.federation.gain.rmse_after, rel=1e-9)
    losses = [[loss for record in each.rounds for loss in record.train_loss] for each in (one, twenty)]
    assert losses[0]
    assert losses[1] == pytest.approx([400 * loss for loss in losses[0]], rel=1e-9)


def test_a_second_server_on_the_same_folder_is_refused(tmp_path, data, make_settings):
    with held(tmp_path / LOCK), pytest.raises(SettingsError, match="another server is using it; choose another --name"):
        host(
            make_settings("network"),
            data.catalogue,
            tmp_path,
            Hosting("127.0.0.1", 1),
            1,
            1,
            Patience(),
            ServerObserver(),
        )
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


@pytest.mark.parametrize("preset", PRESETS)
def test_the_result_tells_each_round_and_nothing_of_the_data_s_place(preset, village, make_settings, reference, data):
    found, expected = village(make_settings(preset, **{"data.source": "/secret/place"})), reference(preset)
    result = found.serve()
    assert [(each.stage, each.round) for each in result.federation.rounds] == ROUNDS[preset]
    assert all(
        each.contributors == NAMES and not each.refused and not each.abandoned for each in result.federation.rounds
    )
    assert result.federation.nodes == NAMES
    assert result.data.items == len(data.catalogue)
    assert result.data.ratings == sum(len(node.train) for node in expected.nodes)
    assert "/secret/place" not in result.model_dump_json()
    assert found.planned == [len(ROUNDS[preset])]
    for record in result.federation.rounds:
        told = record.stage == "rating" and record.round > 0
        assert len(record.train_loss) == told
        assert all(np.isfinite(record.train_loss))
    assert read_rounds(found.server) == result.federation.rounds
    assert len((found.server / "rounds.jsonl").read_text().splitlines()) == len(result.federation.rounds)


def test_the_bytes_are_those_of_the_arrays(village, make_settings):
    found = village(make_settings("network"))
    result = found.serve()
    opening, first = result.federation.rounds[2:4]
    parameters = found.models()["rating"].nbytes
    assert opening.bytes_up == 3 * 2 * 8
    assert first.bytes_up == 3 * (parameters // 4 + 1 + 1) * 8
    assert opening.bytes_down == first.bytes_down == 3 * parameters


def test_the_server_s_folder_is_a_run_that_recommends(village, make_settings, reference, data):
    found, expected = village(make_settings("hierarchical")), reference("hierarchical").models
    # The result is what `host` writes last: without it this would be half a run.
    write_record(found.serve(), found.server / "result.json")
    served = Served(found.server)
    assert served.shared.digest() == expected["rating"].digest()
    assert served.catalogue.digest() == data.catalogue.digest()
    ranking = load_file(found.server / "ranking.safetensors")
    torch.testing.assert_close(ranking["ease.weights"], expected["ease"].arrays["weights"].float(), rtol=0, atol=0)
    torch.testing.assert_close(ranking["implicit.factors"], expected["implicit"].arrays["factors"], rtol=0, atol=0)
    with safe_open(found.server / "model.safetensors", framework="pt") as file:
        header = file.metadata()
    assert header["digest"] == expected["rating"].digest()
    assert "source" not in json.loads(header["settings"]).get("data", {})
    assert not (found.server / "private").exists()


def dying(found: Village, stage: str, number: int, when: str) -> None:
    """The server ends after this round, or after the nodes have answered and before it has their answers."""
    with pytest.raises(BaseException, match=r"^$") as ended:
        if when == "after":
            found.serve(on_round=die_after(stage, number))
        else:
            found.serve(during(stage, number, "stop"))
    assert ended.type.__name__ == ("Died" if when == "after" else "Stopped")
    assert ((stage, number) in [(each.stage, each.round) for each in found.records]) == (when == "after")


@pytest.mark.parametrize(("preset", "stage", "number"), [*ONCE_IN_EACH_STAGE, ("network", "rating", 2)])
@pytest.mark.parametrize("when", ["after", "before"])
def test_a_server_that_dies_in_a_round_goes_on_to_the_same_model(
    when, preset, stage, number, village, make_settings, reference
):
    found = village(make_settings(preset))
    dying(found, stage, number, when)
    before = len(found.records)
    found.start(*NAMES)
    result = found.serve()
    assert digests(found.models()) == digests(reference(preset).models)
    assert [(each.stage, each.round) for each in found.records] == ROUNDS[preset]
    assert found.planned[-1] == len(ROUNDS[preset]) - before
    assert result.federation.gain.rmse_after == pytest.approx(reference(preset).rmse_after, rel=1e-12)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("nodes", ["begin again", "go on"])
@pytest.mark.parametrize("when", ["after", "before"])
def test_a_server_that_dies_in_every_round_still_ends_with_the_same_model(
    when, nodes, preset, village, make_settings, reference
):
    found = village(make_settings(preset))
    for done, (stage, number) in enumerate(ROUNDS[preset], when == "after"):
        dying(found, stage, number, when)
        assert len(found.records) == done
        if nodes == "begin again":
            found.start(*NAMES)
    result = found.serve()
    assert digests(found.models()) == digests(reference(preset).models)
    assert [(each.stage, each.round) for each in found.records] == ROUNDS[preset]
    left = list(range(len(ROUNDS[preset]), 0, -1))
    assert found.planned == [*left, 0] if when == "after" else [*left, 1]
    assert result.federation.gain.rmse_after == pytest.approx(reference(preset).rmse_after, rel=1e-12)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_finished_server_started_again_hands_out_the_same_models(preset, village, make_settings):
    found = village(make_settings(preset))
    first = found.serve()
    models = digests(found.models())
    for name in NAMES:
        for path in (found.place / name).glob("*.shared.safetensors"):
            path.unlink()
    found.start(*NAMES)
    again = found.serve()
    assert (again.digest, again.federation.gain, again.federation.nodes) == (
        first.digest,
        first.federation.gain,
        first.federation.nodes,
    )
    assert len(found.records) == len(ROUNDS[preset])
    assert digests(found.models()) == models
    for name in NAMES:
        model = found.sides[name].state.model("rating")
        assert model is not None
        assert model.digest() == first.digest


def test_a_checkpoint_of_other_settings_is_refused(village, make_settings):
    found = village(make_settings("network"))
    with pytest.raises(Died):
        found.serve(on_round=die_after("rating", 1))
    found.settings = make_settings("network", learning_rate=0.5)
    with pytest.raises(HierfedError, match=r"another training|other settings"):
        found.serve()


@pytest.mark.parametrize(("stage", "number"), [("rating", number) for number in (-2, 0, 1, 4)])
def test_a_node_that_misses_a_round_goes_on(stage, number, village, make_settings, reference, train_by_hand):
    found, expected = village(make_settings("hierarchical")), reference("hierarchical")
    result = found.serve(during(stage, number, "lost", ("node 2",)))
    assert [
        each.contributors for each in result.federation.rounds if each.round != number or each.stage != "rating"
    ] == [NAMES] * 11
    (missed,) = (each for each in result.federation.rounds if (each.stage, each.round) == (stage, number))
    assert missed.contributors == ["node 1", "node 10"]
    by_hand, _ = train_by_hand(expected.method, expected.nodes, 4, {number: {1}})
    assert result.digest == by_hand.digest()
    assert result.digest != expected.models["rating"].digest()
    assert any(event.startswith("node node 2 has not answered within 5") for event in found.events)


@pytest.mark.parametrize("rank_items", [True, False])
def test_a_node_that_missed_the_last_round_is_judged_as_its_own_models_will_be(
    rank_items, village, make_settings, reference, train_by_hand
):
    """Its sums are not in the model, so they are not taken out of it."""
    from hierfed.deployment.local_models import judged, personalise

    found, expected = village(make_settings("hierarchical", rank_items=rank_items)), reference("hierarchical")
    found.serve(during("rating", 4, "lost", ("node 2",)))
    (answer,) = [reply for name, kind, reply in found.sent if (name, kind) == ("node 2", "judge")]
    shared, _ = train_by_hand(expected.method, expected.nodes, 4, {4: {1}})
    (model,) = expected.method.personalise(shared, [expected.nodes[1]], [None])
    plan, _ = found.sides["node 2"].state.plan()
    by_hand = judged(plan, shared, model, len(expected.nodes[1].train), expected.nodes[1].test)
    sent = {name: float(array[0]) for name, array in read_reply(answer).contribution.arrays.items()}
    assert sent == pytest.approx({name: float(array) for name, array in by_hand.arrays.items()}, rel=1e-12)
    assert personalise(found.sides["node 2"].state).users == len(np.unique(expected.nodes[1].train.user))


def test_a_late_answer_is_refused_and_told_with_the_next_round(village, make_settings, reference, train_by_hand):
    found, expected = village(make_settings("hierarchical")), reference("hierarchical")
    result = found.serve(during("rating", 2, "late", ("node 10",)))
    missed, after = (each for each in result.federation.rounds if each.stage == "rating" and each.round in (2, 3))
    assert missed.contributors == ["node 1", "node 2"]
    assert [(each.node, each.reason) for each in missed.refused + after.refused] == [
        ("node 10", "has not answered within 5 s"),
        ("node 10", "came after its round had ended"),
    ]
    # The node has taken part in the round, as far as it knows.
    assert after.contributors == NAMES
    assert result.digest != expected.models["rating"].digest()


def test_a_round_without_a_quorum_is_abandoned_and_asked_again(village, make_settings, reference):
    # In this round users have precisions of their own, which nodes must have from the round before.
    found, asked = village(make_settings("hierarchical")), []

    def meddle(name: str, kind: str, facts: Mapping[str, Any]) -> str:
        if kind == "round" and (facts["stage"], facts["round"], name) == ("rating", 4, "node 1"):
            asked.append(name)
            return "lost" if len(asked) < 3 else ""
        return ""

    result = found.serve(meddle, quorum=3)
    assert [(each.round, each.abandoned) for each in result.federation.rounds if each.stage == "rating"][6:] == [
        (4, True),
        (4, True),
        (4, False),
    ]
    assert all(each.train_loss == [] for each in result.federation.rounds if each.abandoned)
    assert digests(found.models()) == digests(reference("hierarchical").models)


def test_a_round_that_fails_again_and_again_ends_in_one_line_and_can_be_gone_on_with(village, make_settings, reference):
    found = village(make_settings("hierarchical"))
    with pytest.raises(HierfedError, match="round 3 of 'rating' was abandoned 5 times: 2 of at least 3 nodes") as ended:
        found.serve(during("rating", 3, "lost", ("node 2",)), quorum=3)
    assert "\n" not in str(ended.value)
    found.serve(quorum=3)
    assert digests(found.models()) == digests(reference("hierarchical").models)


@pytest.mark.parametrize(("preset", "stage", "number"), ONCE_IN_EACH_STAGE)
def test_a_node_that_begins_again_during_a_training_goes_on_with_it(
    preset, stage, number, village, make_settings, reference
):
    found = village(make_settings(preset))

    def on_round(record: DeployedRound) -> None:
        if (record.stage, record.round) == (stage, number):
            found.start("node 2")
            (old,) = [key for key, side in found.grid.sides.items() if side.name == "node 2"]
            del found.grid.sides[old]
            found.grid.sides[old + 1] = found.sides["node 2"]

    result = found.serve(on_round=on_round)
    assert all(each.contributors == NAMES for each in result.federation.rounds)
    assert digests(found.models()) == digests(reference(preset).models)
    assert result.federation.gain.rmse_after == pytest.approx(reference(preset).rmse_after, rel=1e-12)
    assert "node node 2 is gone" in found.events


@pytest.mark.parametrize(("preset", "stage", "number"), ONCE_IN_EACH_STAGE)
def test_a_node_that_joins_during_a_training_contributes_from_then_on(preset, stage, number, village, make_settings):
    found = village(make_settings(preset), "node 1", "node 2")

    def on_round(record: DeployedRound) -> None:
        if (record.stage, record.round) == (stage, number):
            found.start("node 10")
            found.grid.sides[99] = found.sides["node 10"]

    result = found.serve(on_round=on_round)
    place = ROUNDS[preset].index((stage, number)) + 1
    assert [each.contributors for each in result.federation.rounds] == [NAMES[:2]] * place + [NAMES] * (
        len(ROUNDS[preset]) - place
    )
    assert result.federation.nodes == NAMES
    assert result.federation.gain.rows == 72
    assert {each.name for each in found.sides.values() if each.over} == set(NAMES)
    state = found.sides["node 10"].state
    assert [state.model(each).digest() for each in ("rating", "ease", "implicit")] == [
        model.digest() for model in found.models().values()
    ]


def test_a_node_that_joins_after_a_restart_keeps_its_number_from_then_on(village, make_settings):
    found = village(make_settings("hierarchical"), "node 1", "node 2")
    with pytest.raises(Died):
        found.serve(on_round=die_after("rating", 1))
    found.start("node 10")
    with pytest.raises(Died):
        found.serve(on_round=die_after("rating", 2), nodes=3)
    assert found.records[-1].contributors == NAMES
    kept = load_checkpoint(found.server, found.settings, found.data.catalogue)
    assert list(kept.nodes) == NAMES
    # In another order than before: names have the numbers that they had.
    found.sides = {name: found.sides[name] for name in ("node 10", "node 2", "node 1")}
    result = found.serve()
    assert result.federation.nodes == NAMES
    assert found.sides["node 10"]._number == 2


def test_what_all_agree_on_is_the_widest_limits(make_settings, data):
    nodes = [
        Introduction(str(low), "id", "", "", "r", (low, high)) for low, high in [(1.0, 4.0), (0.5, 3.0), (2.0, 4.5)]
    ]
    first, second = (agree(make_settings("network"), data.catalogue, nodes, 2) for _ in range(2))
    assert first.limits == (0.5, 4.5)
    assert first.training != second.training


def test_a_stranger_with_a_member_s_name_is_turned_away(village, make_settings, tmp_path):
    found = village(make_settings("network"), "node 1", "node 2")
    found.start("node 10", state=NodeState(tmp_path / "other"))
    stranger = found.sides.pop("node 10")
    stranger.name = "node 2"

    def on_round(record: DeployedRound) -> None:
        if record.round == 1:
            found.grid.sides[99] = stranger

    result = found.serve(on_round=on_round)
    stranger.state.close()
    assert result.federation.nodes == NAMES[:2]
    assert all(each.contributors == NAMES[:2] for each in result.federation.rounds)
    reason = "another node is already called 'node 2': choose another --name"
    assert f"a node is refused: {reason}" in found.events
    assert str(stranger.failure) == f"the server refuses this node: {reason}"


def test_contributions_that_are_not_finite_are_refused_by_name(village, make_settings):
    found = village(make_settings("network", learning_rate=1e30))
    with pytest.raises(HierfedError, match="round 1 of 'rating' was abandoned 5 times: 0 of at least 1 nodes"):
        found.serve()
    assert {each.node for each in found.records[-1].refused} == set(NAMES)
    assert all("not finite" in each.reason for each in found.records[-1].refused)


def test_a_model_that_is_not_finite_is_not_kept(village, make_settings, monkeypatch):
    def combine(self: FederatedAveraging, shared: SharedModel, total: Contribution) -> SharedModel:
        return SharedModel({"parameters": shared.arrays["parameters"] / 0.0}, shared.round + 1)

    monkeypatch.setattr(FederatedAveraging, "combine", combine)
    found = village(make_settings("network"))
    with pytest.raises(
        HierfedError, match=r"abandoned 5 times: .* would not be finite: .* lower training.learning_rate"
    ):
        found.serve()
    assert found.models().keys() == {"features"}


def test_an_observer_s_error_ends_the_wait(village, make_settings, monkeypatch):
    def check(self: ServerObserver) -> None:
        raise HierfedError("node 2 has failed")

    monkeypatch.setattr(ServerObserver, "check", check)
    with pytest.raises(HierfedError, match="node 2 has failed"):
        village(make_settings("network")).serve()


@pytest.mark.parametrize("preset", PRESETS)
def test_nothing_that_leaves_a_node_holds_its_users_ids_ratings_or_beliefs(
    preset, village, make_settings, data, monkeypatch
):
    """Looked for in the bytes of every message, as Flower sends them."""
    secrets: dict[str, list[bytes]] = {name: [] for name in NAMES}

    def note(name: str, *tensors: torch.Tensor) -> None:
        # Zeros, of parameters that nothing was learned for, say nothing of anyone.
        secrets[name] += [tensor.contiguous().numpy().tobytes() for tensor in tensors if tensor.any()]

    kept = RoundStates.keep

    def keep(self: RoundStates, training: str, stage: str, number: int, rows: str, state: Any) -> None:
        if isinstance(state, FactorsState) and state.memory is not None:
            name = next(name for name, side in found.sides.items() if side.state.rounds is self)
            note(name, *state.memory.mean, *state.memory.posterior.covariance, state.memory.precision)
        kept(self, training, stage, number, rows, state)

    monkeypatch.setattr(RoundStates, "keep", keep)
    found = village(make_settings(preset))
    found.serve()
    for side in found.sides.values():
        _, state = side.state.plan(), side.state
        (model,) = side._plan.method.personalise(state.model("rating"), [side._node()], [side._round_state.state])
        for tensors in dict(model.tensors()).values():
            note(side.name, *(each.flatten() for each in tensors.values() if each.is_floating_point()))
    for name, own in ((name, data.table.filter(data.table["node"] == name)) for name in NAMES):
        for kind in (np.float32, np.float64):
            secrets[name].append(own["rating"].to_numpy().astype(kind).tobytes())
            for user in own["user"].unique():
                ratings = own.filter((own["user"] == user) & ~own["held"])["rating"].to_numpy()
                secrets[name].append(ratings.astype(kind).tobytes())
        for user in own["user"].unique():
            secrets[name] += [str(user).encode(), *(np.array([user], kind).tobytes() for kind in ("i4", "i8", "f8"))]
    assert {kind for _, kind, _ in found.sent} == {"hello", "setup", "round", "finish", "judge", "ledger", "goodbye"}
    for name, kind, reply in found.sent:
        content = b"".join(each.deflate() for each in get_all_nested_objects(reply).values())
        facts = str(dict(reply.content["facts"])).encode()
        for secret in secrets[name]:
            assert len(secret) >= 4
            assert secret not in content, f"{kind} of {name}"
            assert secret not in facts
    # Had a message held one, it would have been found.
    sent = next(reply for name, kind, reply in found.sent if kind == "round")
    content = b"".join(each.deflate() for each in get_all_nested_objects(sent).values())
    assert all(array.numpy().tobytes() in content for array in read_reply(sent).contribution.arrays.values())


def test_an_introduction_is_taken_once_and_answers_a_greeting(data, tmp_path):
    admission = NodeAdmission(data.catalogue, None, ServerObserver(), Bookkeeper(tmp_path))
    greeting = admission.hello()
    assert admission.hello().facts["nonce"] != greeting.facts["nonce"]
    told = Introduction("one", "secret", "", greeting.facts["ledger"], "r", (1.0, 5.0))
    answer = introduce(told, greeting.facts["nonce"], None)
    assert admission.admit(answer) == "one"
    for again in (answer, introduce(told, b"x" * 32, None)):
        with pytest.raises(AdmissionRefused, match="answers no greeting"):
            admission.admit(again)

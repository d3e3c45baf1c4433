"""A node answers what it is asked in the order it is asked, keeps its word, and its files are its own."""

from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hierfed.data.catalogue import Catalogue
from hierfed.data.ratings import rows_to_predict
from hierfed.data.reading.own import own_ratings
from hierfed.data.reading.sources import read_ratings
from hierfed.deployment.local_models import JUDGED, judged, personalise
from hierfed.deployment.node import NodeSide
from hierfed.deployment.plan import Plan, check_deployable
from hierfed.deployment.protocol import VERSION, Introduction, hello, read_introduction
from hierfed.deployment.signing import public_text
from hierfed.deployment.state import NodeState, Origin
from hierfed.engines.exchange import Reply, Request
from hierfed.errors import DataError, HierfedError, SettingsError
from hierfed.federated.contract import SharedModel
from hierfed.ledger import keys as ledger_keys
from hierfed.runs.private_files import user_file
from hierfed.serving.served import Served
from hierfed.settings import load_settings

NONCE = bytes(32)
SERVER = ledger_keys.public_text(Ed25519PrivateKey.generate())
# What is said of a node itself, and of none of its ratings.
QUIET = {"version", "hierfed", "nonce", "name", "identity", "key", "ledger", "tag", "signature"}


def one_line(error: pytest.ExceptionInfo[HierfedError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def make_side(data, tmp_path):
    states: list[NodeState] = []

    def make(name: str = "node 1", **changes) -> NodeSide:
        state = NodeState(tmp_path / f"state {len(states)}")
        states.append(state)
        origin = Origin(data.file("node 1", False), test=data.file("node 1", True))
        return NodeSide(name, **{"origin": origin, "state": state} | changes)

    yield make
    for state in states:
        state.close()


@pytest.fixture
def plan(data, make_settings, reference) -> Plan:
    plan = Plan("f00d", make_settings("network"), data.catalogue, (0.5, 5.0), nodes=3)
    return plan.after(reference("network").models)


@pytest.fixture
def ready(make_side, plan) -> NodeSide:
    """A node that knows its plan, as number 0."""
    side = make_side()
    side.answer(hello(plan.catalogue, NONCE, SERVER))
    side.answer(plan.request(0, {"features": plan.earlier["features"]}))
    return side


def round_request(plan: Plan, shared: SharedModel, **changes) -> Request:
    facts = {"training": plan.training, "stage": "rating", "round": shared.round + 1}
    return Request("round", {**facts, **changes}, shared.arrays)


def test_hello_is_answered_with_name_and_limits_alone(make_side, data, reference):
    side = make_side()
    reply = side.answer(hello(data.catalogue, NONCE, SERVER))
    assert reply.contribution.arrays == {}
    assert reply.facts.keys() == {*QUIET, "low", "high"}
    found = read_introduction(reply, NONCE, None)
    assert isinstance(found, Introduction)
    rows = reference("network").nodes[0]
    values = np.concatenate([rows.train.value, rows.test.value])
    assert (found.name, found.key) == ("node 1", public_text(side.state.key().public_key()))
    assert found.limits == (values.min(), values.max())


@pytest.mark.parametrize("known", [{"secure_sums": True}, {"scale": (0.5, 5.0)}], ids=["secure sums", "known scale"])
def test_where_the_limits_are_not_asked_for_hello_is_answered_without_a_word_of_the_ratings(known, make_side, data):
    reply = make_side().answer(hello(data.catalogue, NONCE, SERVER, **known))
    assert reply.contribution.arrays == {}
    assert reply.facts.keys() == QUIET
    assert read_introduction(reply, NONCE, None).limits is None


def test_ratings_beyond_the_scale_are_refused_at_the_node_before_it_sends_a_sum(make_side, data, make_settings):
    side = make_side()
    side.answer(hello(data.catalogue, NONCE, SERVER, scale=(2.5, 3.0)))
    plan = Plan("f00d", make_settings("network", scale=[2.5, 3.0]), data.catalogue, (2.5, 3.0), nodes=3)
    with pytest.raises(SettingsError, match=r"data\.scale: is from 2.5 to 3, and there are ratings from") as error:
        side.answer(plan.request(0, {}))
    one_line(error)
    assert side.state.plan() is None


def test_a_node_with_peers_says_nothing_to_a_server_that_would_see_its_contributions(make_side, data):
    side = make_side(peers=frozenset({"a key"}))
    reply = side.answer(hello(data.catalogue, NONCE, SERVER))
    assert reply.facts == {
        "refusal": "the server would see this node's own contributions, and --peer asks for secure sums"
    }
    assert reply.contribution.arrays == {}


def test_the_identity_is_the_state_s(make_side, data):
    side = make_side()
    first, second = (side.answer(hello(data.catalogue, NONCE, SERVER)).facts["identity"] for _ in range(2))
    assert first == second == side.state.begin("node 1", side.origin)
    assert make_side().answer(hello(data.catalogue, NONCE, SERVER)).facts["identity"] != first


def test_unknown_items_are_left_out_and_told_on_the_node(make_side, data):
    told = []
    side = make_side(tell=told.append)
    known = Catalogue(data.catalogue.frame.head(20))
    assert side.answer(hello(known, NONCE, SERVER)).facts.keys() == {*QUIET, "low", "high"}
    expected = own_ratings(read_ratings(data.file("node 1", False), test=data.file("node 1", True)), known)
    assert expected.unknown > 0
    assert f"{expected.unknown:,} left out whose items the catalogue does not know" in told[0]
    assert f"{len(expected.train):,} ratings to learn from" in told[0]


def test_a_catalogue_that_was_not_agreed_is_refused_and_the_agreed_one_is_not(make_side, data):
    agreed = data.catalogue.digest()
    side = make_side(catalogue=agreed)
    assert "refusal" not in side.answer(hello(data.catalogue, NONCE, SERVER)).facts
    reply = side.answer(hello(Catalogue(data.catalogue.frame.head(20)), NONCE, SERVER))
    assert reply.facts == {"refusal": "the server has another catalogue than the one that --catalogue names"}
    assert reply.contribution.arrays == {}


def test_another_version_is_refused_before_anything_is_told(make_side, data):
    request = hello(data.catalogue, NONCE, SERVER)
    reply = make_side().answer(Request("hello", {**request.facts, "version": VERSION + 1}))
    assert list(reply.facts) == ["refusal"]
    assert f"version {VERSION + 1}" in reply.facts["refusal"]
    assert reply.contribution.arrays == {}


@pytest.mark.parametrize("facts", [{"nonce": "text"}, {"catalogue": "text"}, {"nonce": 3}])
def test_a_greeting_that_cannot_be_read_is_refused(make_side, data, facts):
    reply = make_side().answer(Request("hello", {**hello(data.catalogue, NONCE, SERVER).facts, **facts}))
    assert reply.facts == {"refusal": "the server's greeting cannot be read"}


def test_a_catalogue_that_is_none_ends_in_one_line(make_side, data):
    facts = {**hello(data.catalogue, NONCE, SERVER).facts, "catalogue": b"junk"}
    with pytest.raises(DataError, match="the server's catalogue") as error:
        make_side().answer(Request("hello", facts))
    one_line(error)


@pytest.mark.parametrize("name", ["", "a/b", "two\nlines", " ", "x "])
def test_a_name_that_is_none_is_refused_in_one_line(make_side, name):
    with pytest.raises(SettingsError, match="--name") as error:
        make_side(name)
    one_line(error)


@pytest.mark.parametrize("asked", ["setup", "round", "finish", "judge"])
def test_what_is_asked_before_hello_is_refused_in_one_line(make_side, plan, asked):
    requests = {
        "setup": plan.request(0, {}),
        "round": round_request(plan, plan.method.start()),
        "finish": Request("finish", {"stage": "rating", "round": 3}, plan.method.start().arrays),
        "judge": Request("judge"),
    }
    side = make_side()
    with pytest.raises(HierfedError, match="before it has told what a node must know") as error:
        side.answer(requests[asked])
    one_line(error)
    assert side.state.plan() is None
    assert side.state.model("rating") is None


@pytest.mark.parametrize("asked", ["round", "finish", "judge"])
def test_what_is_asked_before_setup_is_refused_in_one_line(make_side, plan, asked):
    side = make_side()
    side.answer(hello(plan.catalogue, NONCE, SERVER))
    requests = {
        "round": round_request(plan, plan.method.start()),
        "finish": Request("finish", {"stage": "rating", "round": 3}, plan.method.start().arrays),
        "judge": Request("judge"),
    }
    with pytest.raises(HierfedError, match="before it has told what a node must know") as error:
        side.answer(requests[asked])
    one_line(error)
    assert side.state.model("rating") is None


def test_judging_without_a_finished_model_is_refused_in_one_line(ready):
    with pytest.raises(HierfedError, match="before it has told what a node must know") as error:
        ready.answer(Request("judge"))
    one_line(error)


@pytest.mark.parametrize("stage", ["ease", "implicit", "other"])
def test_a_stage_that_this_training_does_not_have_is_refused_in_one_line(ready, plan, stage):
    with pytest.raises(HierfedError, match=stage) as error:
        ready.answer(round_request(plan, plan.method.start(), stage=stage))
    one_line(error)


def test_another_training_is_refused_in_one_line_and_nothing_is_kept(ready, plan):
    with pytest.raises(HierfedError, match="another training than it told of") as error:
        ready.answer(round_request(plan, plan.method.start(), training="other"))
    one_line(error)
    assert not list((ready.state.folder / "rounds").iterdir())


def test_a_round_is_answered_with_its_own_name_and_number(ready, plan, reference):
    shared = plan.method.start()
    reply = ready.answer(round_request(plan, shared))
    assert reply.facts == {"training": "f00d", "stage": "rating", "round": shared.round + 1, "number": 0}
    expected, _ = next(iter(plan.method.contribute(shared, [reference("network").nodes[0]], [None])))
    for name, array in expected.arrays.items():
        assert torch.equal(reply.contribution.arrays[name], array)


def test_a_round_that_is_asked_twice_is_answered_twice_alike(ready, plan):
    shared = plan.method.combine(
        plan.method.start(), ready.answer(round_request(plan, plan.method.start())).contribution
    )
    first, second = (ready.answer(round_request(plan, shared)) for _ in range(2))
    assert first.facts == second.facts
    for name, array in first.contribution.arrays.items():
        assert torch.equal(second.contribution.arrays[name], array)


def test_goodbye_ends_the_node_and_a_reason_is_an_error(make_side):
    side = make_side()
    assert not side.over
    assert side.answer(Request("goodbye")) == Reply()
    assert side.over
    other = make_side()
    with pytest.raises(HierfedError, match="the server refuses this node: for this reason") as error:
        other.answer(Request("goodbye", {"reason": "for this reason"}))
    one_line(error)
    assert other.over


def test_a_node_without_held_out_rows_adds_nothing_to_what_is_judged(make_side, plan, data):
    side = make_side(origin=Origin(data.file("node 1", False)))
    side.answer(hello(plan.catalogue, NONCE, SERVER))
    shared = plan.method.start()
    side.answer(plan.request(0, {"features": plan.earlier["features"], "rating": shared}))
    reply = side.answer(Request("judge"))
    assert reply.facts == {}
    assert {name: float(array) for name, array in reply.contribution.arrays.items()} == {
        **dict.fromkeys(JUDGED, 0.0),
        "learned": len(own_ratings(read_ratings(data.file("node 1", False)), plan.catalogue).train),
    }


def test_ratings_that_are_not_there_end_in_one_line(make_side):
    with pytest.raises(DataError, match="no such data") as error:
        make_side(origin=Origin("nowhere.csv"))
    one_line(error)


def test_no_held_out_rows_anywhere_is_no_gain(village, make_settings, data):
    found = village(make_settings("network"), "node 1", "node 2")
    for name in ("node 1", "node 2"):
        found.start(name, origin=Origin(data.file(name, False)))
    assert found.serve().federation.gain is None


@pytest.mark.parametrize("begin_again", [False, True])
def test_personal_models_are_made_on_the_node_alone_and_serve_its_users(
    begin_again, village, make_settings, reference, data
):
    found, expected = village(make_settings("hierarchical")), reference("hierarchical")
    found.serve()
    if begin_again:
        found.start("node 2")
    state, sent = found.sides["node 2"].state, len(found.sent)
    own = data.table.filter((data.table["node"] == "node 2") & ~data.table["held"])
    users = own["user"].unique().sort().to_list()
    made = personalise(state, "none")
    assert (made.users, made.ratings, made.unknown) == (len(users), len(own), 0)
    assert len(found.sent) == sent
    private = made.folder / "node-node 2"
    assert {path.name for path in private.iterdir()} == {f"{user_file(str(user))}.safetensors" for user in users}
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    served, items = Served(state.folder), torch.arange(len(data.catalogue))
    plan, _ = state.plan()
    rows = own_ratings(read_ratings(data.file("node 2", False), test=data.file("node 2", True)), plan.catalogue)
    kept = state.rounds.recall(plan.training, "rating", 4, rows.digest)
    assert kept is not None
    (model,) = expected.method.personalise(expected.models["rating"], [expected.nodes[1]], [kept])
    for user in users:
        number = torch.full_like(items, user - 7_310_001)
        mine = served.user(str(user)).model.distribution(rows_to_predict(torch.zeros_like(items), items))
        for each, theirs in zip(mine, model.distribution(rows_to_predict(number, items)), strict=True):
            torch.testing.assert_close(each, theirs, rtol=0, atol=1e-9)
    answer = served.recommend(str(users[0]), 5)
    assert answer.known
    rated = own.filter(own["user"] == users[0])["item"].to_list()
    assert not {each.item for each in answer.items} & set(map(str, rated))


def test_ratings_that_have_come_since_are_used_too(village, make_settings, data, tmp_path):
    import polars as pl

    found = village(make_settings("hierarchical"), "node 1", "node 2")
    table = tmp_path / "growing.parquet"
    rows = pl.read_parquet(data.file("node 2", False))
    rows.write_parquet(table)
    found.start("node 2", origin=Origin(str(table)))
    found.serve()
    state = found.sides["node 2"].state
    before = personalise(state).users
    newcomer = pl.DataFrame({"user": [9_999_999] * 2, "item": [501, 502], "rating": [5.0, 1.0]})
    pl.concat([rows, newcomer]).write_parquet(table)
    assert personalise(state).users == before + 1
    assert Served(state.folder).recommend("9999999", 3).known


def test_averaging_is_personalised_too(village, make_settings):
    found = village(make_settings("network"))
    found.serve()
    state = found.sides["node 1"].state
    made = personalise(state)
    assert made.users == 12
    names = sorted(path.name.partition("-")[0] for path in (made.folder / "node-node 1").iterdir())
    assert names == ["node.safetensors", *["user"] * 12]


def test_sums_of_judging_are_those_of_the_rows(data, make_settings, reference, plan):
    expected = reference("network")
    shared, node = expected.models["rating"], expected.nodes[1]
    (model,) = plan.method.personalise(shared, [node], [None])
    sums = {name: float(each) for name, each in judged(plan, shared, model, len(node.train), node.test).arrays.items()}
    before = plan.method.predict(shared, node.test).numpy() - node.test.value
    user, item = (torch.from_numpy(each).long() for each in (node.test.user, node.test.item))
    after = model.predict(rows_to_predict(user, item)).numpy() - node.test.value
    assert sums == pytest.approx(
        {
            "learned": len(node.train),
            "rows": len(node.test),
            "squares_before": (before**2).sum(),
            "squares_after": (after**2).sum(),
            "within": 0,
            "intervals": 0,
        }
    )


def test_a_method_that_sends_nothing_needs_no_server():
    with pytest.raises(SettingsError, match="method 'local' sends nothing") as error:
        check_deployable(load_settings("local"))
    one_line(error)
    for preset in ("network", "paper", "hierarchical"):
        check_deployable(load_settings(preset))


def test_some_nodes_a_round_are_for_simulations():
    with pytest.raises(SettingsError, match=r"federation\.participation: a real federation asks every node"):
        check_deployable(load_settings("network", {"participation": 0.5}))


@pytest.mark.parametrize("unit", ["example", "node"])
def test_a_federation_promises_no_differential_privacy_that_it_has_not(unit):
    settings = load_settings("network", {"privacy_unit": unit, "secure_sums": True, "output_bias": "random"})
    with pytest.raises(SettingsError, match="networks are protected in one process alone") as error:
        check_deployable(settings)
    one_line(error)


def test_the_node_s_files_are_its_owner_s_alone(village, make_settings):
    found = village(make_settings("hierarchical"))
    found.serve()
    for side in found.sides.values():
        folder: Path = side.state.folder
        personalise(side.state)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        private = [*folder.glob("rounds/*"), *folder.glob("node.json"), *folder.glob("plan.*")]
        assert {path.name for path in folder.glob("rounds/*")} == {"rating.3.safetensors", "rating.4.safetensors"}
        assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in private)

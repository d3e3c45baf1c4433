"""A server that asks a node for more than the node agreed to is refused in one line, before anything is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hierfed.deployment.node import NodeSide
from hierfed.deployment.plan import Plan
from hierfed.deployment.policy import Policy, read_policy
from hierfed.deployment.protocol import hello
from hierfed.deployment.signing import public_text
from hierfed.deployment.state import NodeState, Origin
from hierfed.engines.exchange import Request
from hierfed.errors import HierfedError, SettingsError
from hierfed.federated.contract import SharedModel
from hierfed.ledger import keys as ledger_keys

NONCE = bytes(32)
SERVER = ledger_keys.public_text(Ed25519PrivateKey.generate())
SECURELY = {"secure_sums": True, "scale": [0.5, 5.0]}

Make = Callable[..., NodeSide]


@pytest.fixture
def make(data: Any, tmp_path: Any) -> Iterator[Make]:
    sides: list[NodeSide] = []

    def side(**changes: Any) -> NodeSide:
        for each in sides:
            each.state.close()
        origin = Origin(data.file("node 1", False), test_share=0.0)
        sides.append(NodeSide("node 1", origin, NodeState(tmp_path / "state"), **changes))
        return sides[-1]

    yield side
    sides[-1].state.close()


def plan_of(data: Any, settings: Any, **changes: Any) -> Plan:
    return Plan("f00d", settings, data.catalogue, (0.5, 5.0), **{"nodes": 3} | changes)


def asked(plan: Plan, number: int, shared: SharedModel | None = None, stage: str = "rating") -> Request:
    arrays = {} if shared is None else shared.arrays
    return Request("round", {"training": plan.training, "stage": stage, "round": number}, arrays)


@pytest.mark.parametrize(
    ("policy", "plan", "settings", "told"),
    [
        ({}, {"nodes": 1}, {}, "has 1 node, and this node's least_nodes asks for 3"),
        ({}, {"nodes": 2}, {}, "say --least-nodes, where that is meant"),
        ({"least_nodes": 5}, {"nodes": 4}, {}, "asks for 5 at the least"),
        ({}, {}, {"min_raters": 1}, "sums items with 1 raters, and this node's least_raters asks for 5"),
        ({"methods": ["averaging"]}, {}, {}, "trains method 'item_biases', and this node's methods asks for averaging"),
        ({"stages": ["ease"]}, {}, {}, "has stage 'rating'"),
        ({"sums": "secure"}, {}, {}, "has no secure sums"),
        ({"most_rounds": 1}, {}, {}, "has 2 rounds of 'rating'"),
        ({"epsilon": 2.0}, {}, {}, "has no differential privacy"),
    ],
)
def test_a_plan_beyond_the_policy_is_refused(policy, plan, settings, told, make, data, make_settings):
    side = make(policy=Policy(**policy))
    settings = make_settings("item_biases", **{"min_raters": 5, **settings})
    hello_sums = hello(data.catalogue, NONCE, SERVER)
    if policy.get("sums") == "secure":
        assert "asks for secure sums" in side.answer(hello_sums).facts["refusal"]
        hello_sums = hello(data.catalogue, NONCE, SERVER, True)
    side.answer(hello_sums)
    with pytest.raises(HierfedError) as error:
        side.answer(plan_of(data, settings, **plan).request(0, {}))
    assert told in str(error.value)
    assert "\n" not in str(error.value)
    assert side.state.plan() is None


def test_the_usual_policy_takes_a_usual_plan(make, data, make_settings):
    side = make()
    side.answer(hello(data.catalogue, NONCE, SERVER))
    side.answer(plan_of(data, make_settings("item_biases", min_raters=5)).request(0, {}))
    assert side.state.plan() is not None


@pytest.fixture
def ready(make, data, make_settings) -> tuple[NodeSide, Plan]:
    plan = plan_of(data, make_settings("hierarchical", min_raters=5, rank_items=False))
    return agreed(make(), plan, data), plan


def agreed(side: NodeSide, plan: Plan, data: Any) -> NodeSide:
    side.answer(hello(data.catalogue, NONCE, SERVER))
    side.answer(plan.request(0, {}))
    return side


@pytest.mark.parametrize("number", [50, -50, 10**6])
def test_rounds_that_the_plan_does_not_have_are_refused(number, ready):
    side, plan = ready
    with pytest.raises(HierfedError, match="which the plan does not have"):
        side.answer(asked(plan, number))


def test_rounds_go_forward_only_and_the_last_is_repeated_with_the_same_model_alone(ready, make, data):
    side, plan = ready
    method, shared = plan.method, plan.method.start()
    models = []
    for _ in range(4):
        models.append(shared)
        sent = side.answer(asked(plan, shared.round + 1, shared)).contribution
        again = side.answer(asked(plan, shared.round + 1, shared)).contribution
        assert {name: array.tolist() for name, array in sent.arrays.items()} == {
            name: array.tolist() for name, array in again.arrays.items()
        }
        shared = method.combine(shared, sent)
    # What a node has answered is known after it was started again.
    for each in (side, lambda: agreed(make(), plan, data)):
        node = each if isinstance(each, NodeSide) else each()
        with pytest.raises(HierfedError, match="rounds go forward only"):
            node.answer(asked(plan, models[0].round + 1, models[0]))
        changed = replace(models[3], arrays={name: 2 * array for name, array in models[3].arrays.items()})
        with pytest.raises(HierfedError, match="with another model"):
            node.answer(asked(plan, changed.round + 1, changed))
        assert node.answer(asked(plan, models[3].round + 1, models[3])).contribution.arrays


def test_too_many_requests_are_refused(make, data, make_settings):
    plan = plan_of(data, make_settings("item_biases", min_raters=5))
    side = agreed(make(policy=Policy(most_requests=3)), plan, data)
    for _ in range(3):
        side.answer(asked(plan, 0))
    with pytest.raises(HierfedError, match="more than this node's most_requests of 3"):
        side.answer(asked(plan, 0))


def test_a_second_hello_that_promises_less_is_refused(make, data):
    side = make()
    side.answer(hello(data.catalogue, NONCE, SERVER, True))
    reply = side.answer(hello(data.catalogue, NONCE, SERVER, False))
    assert reply.facts == {"refusal": "the server promised secure sums before, and takes that back"}


def test_another_finished_model_than_before_is_refused(ready):
    side, plan = ready
    shared = plan.method.start()
    while shared.round < 1:
        shared = plan.method.combine(shared, side.answer(asked(plan, shared.round + 1, shared)).contribution)
    finish = Request("finish", {"stage": "rating", "round": shared.round}, shared.arrays)
    side.answer(finish)
    side.answer(finish)
    other = {**shared.arrays, "users": shared.arrays["users"] + 1}
    with pytest.raises(HierfedError, match="another finished model of 'rating' than before"):
        side.answer(Request("finish", {"stage": "rating", "round": shared.round}, other))


def keys(count: int) -> list[str]:
    return [public_text(ec.generate_private_key(ec.SECP384R1()).public_key()) for _ in range(count)]


def test_invented_peers_are_told_of_at_first_use_and_refused_afterwards(make, data, make_settings):
    told: list[str] = []
    settings, others = make_settings("item_biases", min_raters=5, **SECURELY), keys(2)

    def join(training: str, others: list[str]) -> None:
        side = make(tell=told.append)
        side.answer(hello(data.catalogue, NONCE, SERVER, True, (0.5, 5.0)))
        own = public_text(side.state.key().public_key())
        plan = replace(plan_of(data, settings, keys=(own, *others), threshold=2), training=training)
        side.answer(plan.request(0, {}))

    join("first", others)
    (line,) = [each for each in told if "whose keys it takes from the server" in each]
    assert line.count("SHA256:") == 2
    told.clear()
    join("second", others)
    assert not [each for each in told if "SHA256:" in each]
    with pytest.raises(HierfedError, match="a key that this node has not added with before"):
        join("third", [others[0], *keys(1)])
    with pytest.raises(HierfedError, match="has a text that is no key"):
        join("fourth", [others[0], "ssh-ed25519 AAAA"])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("least_node = 3", "unknown key 'least_node'; did you mean 'least_nodes'"),
        ("least_nodes = 0", "least_nodes"),
        ("least_nodes = ", "cannot be read"),
        ('sums = "open"', "sums"),
    ],
)
def test_a_policy_file_that_does_not_fit_is_refused_in_one_line(text, told, tmp_path):
    (tmp_path / "policy.toml").write_text(text)
    with pytest.raises(SettingsError) as error:
        read_policy(tmp_path / "policy.toml", {})
    assert told.split(";")[0] in str(error.value)
    assert "\n" not in str(error.value)


def test_an_option_wins_over_the_file(tmp_path):
    (tmp_path / "policy.toml").write_text('least_nodes = 5\nsums = "secure"\n')
    policy = read_policy(tmp_path / "policy.toml", {"least_nodes": 2, "epsilon": None})
    assert (policy.least_nodes, policy.sums, policy.least_raters) == (2, "secure", 5)


def test_a_node_that_comes_back_with_other_ratings_is_refused_until_the_training_is_over(village, make_settings, data):
    names = ("node 1", "node 2", "node 10")
    found = village(make_settings("item_biases"))
    found.start(*names)

    class Killed(Exception):
        pass

    def stop(record: Any) -> None:
        raise Killed

    with pytest.raises(Killed):
        found.serve(on_round=stop)
    found.start("node 1", "node 2")
    found.start("node 10", origin=Origin(data.file("node 2", False), test=data.file("node 10", True)))
    result = found.serve(nodes=2, quorum=2)
    assert any("node 'node 10' comes back with other ratings" in event for event in found.events), found.events
    assert result.federation.rounds[-1].contributors == ["node 1", "node 2"]
    assert all(found.sides[name].__dict__.get("failure") is None for name in names[:2])

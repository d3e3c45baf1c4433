"""A node's users learn again: what their items learn against sums by hand, and who learns nothing from whom."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hierfed.data.federation import Node
from hierfed.data.ratings import Ratings, concatenated
from hierfed.engines.in_process import run_rounds
from hierfed.methods.hierarchical.node_items import NodeItems
from hierfed.methods.hierarchical.personal import PersonalFactors, restored
from hierfed.methods.hierarchical.users import content_products, factor_products
from hierfed.models.symmetric import unpack

USERS, ITEMS, THRESHOLD = 12, 20, 4


@pytest.fixture
def trained(make_pairs, make_factors, make_content):
    """A node's users after training; each keeps back one rating, which comes later."""
    every: Ratings = make_pairs(users=USERS, items=ITEMS, seed=5, most=9)
    last = np.append(every.user[1:] != every.user[:-1], True)
    rows, later = every.take(~last), every.take(last)
    method = make_factors(make_content(ITEMS), threshold=THRESHOLD, rare_at_node=True)
    nodes = [Node(0, "1", rows, rows.between(0, 0))]
    found = run_rounds(method, nodes, 3)
    (model,) = method.personalise(found.shared, nodes, found.private)
    kept = dict(model.tensors())
    return method, found.shared, rows, later, kept


def own_message(model: PersonalFactors, user: int, item: int, value: float) -> tuple[np.ndarray, np.ndarray]:
    """tau E (1, p)(1, p)' and tau E (1, p)(y - b_u - w . f) of one rating, on the scale of models."""
    knowledge, rank = model.knowledge, model.knowledge.beliefs.rank
    products = factor_products(model.posterior, rank)[user].numpy()
    mixed = content_products(model.posterior, rank)[user].numpy()
    tau, content = float(model.precision[user]), knowledge.design.padded_content[item].numpy()
    y = (value - knowledge.scale.centre) / knowledge.scale.unit
    return tau * products, tau * (y * products[0] - content @ mixed)


def test_items_learn_the_messages_of_new_ratings_and_users_meet_those_of_others(trained):
    method, shared, rows, later, kept = trained
    every = concatenated([rows, later])
    before = {user: tensors for user, tensors in kept.items() if user is not None}
    model = method.relearner(shared)(every, before, kept.get(None, {}))
    former = restored(method.knowledge(shared), kept.get(None, {})).knowledge
    size, learned = 1 + former.beliefs.rank, model.knowledge.at_node
    assert learned is not None
    for item in range(ITEMS):
        mean, covariance = (each[0].numpy() for each in former.items(torch.tensor([item])))
        raters = np.flatnonzero(later.item == item)
        now_mean, now_covariance = (each[0].numpy() for each in model.knowledge.items(torch.tensor([item])))
        if not len(raters):
            assert np.array_equal(now_mean, mean)
            continue
        prior = np.linalg.inv(unpack(torch.from_numpy(covariance), size).numpy())
        messages = [own_message(model, int(later.user[row]), item, float(later.value[row])) for row in raters]

        def posterior(parts, prior=prior, mean=mean):
            precision = prior + sum(part[0] for part in parts)
            return np.linalg.solve(precision, prior @ mean + sum(part[1] for part in parts)), precision

        expected, precision = posterior(messages)
        np.testing.assert_allclose(now_mean, expected, rtol=0, atol=1e-9)
        whole = unpack(torch.from_numpy(now_covariance), size).numpy()
        np.testing.assert_allclose(whole, np.linalg.inv(precision), rtol=0, atol=1e-9)
        for place, row in enumerate(raters):
            others, _ = posterior([*messages[:place], *messages[place + 1 :]])
            tensors = dict(model.tensors())[int(later.user[row])]
            here = (tensors["items"] == item).nonzero()[0, 0]
            np.testing.assert_allclose(tensors["item_mean"][here].numpy(), others, rtol=0, atol=1e-9)


def test_without_new_ratings_nothing_is_learned(trained):
    method, shared, rows, _, kept = trained
    before = {user: tensors for user, tensors in kept.items() if user is not None}
    again = dict(method.relearner(shared)(rows, before, kept.get(None, {})).tensors())
    assert kept.keys() == again.keys()
    for name, tensor in kept[None].items():
        assert torch.equal(again[None][name], tensor)
    for user, tensors in before.items():
        assert torch.equal(again[user]["items"], tensors["items"].sort().values)
        order = tensors["items"].argsort()
        assert torch.equal(again[user]["item_mean"], tensors["item_mean"][order])


def test_users_who_share_no_node_learn_as_if_each_were_alone(trained):
    method, shared, rows, later, kept = trained
    every = concatenated([rows, later])
    before = {user: tensors for user, tensors in kept.items() if user is not None}
    relearn = method.relearner(shared)
    together = dict(relearn(every, before, None).tensors())
    assert None not in together
    for user in range(USERS):
        mine = every.take(every.user == user)
        alone = Ratings(np.zeros_like(mine.user), mine.item, mine.value, mine.time)
        ((_, own),) = relearn(alone, {0: before[user]} if user in before else {}, None).tensors()
        for name, tensor in own.items():
            torch.testing.assert_close(together[user][name], tensor, rtol=0, atol=1e-9)


def test_a_node_that_may_not_learn_of_items_learns_of_none(trained, make_factors, make_content):
    _, shared, rows, later, _ = trained
    method = make_factors(make_content(ITEMS), threshold=THRESHOLD, rare_at_node=False)
    model = method.relearner(shared)(concatenated([rows, later]), {}, {})
    assert NodeItems.among(dict(model.tensors()).get(None, {})) is None

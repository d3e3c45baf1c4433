"""Cohorts of users against plain dicts of nodes, users and ratings, and sums by pieces against sums of the whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hierfed.data.federation import Node, Nodes, make_nodes
from hierfed.data.ratings import Ratings
from hierfed.methods.hierarchical.cohort import Cohort, Part, add_up, cohort_of

ITEMS = 12

few = settings(max_examples=80, deadline=None)
ByUser = dict[int, list[tuple[int, float]]]


def random_ratings(rng: np.random.Generator, rows: int, users: int) -> Ratings:
    """Rows in any order, of users with gaps between their numbers."""
    return Ratings(
        user=(3 * rng.integers(users, size=rows)).astype(np.int32),
        item=rng.integers(ITEMS, size=rows).astype(np.int32),
        value=(rng.integers(1, 11, size=rows) / 2).astype(np.float32),
    )


def random_nodes(seed: int, nodes: int, rows: int, in_order: bool = False) -> Nodes:
    """Nodes of users who are on several of them; in_order: whether their rows are by user already."""
    rng = np.random.default_rng(seed)
    train = random_ratings(rng, nodes + rows, 6)
    if in_order:
        train = train.take(np.argsort(train.user, kind="stable"))
    node = rng.permutation(np.concatenate([np.arange(nodes), rng.integers(nodes, size=rows)]))
    return make_nodes(train, node, train.take(np.empty(0, np.int64)), np.empty(0, np.int64), nodes)


@st.composite
def federations(draw: st.DrawFn) -> Nodes:
    """Nodes of one user's one rating or of many users and ratings."""
    return random_nodes(
        draw(st.integers(0, 2**32)), draw(st.integers(1, 9)), draw(st.integers(0, 60)), draw(st.booleans())
    )


def by_hand(nodes: Sequence[Node]) -> list[ByUser]:
    """The ratings of each user of each node, sorted."""
    found: list[ByUser] = []
    for node in nodes:
        of_users: ByUser = {}
        for user, *rating in zip(
            node.train.user.tolist(), node.train.item.tolist(), node.train.value.tolist(), strict=True
        ):
            of_users.setdefault(user, []).append((rating[0], rating[1]))
        found.append({user: sorted(of_users[user]) for user in sorted(of_users)})
    return found


def as_dicts(cohort: Cohort) -> list[ByUser]:
    """The same of a cohort; its users ascend within each node."""
    found: list[ByUser] = []
    for first, last in zip(cohort.nodes[:-1], cohort.nodes[1:], strict=True):
        of_users: ByUser = {}
        for place in range(first, last):
            rows = slice(cohort.rows[place], cohort.rows[place + 1])
            pairs = zip(cohort.item[rows].tolist(), cohort.value[rows].tolist(), strict=True)
            of_users[int(cohort.users[place])] = sorted(pairs)
        numbers = cohort.users[first:last].tolist()
        assert list(of_users) == numbers == sorted(set(numbers))
        found.append(of_users)
    assert len(cohort) == len(cohort.users) == cohort.nodes[-1] == sum(map(len, found))
    assert len(cohort.rows) == len(cohort) + 1
    assert cohort.rows[-1] == len(cohort.item) == len(cohort.value)
    return found


def same(one: Cohort, other: Cohort) -> None:
    for name in ("users", "rows", "nodes", "item", "value"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@few
@given(federations())
def test_the_users_of_all_nodes_are_those_of_plain_dicts(nodes):
    assert as_dicts(cohort_of(nodes)) == by_hand(nodes)
    same(cohort_of(list(nodes)), cohort_of(nodes))
    for node in nodes:
        assert as_dicts(cohort_of([node])) == by_hand([node])


@few
@given(federations(), st.data())
def test_some_nodes_in_any_order_are_those_of_plain_dicts(nodes, data):
    everyone = cohort_of(nodes)
    chosen = data.draw(st.lists(st.integers(0, len(nodes) - 1), min_size=1, unique=True))
    places = np.array(chosen)
    some = nodes.take(places)
    expected = [by_hand(nodes)[place] for place in chosen]
    found = everyone.of_nodes(places)
    assert as_dicts(cohort_of(some)) == as_dicts(found) == expected
    same(found, cohort_of(some))
    same(cohort_of([nodes[place] for place in chosen]), found)
    mine = everyone.places_of(places)
    assert mine.dtype == np.int64
    assert mine.tolist() == [
        user for place in chosen for user in range(everyone.nodes[place], everyone.nodes[place + 1])
    ]
    np.testing.assert_array_equal(everyone.users[mine], found.users)
    same(everyone.of_nodes(np.arange(len(nodes))), everyone)


@few
@given(federations(), st.data())
def test_neighbouring_nodes_are_those_of_plain_dicts(nodes, data):
    begin = data.draw(st.integers(0, len(nodes) - 1))
    end = data.draw(st.integers(begin + 1, len(nodes)))
    assert as_dicts(cohort_of(nodes[begin:end])) == by_hand(nodes)[begin:end]


def test_nodes_without_rows_have_no_users():
    rng = np.random.default_rng(0)
    nodes = [
        Node(number, str(number), random_ratings(rng, rows, 4), random_ratings(rng, 0, 4))
        for number, rows in enumerate([0, 7, 0, 0, 5, 0])
    ]
    found = cohort_of(nodes)
    assert as_dicts(found) == by_hand(nodes)
    assert found.users_of_nodes.tolist() == [len(each) for each in by_hand(nodes)]
    assert as_dicts(found.of_nodes(np.array([4, 0, 2]))) == by_hand([nodes[4], nodes[0], nodes[2]])


def test_a_user_on_neighbouring_nodes_is_another_one_on_each():
    ratings = Ratings(np.full(5, 7, np.int32), np.arange(5, dtype=np.int32), np.arange(1, 6, dtype=np.float32))
    nobody = ratings.take(np.empty(0, np.int64))
    nodes = make_nodes(ratings, np.array([0, 1, 0, 1, 1]), nobody, np.empty(0, np.int64), 2)
    found = cohort_of(nodes)
    assert as_dicts(found) == [{7: [(0, 1.0), (2, 3.0)]}, {7: [(1, 2.0), (3, 4.0), (4, 5.0)]}]
    assert found.users_of_nodes.tolist() == [1, 1]
    assert found.node_of_users.tolist() == [0, 1]


@few
@given(federations())
def test_users_are_counted_and_placed_by_node(nodes):
    found, expected = cohort_of(nodes), by_hand(nodes)
    assert found.users_of_nodes.dtype == torch.float64
    assert found.users_of_nodes.tolist() == [len(each) for each in expected]
    assert found.node_of_users.tolist() == [place for place, each in enumerate(expected) for _ in each]


@few
@given(federations(), st.integers(1, 20))
def test_pieces_are_all_users_once_and_of_few_rows_but_for_a_user_of_many(nodes, most):
    found = cohort_of(nodes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hierfed.methods.hierarchical.cohort.PIECE_ROWS", most)
        pieces = found.pieces
    assert [place for piece in pieces for place in range(piece.start, piece.stop)] == list(range(len(found)))
    for piece in pieces:
        assert piece.stop > piece.start
        assert found.rows[piece.stop] - found.rows[piece.start] <= most or piece.stop - piece.start == 1
    # No piece has room for the first user of the next.
    for piece in pieces[:-1]:
        assert found.rows[piece.stop + 1] - found.rows[piece.start] > most


def test_users_of_few_ratings_are_one_piece():
    found = cohort_of(random_nodes(0, 5, 60))
    assert found.pieces == [slice(0, len(found))]


@pytest.fixture(scope="module")
def design(make_problem):
    """Features of 12 items, some of which are shared."""
    found = make_problem(seed=2, users=6, items=ITEMS, threshold=4).design
    assert 0 < found.shared.sum() < ITEMS
    return found


@few
@given(nodes=federations(), most=st.integers(1, 20))
def test_arranged_pieces_have_their_own_users_ratings(design, nodes, most):
    found, scale = cohort_of(nodes), torch.tensor([3.2, 0.8], dtype=torch.float64)
    # Someone's ratings of an item that was rated twice are together in one entry of a dense matrix.
    rated, ratings = np.zeros((2, len(found), ITEMS))
    for place, pairs in enumerate(pairs for of_users in by_hand(nodes) for pairs in of_users.values()):
        for item, stars in pairs:
            rated[place, item] += 1
            ratings[place, item] += (stars - 3.2) / 0.8
    raters, pulls = (each.T[design.shared_items] for each in (rated, ratings))
    parts = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hierfed.methods.hierarchical.cohort.PIECE_ROWS", most)
        for piece in found.pieces:
            users = found.arranged(piece, scale, design)
            rows = users.rows
            np.testing.assert_allclose(rows.counts, rated[piece].sum(1))
            np.testing.assert_allclose(rows.rated.to_dense(), rated[piece])
            np.testing.assert_allclose(rows.ratings.to_dense(), ratings[piece], atol=1e-12)
            np.testing.assert_allclose(users.covariates, rated[piece] @ design.covariates.numpy(), atol=1e-12)
            every = torch.zeros(len(rows.counts), len(found)).double()
            every[:, piece] = torch.eye(len(rows.counts)).double()
            of_items = {"raters": rows.raters @ every, "pulls": rows.ratings_of @ every}
            parts.append(Part(rows.sent, of_items, {"squares": rows.rating_squares.sum().reshape(1)}))
    sums = add_up(parts, len(design.shared_items))
    np.testing.assert_allclose(sums["raters"], raters)
    np.testing.assert_allclose(sums["pulls"], pulls, atol=1e-12)
    squares = (((found.value - 3.2) / 0.8) ** 2).sum()
    assert sums["squares"].item() == pytest.approx(float(squares), rel=1e-5)


@few
@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 9))
def test_parts_add_up_to_the_sums_of_dense_matrices(seed, parts, items):
    """Each part has rows for some of the items, which are 0 in all others."""
    rng = np.random.default_rng(seed)
    of_items = {"wide": np.zeros((items, 3)), "narrow": np.zeros((items, 1))}
    in_all = {"matrix": np.zeros((2, 2)), "number": np.zeros(1)}
    made, before = [], []
    for _ in range(parts):
        sent = np.flatnonzero(rng.random(items) < 0.5)
        rows = {name: rng.normal(0, 1, (len(sent), dense.shape[1])) for name, dense in of_items.items()}
        whole = {name: rng.normal(0, 1, dense.shape) for name, dense in in_all.items()}
        for name, dense in of_items.items():
            dense[sent] += rows[name]
        for name, dense in in_all.items():
            dense[...] += whole[name]
        before.append({name: each.copy() for name, each in (rows | whole).items()})
        made.append(
            Part(
                torch.from_numpy(sent),
                {name: torch.from_numpy(each) for name, each in rows.items()},
                {name: torch.from_numpy(each) for name, each in whole.items()},
            )
        )
    found = add_up(iter(made), items)
    assert set(found) == {*of_items, *in_all}
    for name, dense in (of_items | in_all).items():
        np.testing.assert_allclose(found[name], dense, rtol=0, atol=1e-12)
    for part, expected in zip(made, before, strict=True):
        for name, values in (dict(part.of_items) | dict(part.in_all)).items():
            np.testing.assert_array_equal(values, expected[name], "parts are as they were")


def test_no_parts_add_up_to_no_sums():
    assert add_up([], 3) == {}

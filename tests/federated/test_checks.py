"""Each check of contributions takes what honest ratings give, up to its slack, and refuses what is just beyond."""

from __future__ import annotations

import math

import pytest
import torch

from hierfed.federated.checks import (
    MOST_COUNTED,
    Check,
    Sent,
    between,
    counts,
    first_reason,
    not_finite,
    not_negative,
    semidefinite,
    with_uncounted,
    within,
)


def sent(*values: float, error: float = 0.0) -> Sent:
    return Sent({"x": torch.tensor(values, dtype=torch.float64)}, error)


def squares(factor: float = 1.0) -> Check:
    return semidefinite("x", lambda found: [found["x"].view(2, 2)], factor)


BOUND = torch.tensor([10.0]).double()
CASES: dict[str, tuple[Check, Sent, Sent, str]] = {
    "whole": (counts("x"), sent(0, 3), sent(0, 3.5), "x are counts"),
    "not below 0": (counts("x"), sent(0), sent(-1), "x are counts"),
    "not too many": (counts("x"), sent(MOST_COUNTED), sent(2 * MOST_COUNTED), "x are counts"),
    "whole up to the error": (counts("x"), sent(3.01, error=0.02), sent(3.03, error=0.02), "x are counts"),
    "0 up to the error": (counts("x"), sent(-0.01, error=0.02), sent(-1.01, error=0.02), "x are counts"),
    "within": (within("x", lambda _: BOUND), sent(10), sent(10.001), "x are beyond"),
    "within, below": (within("x", lambda _: BOUND), sent(-10), sent(-10.001), "x are beyond"),
    "within up to errors": (within("x", lambda _: BOUND, 2), sent(10.3, error=0.1), sent(10.31, error=0.1), "x are"),
    "between, low": (between("x", lambda _: BOUND, lambda _: 2 * BOUND), sent(10), sent(9.99), "x are outside"),
    "between, high": (between("x", lambda _: BOUND, lambda _: 2 * BOUND), sent(20), sent(20.01), "x are outside"),
    "between up to errors": (
        between("x", lambda _: BOUND, lambda _: 2 * BOUND, 2),
        sent(9.71, error=0.1),
        sent(9.69, error=0.1),
        "x are outside",
    ),
    "not negative": (not_negative("x"), sent(0, 1), sent(1, -1e-9), "x are below 0"),
    "not negative up to the error": (not_negative("x"), sent(-0.1, error=0.1), sent(-0.11, error=0.1), "x are below"),
    "semidefinite": (squares(), sent(1, 1, 1, 1), sent(1, 1.001, 1.001, 1), "negative eigenvalue"),
    "symmetric": (squares(), sent(2, 1, 1, 2), sent(2, 1, 1.01, 2), "negative eigenvalue"),
    "a diagonal below 0": (squares(), sent(0, 0, 0, 1), sent(-1e-3, 0, 0, 1), "negative eigenvalue"),
    "of a small coordinate": (squares(), sent(1e6, 1, 1, 1e-6), sent(1e6, 1.01, 1.01, 1e-6), "negative eigenvalue"),
    "semidefinite up to the error": (
        squares(),
        sent(1, 1.05, 1.05, 1, error=0.05),
        sent(1, 1.3, 1.3, 1, error=0.05),
        "negative eigenvalue",
    ),
    "finite": (not_negative("x"), sent(1), sent(math.inf), "not finite in x"),
    "numbers": (not_negative("x"), sent(1), sent(math.nan), "not finite in x"),
}


@pytest.mark.parametrize(("check", "honest", "lie", "reason"), CASES.values(), ids=CASES.keys())
def test_what_honest_ratings_give_passes_and_what_is_beyond_does_not(check, honest, lie, reason):
    assert first_reason([check], honest) == ""
    assert reason in first_reason([check], lie)


def test_every_matrix_of_a_stack_is_looked_at():
    good, bad = torch.eye(2).double(), torch.tensor([[1.0, 2], [2, 1]]).double()
    check = semidefinite("x", lambda found: [found["x"][:1], found["x"][1:]])
    assert check(Sent({"x": torch.stack([good, good, good])})) == ""
    for place in range(3):
        stack = torch.stack([good, good, good])
        stack[place] = bad
        assert "negative eigenvalue" in check(Sent({"x": stack}))


def test_the_first_reason_is_told():
    checks = [counts("x"), not_negative("x")]
    assert "are counts" in first_reason(checks, sent(-1.5))
    assert "below 0" in first_reason(checks[::-1], sent(-1.5))


def test_nodes_that_missed_the_count_are_let_in_with_as_many_users_as_were_counted():
    assert with_uncounted(torch.tensor([0.0, 3.0]), torch.tensor(7.0)).tolist() == [7, 10]


@pytest.mark.parametrize(
    ("values", "wild"), [((1e308, 1e308), False), ((math.inf, -math.inf), True), ((math.nan, 1.0), True)]
)
def test_numbers_are_finite_one_by_one_even_where_their_sum_is_not(values, wild):
    found = not_finite({"sums": torch.tensor(values, dtype=torch.float64)})
    assert found == ("holds values that are not finite in sums" if wild else "")

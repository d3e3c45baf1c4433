"""Contributions as a vector space, digests that see every bit, and sums in a fixed order."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hierfed.federated.contract import Contribution, SharedModel, ordered_sum

few = settings(max_examples=60, deadline=None)
# Whole numbers of this size add and multiply without rounding, so that the laws hold to the last bit.
whole = st.integers(-1000, 1000)
vectors = st.tuples(whole, whole, whole)


def contribution(values: tuple[float, ...]) -> Contribution:
    """Two arrays, one of two values and one of the others."""
    numbers = torch.tensor(values, dtype=torch.float64)
    return Contribution({"rows": numbers[:2], "change": numbers[2:].reshape(1, -1)})


def values_of(found: Contribution) -> list[float]:
    assert set(found.arrays) == {"rows", "change"}
    assert found.arrays["change"].shape[0] == 1
    return [*found.arrays["rows"].tolist(), *found.arrays["change"][0].tolist()]


@few
@given(vectors, vectors)
def test_contributions_add_array_by_array(one, other):
    expected = [a + b for a, b in zip(one, other, strict=True)]
    assert values_of(contribution(one) + contribution(other)) == expected


@few
@given(vectors, whole)
def test_contributions_scale_array_by_array_from_either_side(one, factor):
    expected = [factor * a for a in one]
    assert values_of(contribution(one) * factor) == values_of(factor * contribution(one)) == expected


@few
@given(vectors, vectors, vectors, whole, whole)
def test_contributions_obey_the_laws_of_a_vector_space(one, two, three, first, second):
    a, b, c = contribution(one), contribution(two), contribution(three)
    assert values_of(a + b) == values_of(b + a)
    assert values_of((a + b) + c) == values_of(a + (b + c))
    assert values_of((a + b) * first) == values_of(a * first + b * first)
    assert values_of(a * (first + second)) == values_of(a * first + a * second)
    assert values_of((a * first) * second) == values_of(a * (first * second))
    assert values_of(a * 1) == values_of(a + a * 0) == values_of(a)
    assert values_of(a + a * -1) == [0, 0, 0]


def test_adding_and_scaling_leave_the_operands_alone():
    one, other = contribution((1, 2, 3)), contribution((4, 5, 6))
    assert values_of(one + other * 2) == [9, 12, 15]
    assert (values_of(one), values_of(other)) == ([1, 2, 3], [4, 5, 6])


def test_contributions_of_different_names_cannot_be_added():
    one, other = contribution((1, 2, 3)), Contribution({"rows": torch.zeros(2).double()})
    with pytest.raises(ValueError, match="cannot add"):
        one + other
    with pytest.raises(ValueError, match="cannot add"):
        other + one
    with pytest.raises(ValueError, match="cannot add"):
        ordered_sum([one, other])


def test_bytes_are_eight_for_each_number_of_a_contribution_and_four_for_each_of_a_model():
    assert contribution((1, 2, 3, 4, 5)).nbytes == 5 * 8
    assert SharedModel({"a": torch.zeros(3, 2), "b": torch.zeros(1)}).nbytes == 7 * 4


MODEL = {"body": torch.tensor([[1.0, 2.0], [3.0, 4.0]]), "head": torch.tensor([5.0, 0.0])}


def test_the_digest_is_the_sha256_of_names_types_shapes_and_values():
    content = (
        b"body torch.float32 (2, 2)\n"
        + np.array([1, 2, 3, 4], "<f4").tobytes()
        + b"head torch.float32 (2,)\n"
        + np.array([5, 0], "<f4").tobytes()
    )
    assert SharedModel(MODEL).digest() == hashlib.sha256(content).hexdigest()


def test_equal_models_have_equal_digests_whatever_their_memory_order_and_round():
    turned = {name: MODEL[name].clone() for name in ("head", "body")}
    turned["body"] = turned["body"].T.contiguous().T
    turned["head"] = torch.stack([turned["head"], turned["head"]], dim=1)[:, 0].requires_grad_(True)
    assert SharedModel(turned, round=7).digest() == SharedModel(MODEL).digest()


@few
@given(st.integers(0, 5), st.integers(0, 31))
def test_the_digest_changes_with_any_single_bit(place, bit):
    values = np.concatenate([array.flatten().numpy() for array in MODEL.values()])
    values.view(np.uint32)[place] ^= np.uint32(1 << bit)
    changed = {"body": torch.from_numpy(values[:4].reshape(2, 2)), "head": torch.from_numpy(values[4:])}
    assert SharedModel(changed).digest() != SharedModel(MODEL).digest()


@pytest.mark.parametrize(
    "change",
    [
        {"body": MODEL["body"].flatten()},
        {"body": MODEL["body"].view(4, 1)},
        {"body": MODEL["body"].double()},
        {"body": MODEL["body"].view(torch.int32)},
        {"extra": torch.zeros(0)},
    ],
    ids=["flat", "column", "float64", "the same bytes as int32", "one more array"],
)
def test_the_digest_changes_with_shape_type_and_arrays(change):
    assert SharedModel(MODEL | change).digest() != SharedModel(MODEL).digest()


def test_the_digest_changes_with_names():
    swapped = {"body": MODEL["head"], "head": MODEL["body"]}
    renamed = {"body": MODEL["body"], "Head": MODEL["head"]}
    missing = {"body": MODEL["body"]}
    digests = {SharedModel(arrays).digest() for arrays in (MODEL, swapped, renamed, missing)}
    assert len(digests) == 4


@few
@given(st.lists(st.lists(st.floats(-1e18, 1e18), min_size=3, max_size=3), min_size=1, max_size=12))
def test_the_ordered_sum_is_the_sequential_sum_in_float64_to_the_last_bit(rows):
    expected = list(rows[0])
    for row in rows[1:]:
        expected = [a + b for a, b in zip(expected, row, strict=True)]
    assert values_of(ordered_sum(contribution(tuple(row)) for row in rows)) == expected


def test_the_ordered_sum_keeps_the_given_order():
    large, one, small = (contribution((value, 0, 0)) for value in (1e16, 1.0, -1e16))
    assert values_of(ordered_sum([large, one, small]))[0] == (1e16 + 1.0) - 1e16 == 0
    assert values_of(ordered_sum([large, small, one]))[0] == 1


def test_the_ordered_sum_leaves_the_contributions_alone():
    parts = [contribution((1, 2, 3)), contribution((4, 5, 6))]
    assert values_of(ordered_sum(parts)) == [5, 7, 9]
    assert [values_of(part) for part in parts] == [[1, 2, 3], [4, 5, 6]]


def test_the_sum_of_no_contributions_is_refused():
    with pytest.raises(ValueError, match="no node contributed"):
        ordered_sum(iter([]))


def test_contributions_of_different_shapes_cannot_be_added():
    one, three = (Contribution({"change": torch.ones(n, dtype=torch.float64)}) for n in (1, 3))
    for add in (lambda: one + three, lambda: three + one, lambda: ordered_sum([three, one])):
        with pytest.raises(ValueError, match="cannot add"):
            add()


def test_a_contribution_that_is_no_tensor_is_a_type_error():
    with pytest.raises(TypeError):
        Contribution({"change": 1.0})

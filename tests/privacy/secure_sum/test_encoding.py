import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hierfed.errors import HierfedError
from hierfed.federated.contract import Contribution
from hierfed.privacy.secure_sum.bounds import public_bounds
from hierfed.privacy.secure_sum.encoding import Bound, plan
from hierfed.privacy.secure_sum.refusals import OutOfBounds, SecureSumError

LIMITS = st.floats(1e-30, 1e30) | st.sampled_from([0.0, 5e-324, 1e-300, 1.0, 0.1, 2.0**40])


def summed(encoding, contributions):
    total = encoding.ring.zeros()
    for contribution in contributions:
        encoding.ring.add(total, encoding.encode(contribution))
    return encoding.decode(total, len(contributions))


def exactly(values):
    return sum((Fraction(value) for value in values), Fraction(0))


@settings(max_examples=200, deadline=None)
@given(limit=LIMITS, nodes=st.integers(1, 200), tolerant=st.booleans(), data=st.data())
def test_sums_are_within_the_stated_error(limit, nodes, tolerant, data):
    encoding = plan({"x": (3,)}, {"x": Bound(limit, math.inf if tolerant else max(limit * 1e-25, 1e-297))}, nodes)
    (block,) = encoding.blocks
    assert block.words == 1 or not tolerant or limit * nodes > 2.0**60
    number = st.floats(-limit, limit) | st.sampled_from([limit, -limit, 0.0])
    rows = data.draw(st.lists(st.lists(number, min_size=3, max_size=3), min_size=1, max_size=min(nodes, 6)))
    # The rest of the nodes are at the bound, where an overflow would show.
    rows += [[limit, -limit, limit / 3]] * data.draw(st.sampled_from([0, nodes - len(rows)]))
    found = summed(encoding, [Contribution({"x": torch.tensor(row, dtype=torch.float64)}) for row in rows])
    for entry in range(3):
        true = exactly(row[entry] for row in rows)
        off = abs(Fraction(float(found.arrays["x"][entry])) - true)
        stated = Fraction(len(rows), 2) / Fraction(2) ** block.bits
        assert off <= stated + (abs(true) + stated) * Fraction(1, 2**52)
        assert stated <= Fraction(encoding.error("x"))


@settings(deadline=None)
@given(st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=50))
def test_integers_are_exact(values):
    for bound in (Bound(2.0**40), Bound(2.0**40, 1e-15)):
        encoding = plan({"x": (1,)}, {"x": bound}, 50)
        made = [Contribution({"x": torch.tensor([value], dtype=torch.float64)}) for value in values]
        assert summed(encoding, made).arrays["x"].item() == sum(values)


@pytest.mark.parametrize("words", [1, 2])
@pytest.mark.parametrize("nodes", [1, 2, 3, 512, 10**6])
def test_the_steps_are_as_fine_as_the_ring_allows(nodes, words):
    for limit in (1.0, 0.7, 3.0, 1e6):
        encoding = plan({"x": (1,)}, {"x": Bound(limit, math.inf if words == 1 else 1e-22 * limit)}, nodes)
        (block,) = encoding.blocks
        assert block.words == words
        half = 2 ** (64 * words - 1)
        assert nodes * round(Fraction(limit) * Fraction(2) ** block.bits) < half
        assert nodes * round(Fraction(limit) * Fraction(2) ** (block.bits + 1)) >= half


def test_all_nodes_at_the_bound_do_not_wrap():
    for nodes, limit in ((2, 1.0), (3, 0.1), (7, 1e9)):
        for tolerance in (math.inf, limit * 1e-20):
            encoding = plan({"x": (2,)}, {"x": Bound(limit, tolerance)}, nodes)
            row = Contribution({"x": torch.tensor([limit, -limit], dtype=torch.float64)})
            found = summed(encoding, [row] * nodes).arrays["x"]
            assert torch.allclose(found, nodes * row.arrays["x"], rtol=1e-15, atol=0)


def test_blocks_of_both_rings_keep_their_places_and_shapes():
    rng = np.random.default_rng(0)
    shapes = {"d": (2, 3), "a": (4,), "c": (0,), "b": (1, 1, 2), "e": ()}
    bounds = {"d": Bound(10, 1e-20), "a": Bound(1), "c": Bound(0), "b": Bound(5), "e": Bound(3, 1e-20)}
    encoding = plan(shapes, bounds, 4)
    assert (encoding.ring.narrow, encoding.ring.wide) == (6, 7)
    made = [
        Contribution({name: torch.from_numpy(np.asarray(rng.uniform(-1, 1, shape))) for name, shape in shapes.items()})
        for _ in range(4)
    ]
    found = summed(encoding, made)
    assert set(found.arrays) == set(shapes)
    for name, shape in shapes.items():
        assert found.arrays[name].shape == shape
        assert torch.allclose(found.arrays[name], sum(each.arrays[name] for each in made), rtol=0, atol=1e-15)


def test_a_value_beyond_the_bound_is_refused():
    encoding = plan({"x": (2,)}, {"x": Bound(1.0)}, 3)
    encoding.encode(Contribution({"x": torch.tensor([1.0, -1.0], dtype=torch.float64)}))
    for value in (math.nextafter(1, 2), -math.nextafter(1, 2), 1e300):
        with pytest.raises(OutOfBounds, match="'x' has values beyond the bound of 1 "):
            encoding.encode(Contribution({"x": torch.tensor([0.0, value], dtype=torch.float64)}))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused(value):
    encoding = plan({"x": (2,)}, {"x": Bound(1.0)}, 3)
    with pytest.raises(OutOfBounds, match="not finite"):
        encoding.encode(Contribution({"x": torch.tensor([0.0, value], dtype=torch.float64)}))


@pytest.mark.parametrize(
    "arrays",
    [{}, {"y": torch.zeros(2).double()}, {"x": torch.zeros(3).double()}, {"x": torch.zeros(1, 2).double()}],
)
def test_other_arrays_are_refused(arrays):
    with pytest.raises(SecureSumError, match="agreed on were"):
        plan({"x": (2,)}, {"x": Bound(1.0)}, 3).encode(Contribution(arrays))


@pytest.mark.parametrize(
    ("limit", "tolerance"),
    [(math.inf, math.inf), (math.nan, 1.0), (-1.0, 1.0), (1.0, 0.0), (1.0, -1.0), (1.0, math.nan)],
)
def test_what_is_no_bound_is_refused(limit, tolerance):
    with pytest.raises(HierfedError, match=r"bound of|tolerance of"):
        Bound(limit, tolerance)


@pytest.mark.parametrize("bound", [Bound(1.0, 1e-40), Bound(1e30, 1e-10), Bound(1e300)])
def test_a_sum_that_no_ring_holds_is_refused_in_advance(bound):
    with pytest.raises(SecureSumError, match="even in 128 bits"):
        plan({"x": (2,)}, {"x": bound}, 100)


def test_every_array_needs_a_bound():
    with pytest.raises(SecureSumError, match=r"every array needs one bound.*: b, c"):
        plan({"a": (1,), "b": (1,)}, {"a": Bound(1), "c": Bound(1)}, 2)
    with pytest.raises(SecureSumError, match="0 nodes"):
        plan({}, {}, 0)


def test_a_sum_that_no_nodes_can_have_made_is_refused():
    for tolerance in (math.inf, 1e-20):
        encoding = plan({"x": (1,)}, {"x": Bound(1.0, tolerance)}, 100)
        row = Contribution({"x": torch.ones(1, dtype=torch.float64)})
        total = encoding.ring.zeros()
        for _ in range(3):
            encoding.ring.add(total, encoding.encode(row))
        assert encoding.decode(total, 3).arrays["x"].item() == 3
        with pytest.raises(SecureSumError, match="beyond 2 times the bound"):
            encoding.decode(total, 2)


def test_the_text_tells_encodings_apart():
    texts = {
        plan({"x": shape}, {"x": Bound(limit, tolerance)}, nodes).text()
        for shape in ((2,), (1, 2))
        for limit in (1.0, math.nextafter(1, 2))
        for tolerance in (math.inf, 1e-25)
        for nodes in (2, 3)
    }
    assert len(texts) == 16


def test_small_arrays_get_more_bits_than_large_ones():
    bounds = public_bounds({"moments": (3,), "items": (4096, 2), "nothing": (0, 9)})
    assert bounds["moments"] == bounds["nothing"]
    assert bounds["moments"].limit > bounds["items"].limit and bounds["moments"].tolerance < bounds["items"].tolerance


@pytest.mark.parametrize("nodes", [2, 8, 64, 65, 512, 100_000])
def test_sums_are_as_exact_as_promised_for_any_number_of_nodes(nodes):
    shapes = {"moments": (3,), "items": (4096, 2)}
    encoding = plan(shapes, public_bounds(shapes), nodes)
    assert encoding.error("moments") <= 2.0**-30
    assert encoding.error("items") <= 2.0**-20
    # Sums by item take half the room for as many nodes as bounds.py says.
    assert {block.name: block.words for block in encoding.blocks} == {"moments": 2, "items": 1 if nodes <= 64 else 2}


def test_the_largest_entries_of_all_nodes_add_up():
    shapes = {"items": (5000,)}
    encoding = plan(shapes, public_bounds(shapes), 8)
    largest = Contribution({"items": torch.full((5000,), 2.0**31, dtype=torch.float64)})
    total = encoding.ring.zeros()
    for _ in range(8):
        encoding.ring.add(total, encoding.encode(largest))
    assert torch.equal(encoding.decode(total, 8).arrays["items"], 8 * largest.arrays["items"])
    with pytest.raises(OutOfBounds):
        encoding.encode(Contribution({"items": largest.arrays["items"] * (1 + 2**-50)}))

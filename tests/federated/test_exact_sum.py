"""The exact sum: the correctly rounded one, in any order and any grouping, and what does not fit."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch

from hierfed.errors import HierfedError
from hierfed.federated.contract import Contribution
from hierfed.federated.exact_sum import BYTES, EXACT_SUM, FRACTION_BITS, LARGEST, ExactTotal, exact_total


def contributions(*columns: list[float]) -> list[tuple[int, Contribution]]:
    rows = torch.tensor(columns, dtype=torch.float64).T
    return [(number, Contribution({"a": row.clone()})) for number, row in enumerate(rows)]


def of_all_sizes(count: int, seed: int) -> list[float]:
    random = torch.Generator().manual_seed(seed)
    sizes = 2.0 ** (80 * torch.rand(count, generator=random, dtype=torch.float64) - 40)
    numbers: list[float] = (torch.randn(count, generator=random, dtype=torch.float64) * sizes).tolist()
    return numbers


@pytest.mark.parametrize("seed", range(5))
def test_it_is_pythons_exact_sum(seed):
    numbers = of_all_sizes(200, seed)
    found = EXACT_SUM(contributions(numbers)).total.arrays["a"].item()
    assert found == pytest.approx(math.fsum(numbers), rel=3e-16, abs=200 * 2.0**-FRACTION_BITS)


@pytest.mark.parametrize("size", [1.0, 2.0**50])
@pytest.mark.parametrize("share", [0.02, 1.0])
def test_arrays_of_few_numbers_and_of_small_ones_have_pythons_exact_sum_too(size, share):
    random = torch.Generator().manual_seed(6)
    rows = size * (2 * torch.rand(12, 100, generator=random, dtype=torch.float64) - 1)
    rows *= torch.rand(12, 100, generator=random) < share
    rows[:, 0] = size * 2.0**-60
    found = EXACT_SUM([(number, Contribution({"a": row})) for number, row in enumerate(rows)]).total.arrays["a"]
    wanted = [float(sum(map(Fraction, column))) for column in rows.T.tolist()]
    assert found.tolist() == pytest.approx(wanted, rel=3e-16, abs=12 * 2.0**-FRACTION_BITS)


def test_any_order_and_any_grouping_give_the_same_bits():
    given = contributions(of_all_sizes(60, 1), of_all_sizes(60, 2))
    wanted = EXACT_SUM(given).total.arrays["a"]
    random = torch.Generator().manual_seed(3)
    for cut in (1, 17, 59):
        mixed = [given[place] for place in torch.randperm(60, generator=random).tolist()]
        first, _ = exact_total(mixed[:cut])
        second, _ = exact_total(mixed[cut:])
        second.add(first)
        assert torch.equal(second.rounded().arrays["a"], wanted)


def test_what_cancels_leaves_what_is_left():
    numbers = [1e16, 3.0, -1e16, -(2.0**-80), -3.0]
    assert EXACT_SUM(contributions(numbers)).total.arrays["a"].item() == -(2.0**-80)
    assert EXACT_SUM(contributions([0.1, -0.1])).total.arrays["a"].item() == 0


def test_carries_are_passed_on_before_limbs_overflow():
    one = ExactTotal.of(Contribution({"a": torch.tensor([2.0**-40 - 2.0**-88], dtype=torch.float64)}))
    for _ in range(20):
        one.add(ExactTotal(dict(one.limbs), {}, one.like, one.added))
    assert one.rounded().arrays["a"].item() == pytest.approx(2.0**20 * (2.0**-40 - 2.0**-88), rel=1e-15)


def test_words_add_modulo_their_range_and_shapes_stay():
    words = torch.tensor([30_000], dtype=torch.int16)
    given = [(number, Contribution({"w": words, "a": torch.ones(2, 3, dtype=torch.float64)})) for number in range(2)]
    found = EXACT_SUM(given)
    assert found.total.arrays["w"].item() == 60_000 - 2**16
    assert found.total.arrays["a"].shape == (2, 3)
    assert exact_total(given)[0].nbytes == 6 * 18 + 2


@pytest.mark.parametrize("wild", [math.nan, math.inf, LARGEST])
def test_a_number_that_does_not_fit_is_refused(wild):
    with pytest.raises(HierfedError, match="'a' is not finite, or not below"):
        EXACT_SUM(contributions([wild]))


def test_what_an_edge_sends_is_the_same_sum_again():
    given = contributions([*of_all_sizes(50, 4), -1e16], [*of_all_sizes(50, 5), 2.0**54])
    words = torch.tensor([30_000, -5], dtype=torch.int16)
    mixed = [(number, Contribution({**each.arrays, "w": words})) for number, each in given]
    whole, _ = exact_total(mixed)
    parts = [exact_total(mixed[:20])[0], exact_total(mixed[20:])[0]]
    like = mixed[0][1]
    sent = [part.sent() for part in parts]
    assert [each.nbytes for each in sent] == [part.nbytes for part in parts] == [2 * BYTES + 4] * 2
    first, second = (ExactTotal.arrived(each, like) for each in sent)
    first.add(second)
    for name, array in whole.rounded().arrays.items():
        assert torch.equal(first.rounded().arrays[name], array)


def test_the_bytes_are_those_of_the_whole_number_the_lowest_first():
    for number in (3.0, -3.0, 2.0**-88, -(2.0**-88), -(2.0**54), 0.1):
        sent = ExactTotal.of(Contribution({"a": torch.tensor([[number]], dtype=torch.float64)})).sent().arrays["a"]
        whole = int(Fraction(number) * 2**FRACTION_BITS)
        assert bytes(sent.tolist()) == whole.to_bytes(BYTES, "little", signed=True)


def test_a_sum_that_needs_more_bytes_is_refused():
    one = ExactTotal.of(Contribution({"a": torch.tensor([2.0**54], dtype=torch.float64)}))
    one.add(ExactTotal(dict(one.limbs), {}, one.like))
    with pytest.raises(HierfedError, match="a sum of 'a' is not below"):
        one.sent()

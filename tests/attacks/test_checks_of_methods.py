"""Of every method's sums: what honest nodes send passes each round's checks, and each array has a check of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from hierfed.federated.checks import Sent, first_reason
from hierfed.federated.contract import Contribution, SharedModel, SumMethod, ordered_sum
from hierfed.methods import Case, stages_of

LIMITS = (0.5, 5.0)
VECTORS = {"item_vector_size": 3, "user_vector_size": 3}
SCAFFOLD = {"correction": "scaffold", "optimizer": "sgd"}

Change = Callable[[Tensor], Tensor]


def times(factor: float) -> Change:
    return lambda array: array * factor


def plus(number: float) -> Change:
    return lambda array: array + number


def last(number: float) -> Change:
    """Another last entry."""
    return lambda array: torch.cat([array.flatten()[:-1], array.new_tensor([number])]).view(array.shape)


Found = tuple[SumMethod, SharedModel, list[Contribution]]


@pytest.fixture(scope="session")
def contributions(data: Any, make_settings: Any) -> Callable[..., Found]:
    """The method of a stage, the model before a round, and what honest nodes send in it."""

    def find(preset: str, changes: Mapping[str, Any], stage: str, number: int) -> Found:
        nodes, models = data.nodes(), dict[str, SharedModel]()
        case = Case(make_settings(preset, **changes), data.catalogue, LIMITS)
        for each in stages_of(case):
            method = each.build(models)
            shared, private = method.start(), [None] * len(nodes)
            while shared.round < each.rounds:
                sent, private = zip(*method.contribute(shared, nodes, private), strict=True)
                if (each.name, shared.round + 1) == (stage, number):
                    return method, shared, list(sent)
                shared = method.combine(shared, ordered_sum(list(sent)))
            models[each.name] = shared
        raise AssertionError(f"no round {number} of stage {stage}")

    return find


NETWORK, FACTORS = ("network", {}), ("hierarchical", {})
LIES: list[tuple[tuple[str, dict[str, Any]], str, int, str, Change, str]] = [
    (FACTORS, "rating", -1, "co_ratings", times(1e4), "co_ratings are beyond"),
    (FACTORS, "rating", -1, "co_ratings", times(-1), "co_ratings are no sums of squares"),
    (FACTORS, "rating", 0, "user_products", times(-1), "user_products are no sums of squares"),
    (FACTORS, "rating", 0, "user_products", times(1e5), "user_products are beyond"),
    (FACTORS, "rating", 0, "products", times(1e5), "products are beyond"),
    (FACTORS, "rating", 0, "sums", times(1e3), "products and sums are no sums of squares"),
    (FACTORS, "ease", 0, "raters", plus(0.5), "raters are counts"),
    (FACTORS, "ease", 1, "co_raters", times(0.5), "co_raters are counts"),
    (FACTORS, "ease", 1, "co_raters", plus(1000), "co_raters are beyond"),
    # One more who has rated both of two items than has rated either.
    (FACTORS, "ease", 1, "co_raters", lambda array: array.index_fill(0, torch.tensor([1]), array[2] + 1), "are beyond"),
    (FACTORS, "implicit", 0, "users", plus(0.5), "users are counts"),
    (FACTORS, "implicit", 0, "raters", plus(100), "raters are beyond"),
    (FACTORS, "implicit", 1, "all_products", times(-1), "all_products are no sums of squares"),
    (FACTORS, "implicit", 1, "products", times(1e5), "products are beyond"),
    (FACTORS, "implicit", 1, "factors", times(1e3), "products and factors are no sums of squares"),
    (("item_biases", {}), "rating", 0, "raters", plus(0.5), "raters are counts"),
    (("item_biases", {}), "rating", 0, "rows", plus(1), "rows are beyond"),
    (("item_biases", {}), "rating", 0, "raters", last(1000), "raters are beyond"),
    (("item_biases", {}), "rating", 0, "ratings", times(3), "ratings are outside"),
    (("item_biases", {}), "rating", 1, "deviations", last(1000), "deviations are beyond"),
    (NETWORK, "features", 0, "sums", times(1e3), "sums are outside"),
    (NETWORK, "features", 1, "squares", times(1e4), "squares are beyond"),
    (NETWORK, "features", 1, "squares", times(-1), "squares are below 0"),
    (NETWORK, "rating", 0, "ratings", times(3), "ratings are outside"),
    (NETWORK, "rating", 1, "rows", plus(0.5), "rows are counts"),
    (NETWORK, "rating", 1, "loss", times(-1), "loss are below 0"),
    (NETWORK, "rating", 1, "change", times(1e6), "change is further"),
    (("network", {"correction": "nova"}), "rating", 1, "steps", times(100), "steps are beyond"),
    (("network", SCAFFOLD), "rating", 1, "control", times(1e6), "control is further"),
    (("network", VECTORS), "rating", 0, "raters", last(1000), "raters are beyond"),
    (("network", VECTORS), "rating", 1, "item_rows", last(1000), "item_rows are beyond"),
    (("network", VECTORS), "rating", 1, "item_change", times(1e6), "moves an item further"),
    (("network", {"experts": 2}), "rating", 1, "asked", plus(0.5), "asked are counts"),
    (("network", {"experts": 2}), "rating", 1, "weights", times(1e3), "weights are beyond"),
    (("network", {"experts": 2}), "rating", 1, "change", times(1e6), "moves an expert further"),
]


@pytest.mark.parametrize(("method", "stage", "number", "name", "change", "reason"), LIES)
def test_each_array_is_bounded_by_a_check_of_its_own(method, stage, number, name, change, reason, contributions):
    trained, shared, sent = contributions(*method, stage, number)
    checks, honest = trained.checks(shared), [each.arrays for each in sent]
    total = ordered_sum(sent).arrays
    assert [first_reason(checks, Sent(arrays)) for arrays in (*honest, total)] == [""] * (len(honest) + 1)
    assert reason in first_reason(checks, Sent({**honest[0], name: change(honest[0][name])}))

"""Work in order on several threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hierfed.models.threads import in_order


@given(st.lists(st.integers()), st.integers(1, 4))
def test_results_come_in_the_order_of_the_tasks(tasks, threads):
    assert list(in_order(lambda task: 2 * task, tasks, threads)) == [2 * task for task in tasks]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_no_more_than_one_task_beside_the_threads_is_ahead(threads):
    taken = 0

    def tasks() -> Iterator[int]:
        nonlocal taken
        for task in range(40):
            taken += 1
            yield task

    for given_out, _ in enumerate(in_order(lambda task: task, tasks(), threads), start=1):
        assert taken <= given_out + threads


def test_tasks_run_side_by_side():
    both = threading.Barrier(2, timeout=30)
    assert len(list(in_order(lambda _: both.wait(), range(2), 2))) == 2


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_reaches_who_asks(threads):
    found = in_order(lambda task: 1 // task, [2, 1, 0, 1], threads)
    assert [next(found), next(found)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(found)

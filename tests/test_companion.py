"""The companion's figures are those of this process, and whatever becomes of it, the run has figures."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from hierfed.companion import process as companion_process
from hierfed.companion import worker
from hierfed.companion.process import Companion
from hierfed.companion.task import Task, read_answer, read_task
from hierfed.data.features import Features
from hierfed.data.federation import Node
from hierfed.evaluation.baselines import begin_here
from hierfed.methods import make_averaging
from hierfed.models.scale import RatingScale
from hierfed.settings import Settings, load_settings

Begun = tuple[Settings, Any, list[Node], int]


@pytest.fixture
def begun(make_node: Callable[..., Node], features: Any) -> Begun:
    """What a run begins: settings, a method that trains otherwise than they say, nodes and rounds."""
    settings = load_settings("paper", {"hidden": [6], "seed": 3})
    method = make_averaging(settings, Features(features.numpy(), (), ()), RatingScale(2.0, -1.0))
    method = replace(method, training=replace(method.training, batch_size=20, epochs=2))
    return settings, method, [make_node(0, 50), make_node(3, 33)], 2


@pytest.fixture
def companion(monkeypatch: pytest.MonkeyPatch) -> Iterator[Companion]:
    """A real second process, though torch is loaded here, and whatever the cores."""
    monkeypatch.setattr(companion_process, "_cores", lambda: 2)
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, "torch")
        companion = Companion()
    with companion:
        yield companion


def child(companion: Companion) -> Any:
    found = companion._process
    assert found is not None
    return found


def refuse(*_: Any, **__: Any) -> Any:
    raise AssertionError("trained here")


def test_the_companion_gives_the_bits_of_this_process_for_one_task_after_the_other(
    companion: Companion, begun: Begun, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, method, nodes, rounds = begun
    other = replace(method, seed=4), [nodes[1]], 1
    here = [begin_here(*task)() for task in ((method, nodes, rounds), other)]
    monkeypatch.setattr("hierfed.evaluation.baselines.begin_here", lambda *_: refuse)
    waits = [
        companion.begin(settings, method, nodes, rounds),
        companion.begin(settings.model_copy(update={"seed": 4}), *other),
    ]
    assert torch.equal(waits[1](), here[1])
    assert torch.equal(waits[0](), here[0])
    assert torch.equal(waits[0](), here[0])


@pytest.mark.parametrize("moment", ["before", "after"])
def test_where_the_companion_has_ended_the_nodes_train_here(companion: Companion, begun: Begun, moment: str) -> None:
    if moment == "before":
        child(companion).kill()
        child(companion).wait()
    wait = companion.begin(*begun)
    if moment == "after":
        child(companion).kill()
    assert torch.equal(wait(), begin_here(*begun[1:])())


def test_an_error_of_the_training_reaches_the_user(companion: Companion, begun: Begun) -> None:
    settings, method, (node, _), rounds = begun
    unknown = replace(node, train=replace(node.train, item=node.train.item + 10**6))
    with pytest.raises(IndexError):
        companion.begin(settings, method, [unknown], rounds)()


def test_the_process_ends_with_the_command_whatever_is_left_to_do(companion: Companion, begun: Begun) -> None:
    for _ in range(3):
        companion.begin(*begun)
    companion.__exit__(None, None, None)
    assert child(companion).poll() is not None


def test_a_terminal_s_ctrl_c_does_not_reach_the_companion(companion: Companion) -> None:
    assert os.getsid(child(companion).pid) != os.getsid(0)


@pytest.mark.parametrize(("cores", "loaded"), [(1, False), (2, True)])
def test_no_process_is_started_where_it_would_not_pay(
    monkeypatch: pytest.MonkeyPatch, begun: Begun, cores: int, loaded: bool
) -> None:
    monkeypatch.setattr(companion_process, "_cores", lambda: cores)
    monkeypatch.setattr("subprocess.Popen", refuse)
    with monkeypatch.context() as patch:
        if not loaded:
            patch.delitem(sys.modules, "torch")
        companion = Companion()
    with companion:
        assert torch.equal(companion.begin(*begun)(), begin_here(*begun[1:])())


def test_a_task_arrives_as_it_was_sent(begun: Begun) -> None:
    settings, method, nodes, rounds = begun
    stream = io.BytesIO()
    Task.of(settings, method, nodes, rounds).write(stream)
    stream.seek(0)
    found = read_task(stream)
    assert found is not None
    assert read_task(stream) is None
    assert (found.settings, found.training, found.rounds) == (settings, method.training, rounds)
    assert np.array_equal(found.features, method.features.numpy())
    for came, sent in zip(found.nodes, nodes, strict=True):
        assert (came.number, came.name) == (sent.number, sent.name)
        assert len(came.test) == 0
        for column in ("user", "item", "value"):
            first, second = getattr(came.train, column), getattr(sent.train, column)
            assert first.dtype == second.dtype
            assert np.array_equal(first, second)


def test_a_message_cut_short_is_the_end(begun: Begun) -> None:
    whole = io.BytesIO()
    Task.of(*begun).write(whole)
    assert read_task(io.BytesIO(whole.getvalue()[:-1])) is None


def test_the_worker_answers_every_task(begun: Begun, monkeypatch: pytest.MonkeyPatch) -> None:
    stream, written = io.BytesIO(), io.BytesIO()
    for rounds in (1, 2):
        Task.of(*begun[:3], rounds).write(stream)
    stream.seek(0)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stream))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written))
    worker.main()
    written.seek(0)
    for rounds in (1, 2):
        assert torch.equal(read_answer(written), begin_here(*begun[1:3], rounds)())
    with pytest.raises(EOFError):
        read_answer(written)

"""A checkpoint is the training, bit for bit, and only that training goes on from it."""

from __future__ import annotations

import json
import os
import stat
from typing import Any

import polars as pl
import pytest
import torch
from safetensors.torch import save_file

from hierfed.data.catalogue import Catalogue
from hierfed.deployment.admission import ServerObserver
from hierfed.deployment.checkpoint import COPY, FILE, Checkpoint, load_checkpoint
from hierfed.deployment.hosting import Hosting, host
from hierfed.deployment.plan import Plan
from hierfed.engines.flower.patience import Patience
from hierfed.errors import HierfedError
from hierfed.federated.contract import SharedModel


def model(seed: int, number: int) -> SharedModel:
    made = torch.Generator().manual_seed(seed)
    arrays = {
        "a.b": torch.randn(4, 3, generator=made, dtype=torch.float64).T,
        "small": torch.tensor([5e-324, -0.0, 0.1 + 0.2], dtype=torch.float64),
        "single": torch.randn(2, generator=made),
        "whole": torch.arange(3),
    }
    return SharedModel(arrays, number)


@pytest.fixture
def checkpoint(data, make_settings) -> Checkpoint:
    plan = Plan(
        "f00d",
        make_settings("hierarchical", **{"data.source": "/here", "description": "mine"}),
        data.catalogue,
        (0.1 + 0.2, 5.0),
        nodes=3,
    )
    # Not in alphabetical order: the place is a node's number.
    return Checkpoint(plan, {"node 2": "b2", "node 10": "a10", "ü\n": "c"}, b'{"entry":1}')


def reload(checkpoint: Checkpoint, folder, **changes: Any) -> Checkpoint:
    found = load_checkpoint(folder, checkpoint.plan.settings, checkpoint.plan.catalogue)
    assert found is not None
    return found


def assert_same(found: Checkpoint, expected: Checkpoint) -> None:
    assert list(found.nodes.items()) == list(expected.nodes.items())
    assert (found.plan.training, found.plan.limits) == (expected.plan.training, expected.plan.limits)
    assert found.plan.settings == expected.plan.settings
    assert found.entry == expected.entry
    assert {stage: (each.digest(), each.round) for stage, each in found.models.items()} == {
        stage: (each.digest(), each.round) for stage, each in expected.models.items()
    }


def test_there_is_none_at_first(checkpoint, tmp_path):
    assert load_checkpoint(tmp_path, checkpoint.plan.settings, checkpoint.plan.catalogue) is None


@pytest.mark.parametrize(
    "models",
    [
        {},
        {"rating": model(1, -2)},
        {"rating": SharedModel({}, -3)},
        {"rating": model(1, 4), "ease": model(2, 1), "implicit": model(3, 0)},
    ],
)
def test_it_is_the_same_when_it_is_read_again(checkpoint, tmp_path, models):
    for stage, shared in models.items():
        checkpoint = checkpoint.with_model(stage, shared)
    checkpoint.save(tmp_path)
    assert_same(reload(checkpoint, tmp_path), checkpoint)
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == [COPY, FILE]


def test_a_model_takes_the_place_of_the_one_of_its_stage_alone(checkpoint):
    first = checkpoint.with_model("rating", model(1, 1)).with_model("ease", model(2, 1))
    second = first.with_model("rating", model(3, 2))
    assert second.models["rating"].digest() == model(3, 2).digest()
    assert second.models["ease"].digest() == model(2, 1).digest()
    assert first.models["rating"].round == 1


def test_tensors_are_in_torch_s_own_memory(checkpoint, tmp_path):
    """As parts of a file they may not be aligned, which may change last digits of products."""
    checkpoint.with_model("rating", model(1, 1)).save(tmp_path)
    found = reload(checkpoint, tmp_path)
    assert all(array.data_ptr() % 64 == 0 for array in found.models["rating"].arrays.values())


OTHERS = {
    "method": {"method": "averaging"},
    "seed": {"seed": 1},
    "rounds": {"rounds": 5},
    "rank": {"rank": 3},
    "kriging": {"noise_share": 0.5},
    "ranking": {"rank_items": False},
    "votes": {"vote_average": "leave_out"},
}


@pytest.mark.parametrize("changes", OTHERS.values(), ids=OTHERS.keys())
def test_other_settings_are_refused_in_one_line(checkpoint, tmp_path, make_settings, changes):
    checkpoint.save(tmp_path)
    with pytest.raises(HierfedError, match="other settings or another catalogue") as error:
        load_checkpoint(tmp_path, make_settings("hierarchical", **changes), checkpoint.plan.catalogue)
    assert "\n" not in str(error.value)
    assert str(tmp_path / FILE) in str(error.value)


def test_another_catalogue_is_refused_in_one_line(checkpoint, tmp_path):
    checkpoint.save(tmp_path)
    frame = checkpoint.plan.catalogue.frame
    for other in (frame.head(9), frame.with_columns(year=pl.col("year") + 1)):
        with pytest.raises(HierfedError, match="other settings or another catalogue") as error:
            load_checkpoint(tmp_path, checkpoint.plan.settings, Catalogue(other))
        assert "\n" not in str(error.value)


def test_settings_that_decide_no_numbers_do_not_matter(checkpoint, tmp_path, make_settings):
    checkpoint.save(tmp_path)
    changes = {"data.source": "/there", "data.columns": {"user": "who"}, "data.test": "x", "description": "another"}
    settings = make_settings("hierarchical", **changes).model_copy(update={"preset": "my.toml"})
    found = load_checkpoint(tmp_path, settings, checkpoint.plan.catalogue)
    assert found is not None
    assert found.plan.settings.data.source == "/there"


def damages(content: bytes) -> dict[str, bytes]:
    return {
        "empty": b"",
        "half": content[: len(content) // 2],
        "all but a byte": content[:-1],
        "beginning": bytes(20) + content[20:],
        "text": b"something else",
        "tensors": (2).to_bytes(8, "little") + b"{}",
    }


@pytest.mark.parametrize("damage", damages(b""))
def test_a_damaged_file_is_one_line_that_says_what_to_do(checkpoint, tmp_path, damage):
    checkpoint.with_model("rating", model(1, 1)).save(tmp_path)
    path, told = tmp_path / FILE, list[str]()
    path.write_bytes(damages(path.read_bytes())[damage])
    found = load_checkpoint(tmp_path, checkpoint.plan.settings, checkpoint.plan.catalogue, told.append)
    assert_same(found, checkpoint.with_model("rating", model(1, 1)))
    assert [COPY in line for line in told] == [True]
    (tmp_path / COPY).write_bytes(path.read_bytes())
    with pytest.raises(HierfedError, match="begin-anew") as error:
        reload(checkpoint, tmp_path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("told", [None, {"format": "hierfed checkpoint 0"}, {"format": "hierfed checkpoint 3"}])
def test_a_file_of_another_kind_is_refused_in_one_line(checkpoint, tmp_path, told):
    save_file({"a": torch.ones(1)}, tmp_path / FILE, metadata=told)
    with pytest.raises(HierfedError, match="begin-anew") as error:
        reload(checkpoint, tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("call", [1, 2])
@pytest.mark.parametrize("step", ["open", "write", "fsync", "replace"])
def test_a_save_that_is_interrupted_leaves_the_old_one_or_the_new_one(checkpoint, tmp_path, monkeypatch, step, call):
    old, new = (checkpoint.with_model("rating", model(number, number)) for number in (1, 2))
    old.save(tmp_path)
    original, calls = getattr(os, step), []

    def interrupted(*arguments: Any, **named: Any) -> Any:
        calls.append(arguments)
        if len(calls) == call:
            # As when the process is killed: nothing after it happens.
            raise KeyboardInterrupt
        return original(*arguments, **named)

    monkeypatch.setattr(os, step, interrupted)
    try:
        new.save(tmp_path)
        ended = False
    except KeyboardInterrupt:
        ended = True
    monkeypatch.undo()
    found = reload(checkpoint, tmp_path)
    # The folder is opened and written out, and the copy made, after the new file has its name.
    finished = not ended or (step, call) in [("open", 2), ("fsync", 2), ("replace", 2)]
    assert_same(found, new if finished else old)
    new.save(tmp_path)
    assert_same(reload(checkpoint, tmp_path), new)


def test_no_secret_of_the_server_s_place_is_in_it(checkpoint, tmp_path):
    checkpoint.save(tmp_path)
    content = (tmp_path / FILE).read_bytes()
    assert b"/here" not in content
    size = int.from_bytes(content[:8], "little")
    assert json.loads(content[8 : 8 + size])["__metadata__"]["training"] == "f00d"


def test_a_server_leaves_the_folder_of_another_version_as_it_was(checkpoint, tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / FILE, metadata={"format": "hierfed checkpoint 3"})
    before = (tmp_path / FILE).read_bytes()
    plan, hosting = checkpoint.plan, Hosting("127.0.0.1", 0)
    with pytest.raises(HierfedError, match="finish it with the version that began it") as error:
        host(plan.settings, plan.catalogue, tmp_path, hosting, 1, 1, Patience(), ServerObserver())
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert (tmp_path / FILE).read_bytes() == before

"""Every name of Flower's that the engine uses exists in the installed version, public or not."""

from __future__ import annotations

import ast
import importlib
from importlib.metadata import version
from pathlib import Path

import pytest

import hierfed

PACKAGE = Path(hierfed.__file__).parent


def imported() -> set[tuple[str, str]]:
    """The pairs of a module of Flower's and a name that the package takes from it."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "flwr":
                found |= {(node.module, name.name) for name in node.names}
    return found


@pytest.mark.parametrize("module, name", sorted(imported()))
def test_a_name_exists(module, name):
    assert hasattr(importlib.import_module(module), name)


def test_the_parts_that_are_reached_into_exist():
    from flwr.supercore.runtime import RuntimeHttpClient
    from flwr.supercore.task_identity import TaskIdentity
    from flwr.superlink.grid.http_grid import HttpGrid

    assert {"_runtime_client"} <= set(HttpGrid.__init__.__code__.co_names) | set(vars(HttpGrid))
    assert callable(RuntimeHttpClient.PullObject)
    assert callable(RuntimeHttpClient.PullTaskInput)
    assert all(hasattr(TaskIdentity, name) for name in ("task_id", "run_id", "node_id"))


def test_the_version_is_one_that_was_tried():
    assert version("flwr").split(".")[:2] in (["1", "41"], ["1", "42"])

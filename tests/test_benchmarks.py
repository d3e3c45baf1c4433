"""Benchmarks run by hand alone, so all that they take from the package is looked up here, without running them."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import tomllib
from pathlib import Path

import pytest

from hierfed.observer import Observer

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
FILES = sorted(BENCHMARKS.rglob("*.py"))


def missing_names(code: str) -> list[str]:
    """The names that a module imports from hierfed and that are not there."""
    missing = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            modules = [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            modules = [(node.module or "", alias.name) for alias in node.names]
        else:
            continue
        for module, name in modules:
            if module.split(".")[0] == "hierfed" and not exists(module, name):
                missing.append(f"{module} {name}".strip())
    return missing


def exists(module: str, name: str) -> bool:
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        # Another package's absence says nothing of this one's names.
        return error.name is not None and error.name.split(".")[0] != "hierfed"
    if not name or hasattr(found, name):
        return True
    return hasattr(found, "__path__") and importlib.util.find_spec(f"{module}.{name}") is not None


def test_there_are_benchmarks() -> None:
    assert len(FILES) > 20


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(BENCHMARKS)))
def test_all_that_a_benchmark_imports_from_the_package_is_there(path: Path) -> None:
    assert missing_names(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", sorted((BENCHMARKS / "mutants").glob("*.toml")), ids=lambda path: path.stem)
def test_what_a_mutant_breaks_is_there(path: Path) -> None:
    """`benchmarks/mutate.py` says so too, but takes minutes."""
    root, mutants = BENCHMARKS.parent, tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]
    assert mutants
    assert [each["breaks"] for each in mutants if each["old"] not in (root / each["file"]).read_text()] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(BENCHMARKS)))
def test_an_observer_of_a_benchmark_overrides_what_there_is(path: Path) -> None:
    """A method of another name would never be called, and the benchmark would measure nothing."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef) and "Observer" in {getattr(base, "id", "") for base in node.bases}:
            methods = {each.name for each in node.body if isinstance(each, ast.FunctionDef) and each.name != "__init__"}
            assert methods
            assert all(hasattr(Observer, name) for name in methods)


@pytest.mark.parametrize(
    ("code", "missing"),
    [
        ("from hierfed.observer import Observer, Watcher", ["hierfed.observer Watcher"]),
        ("import hierfed.nowhere", ["hierfed.nowhere"]),
        ("from hierfed.nowhere import anything", ["hierfed.nowhere anything"]),
        ("def late():\n    from hierfed.data import nothing, ratings", ["hierfed.data nothing"]),
        ("import numpy\nfrom os import nothing\nfrom hierfed import run", []),
    ],
)
def test_a_name_that_is_not_there_is_found(code: str, missing: list[str]) -> None:
    assert missing_names(code) == missing

"""General rooms know no method: no import from a method's room, no method's name, no look at a method's type."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import hierfed
from hierfed.methods import METHODS
from hierfed.settings import preset_names

PACKAGE = Path(hierfed.__file__).parent
ROOMS = {path.parent.name for path in (PACKAGE / "methods").glob("*/__init__.py")}
GENERAL = [path for path in sorted(PACKAGE.rglob("*.py")) if not path.is_relative_to(PACKAGE / "methods")]
EVERY_GENERAL_FILE = pytest.mark.parametrize("path", GENERAL, ids=lambda path: path.relative_to(PACKAGE).as_posix())


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_imports(tree: ast.AST) -> set[str]:
    """The imports from a method's room, but for sections of the settings."""
    parts = (name.split(".") for name in imported(tree))
    inside = (each for each in parts if each[:2] == ["hierfed", "methods"] and len(each) > 2 and each[2] in ROOMS)
    return {".".join(each) for each in inside if each[3:4] != ["settings"]}


def method_names(tree: ast.AST) -> list[int]:
    """The lines with a literal that is a method's name. Defaults and arguments called `preset` are presets."""
    presets = {
        id(default)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        for argument, default in zip(node.args.args[::-1], node.args.defaults[::-1], strict=False)
        if argument.arg == "preset"
    }
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value in METHODS and id(node) not in presets
    ]


# Of the contract: any method may have them.
CAPABILITIES = {"PooledMethod", "Limited", "DatedSums", "SteeredMethod"}


def looks_at_types(tree: ast.AST) -> list[int]:
    """The lines that compare a method's name, or ask which class a method or its kind has."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("isinstance", "type"):
            asked, *classes = map(ast.unparse, node.args)
            if asked.split(".")[-1] == "method" and not (classes and CAPABILITIES.issuperset(classes)):
                found.append(node.lineno)
        elif isinstance(node, ast.Compare):
            sides = [ast.unparse(side) for side in (node.left, *node.comparators)]
            if any(side.endswith((".settings.method", "settings.method")) for side in sides):
                found.append(node.lineno)
    return found


@EVERY_GENERAL_FILE
def test_a_general_file_knows_no_method(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert room_imports(tree) == set()
    assert method_names(tree) == []
    assert looks_at_types(tree) == []


def test_the_experiment_reads_as_one_page():
    assert len((PACKAGE / "experiment.py").read_text(encoding="utf-8").splitlines()) <= 150


def test_every_method_has_a_room_and_a_preset():
    assert len(METHODS) >= 5
    assert set(preset_names()) >= {"hierarchical", "local", "network", "paper", "private", "item_biases"}
    assert METHODS.keys() <= ROOMS


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from hierfed.methods.averaging.averaging import FederatedAveraging", True),
        ("import hierfed.methods.local.local", True),
        ("from hierfed.methods.averaging.settings import ModelSettings", False),
        ("from hierfed.methods import METHODS", False),
        ("from hierfed.methods.kind import Case", False),
    ],
)
def test_imports_from_a_room_are_found(source, found):
    assert bool(room_imports(ast.parse(source))) is found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("x = 'averaging'", True),
        ("TABLE = {'local': 1}", True),
        ("def run(preset: str = 'hierarchical'): ...", False),
        ("def run(method: str = 'hierarchical'): ...", True),
        ("x = 'local_only'", False),
    ],
)
def test_names_of_methods_are_found(source, found):
    assert bool(method_names(ast.parse(source))) is found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("isinstance(self.method, Thing)", True),
        ("isinstance(predictor, Network)", False),
        ("if settings.method == name: ...", True),
        ("if type(method) is Thing: ...", True),
        ("if settings.seed == 3: ...", False),
    ],
)
def test_looks_at_a_methods_type_are_found(source, found):
    assert bool(looks_at_types(ast.parse(source))) is found


def test_docstrings_begin_with_what_a_thing_is():
    """Not with a question: few of them may."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    asking = [
        f"{path.name}: {text.splitlines()[0]}"
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, kinds) and (text := ast.get_docstring(node) or "")
        if text.split()[0] in {"What", "Who", "How", "Whether", "If"}
    ]
    assert len(asking) <= 30, asking

"""The package's layers: imports go one way only, and importing does no work."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import hierfed

PACKAGE = Path(hierfed.__file__).parent
LAYERS = (
    ("answers", "atomic", "errors", "leash", "private_randomness", "randomness"),
    ("refusals", "results", "sections", "settings"),
    ("data",),
    ("models",),
    ("personal",),
    ("federated",),
    ("ledger", "privacy"),
    ("engines",),
    ("evaluation",),
    ("report",),
    ("allocation", "allocation_cache", "methods"),
    ("comparison", "ranked", "selection", "storage"),
    ("private_files", "served_pair"),
    ("experiment",),
    ("companion",),
    ("audit", "refit", "runs", "serving"),
    ("deployment",),
    ("api",),
    ("cli",),
)
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer} | {"__init__": len(LAYERS) - 2}
RANK |= {"__main__": len(LAYERS)}
FILES = sorted(PACKAGE.rglob("*.py"))
EVERY_FILE = pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())


def part_of(path: Path) -> str:
    """The top-level module or package of the file: `data`, `cli`..."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(tree: ast.AST) -> Iterator[str]:
    """The full names of everything that is imported anywhere, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_parts(tree: ast.AST) -> set[str]:
    """The parts of hierfed that are imported; of `from hierfed import __version__` none."""
    names = (name.split(".") for name in imports_of(tree))
    return {parts[1] for parts in names if parts[0] == "hierfed" and len(parts) > 1 and parts[1] != "__version__"}


def is_definition(statement: ast.stmt) -> bool:
    """Whether the statement only names something: no call on its own, no loop, no condition but for the types."""
    if isinstance(statement, ast.If):
        return ast.unparse(statement.test) == "TYPE_CHECKING" and all(map(is_definition, statement.body))
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)
    kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
    return isinstance(statement, kinds)


@EVERY_FILE
def test_no_module_imports_a_later_layer(path):
    own = part_of(path)
    later = {part for part in imported_parts(ast.parse(path.read_text(encoding="utf-8"))) if RANK[part] > RANK[own]}
    assert not later, f"{own} imports {sorted(later)}, which come after it"


@EVERY_FILE
def test_flower_is_imported_by_its_own_engine_only(path):
    roots = {name.split(".")[0] for name in imports_of(ast.parse(path.read_text(encoding="utf-8")))}
    assert "flwr" not in roots or path.is_relative_to(PACKAGE / "engines" / "flower")


@EVERY_FILE
def test_nothing_is_pickled_by_name(path):
    roots = {name.split(".")[0] for name in imports_of(ast.parse(path.read_text(encoding="utf-8")))}
    assert not roots & {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


@EVERY_FILE
def test_importing_a_module_does_no_work(path):
    if path.name == "__main__.py":
        return
    statements = ast.parse(path.read_text(encoding="utf-8")).body
    working = [f"line {statement.lineno}" for statement in statements if not is_definition(statement)]
    assert not working


def test_every_part_of_the_package_has_a_layer():
    assert {part_of(path) for path in FILES} <= RANK.keys()
    assert len(FILES) > 40


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("import hierfed.cli", {"cli"}),
        ("from hierfed import runs", {"runs"}),
        ("def late():\n    from hierfed.federated.contract import Method", {"federated"}),
        ("if TYPE_CHECKING:\n    from hierfed.api import Run", {"api"}),
        ("import torch, hierfed.data.splits as s", {"data"}),
        ("from hierfed import __version__", set()),
    ],
)
def test_imports_are_found_wherever_they_are(source, parts):
    assert imported_parts(ast.parse(source)) == parts


@pytest.mark.parametrize(
    ("source", "definition"),
    [
        ("print(1)", False),
        ("for k in range(3): pass", False),
        ("if x: y = 1", False),
        ("with open('f') as f: pass", False),
        ("x += 1", False),
        ("'text'", True),
        ("x: int = 1", True),
        ("if TYPE_CHECKING:\n    import torch", True),
    ],
)
def test_work_at_import_is_told_from_definitions(source, definition):
    assert is_definition(ast.parse(source).body[0]) is definition

"""The package's layers: imports go one way only, and importing does no work."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import hierfed

PACKAGE = Path(hierfed.__file__).parent
# Declarations are what is known of a method before it is made: its kind, its words and its settings.
LAYERS = (
    (
        "plain_text",
        "addresses",
        "errors",
        "exports",
        "sealed",
        "tensor_files",
        "atomic",
        "leash",
        "lookup",
        "private_randomness",
        "randomness",
    ),
    ("results", "serving.answers"),
    (
        "data.activity",
        "data.grouping",
        "data.partitions",
        "data.popularity",
        "data.rating_scale",
        "data.users_of_rows",
        "section",
    ),
    ("declarations",),
    ("settings", "settings_by_name", "settings_reference", "settings_refusals"),
    ("data",),
    ("generated",),
    ("data.reading",),
    ("data.division",),
    ("models",),
    ("federated",),
    ("observer", "stopwatch"),
    ("ledger", "privacy"),
    ("methods",),
    ("engines",),
    ("evaluation",),
    ("report", "tracking"),
    ("outcome",),
    ("experiment",),
    ("runs",),
    ("serving",),
    ("page",),
    ("service",),
    ("fitting",),
    ("estimators",),
    ("deployment",),
    ("side_by_side",),
    ("api",),
    ("cli",),
)
# The rules, steps and optimizers of a federation are declarations too: settings name them.
FEDERATED = ("checks", "contract", "method", "participation", "private")
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer} | {"__init__": len(LAYERS) - 2}
RANK |= {"__main__": len(LAYERS)}
FILES = sorted(PACKAGE.rglob("*.py"))
EVERY_FILE = pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())


def layer_of(path: Path) -> str:
    """The layer that a file belongs to."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    if len(parts) > 1 and parts[-1] == "settings":
        return "declarations"
    if parts[0] == "federated" and parts[-1] not in ("__init__", *FEDERATED):
        return "declarations"
    if parts[0] == "methods" and parts[-1] in ("__init__", "kind", "messages", "words"):
        return "declarations"
    return ".".join(parts[:2]) if ".".join(parts[:2]) in RANK else parts[0]


def file_of(name: str) -> Path | None:
    """The file of a module, or of the module that holds this name; None for the package itself."""
    parts = name.split(".")[1:]
    while parts:
        place = PACKAGE.joinpath(*parts)
        for path in (place.with_suffix(".py"), place / "__init__.py"):
            if path.is_file():
                return path
        parts = parts[:-1]
    return None


def without_types(tree: ast.AST) -> ast.AST:
    """The tree without what is imported for type checkers alone."""

    class Types(ast.NodeTransformer):
        def visit_If(self, node: ast.If) -> ast.If | None:
            return None if ast.unparse(node.test) == "TYPE_CHECKING" else node

    return Types().visit(tree)


def imports_of(tree: ast.AST) -> Iterator[str]:
    """The full names of everything that is imported anywhere, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_files(tree: ast.AST) -> set[Path]:
    """The files of hierfed that are imported; of `from hierfed import __version__` none."""
    found = (file_of(name) for name in imports_of(tree) if name.split(".")[0] == "hierfed")
    return {path for path in found if path is not None}


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
    """Declarations alone may name later types, and load their own room when a method is made."""
    tree, own = ast.parse(path.read_text(encoding="utf-8")), layer_of(path)
    if own == "declarations":
        tree = without_types(tree)
    later = {file for file in imported_files(tree) if RANK[layer_of(file)] > RANK[own]}
    if own == "declarations":
        later = {file for file in later if file.relative_to(PACKAGE).parts[0] != path.relative_to(PACKAGE).parts[0]}
    assert not later, f"{own} imports {sorted(map(str, later))}, which come after it"


def test_settings_are_checked_without_torch():
    code = (
        "import sys, hierfed.settings; assert not {'torch', 'polars', 'scipy'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("module", "unused"),
    [
        ("serving.recommender", {"matplotlib", "jinja2", "hierfed.engines"}),
        ("fitting", {"matplotlib", "jinja2"}),
        ("deployment.node", {"matplotlib", "jinja2", "flwr.cli.build"}),
    ],
)
def test_what_serves_fits_or_takes_part_loads_nothing_that_draws(module, unused):
    """It took a third of the time to the first list, and a fifth of a node's start."""
    if module.startswith("deployment"):
        pytest.importorskip("flwr", reason="flwr is not here: pip install '.[flower]'")
    code = (
        f"import sys, hierfed.{module}; unused = {unused!r}; "
        "assert not unused & set(sys.modules), unused & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


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
    assert {layer_of(path) for path in FILES} <= RANK.keys()
    assert len(FILES) > 40


@pytest.mark.parametrize(
    ("source", "files"),
    [
        ("import hierfed.cli", {"cli/__init__.py"}),
        ("from hierfed.runs import folder", {"runs/folder.py"}),
        ("def late():\n    from hierfed.federated.contract import Contribution", {"federated/contract.py"}),
        ("if TYPE_CHECKING:\n    from hierfed.api import Run", {"api.py"}),
        ("import torch, hierfed.data.splits as s", {"data/splits.py"}),
        ("from hierfed.methods import METHODS", {"methods/__init__.py"}),
        ("from hierfed import __version__", set()),
    ],
)
def test_imports_are_found_wherever_they_are(source, files):
    assert {path.relative_to(PACKAGE).as_posix() for path in imported_files(ast.parse(source))} == files


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

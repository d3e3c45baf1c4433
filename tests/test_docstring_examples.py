"""The examples in the docstrings of public names do what they show, on one small table."""

from __future__ import annotations

import doctest
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import hierfed
from hierfed import side_by_side

USERS, ITEMS = 40, 20
PUBLIC = sorted(set(hierfed.__all__) - {"__version__"})
ANSWERS = [name for name in vars(hierfed.Recommender) if not name.startswith("_") and name not in ("check", "number")]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What the examples take as given: `ratings`, its columns, a table of them, a run's folder and `model`."""
    rng = np.random.default_rng(3)
    user, item = (each.ravel() for each in np.meshgrid(np.arange(USERS), np.arange(ITEMS), indexing="ij"))
    chosen = rng.random(len(user)) < 0.7
    stars = np.clip(np.round(2 * (3 + 0.4 * (item % 4) + rng.normal(0, 0.7, len(user)))) / 2, 0.5, 5.0)
    ratings = pl.DataFrame(
        {"user": user + 1, "item": item + 1, "rating": stars, "time": 86_400 * 20 * np.arange(len(user))}
    ).filter(pl.Series(chosen))
    folder = tmp_path_factory.mktemp("examples")
    ratings.write_csv(folder / "ratings.csv")
    table = ratings.drop("time")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        hierfed.run("hierarchical", data=table, protocol="warm", rounds=2, select=False).save("runs/hierarchical")
        model = hierfed.load("runs/hierarchical")
        columns = dict(zip(("users", "items", "stars"), table.iter_columns(), strict=True))
        yield {"hierfed": hierfed, "np": np, "ratings": table, "model": model, **columns}


def run_examples(thing: object, names: dict[str, Any]) -> int:
    """Run the examples of one docstring, and give their number."""
    (example,) = doctest.DocTestFinder(recurse=False).find(thing, "example", globs=dict(names))
    told: list[str] = []
    found = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=told.append)
    assert found.failed == 0, "".join(told)
    return found.attempted


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_has_an_example_that_is_true(name: str, names: dict[str, Any]) -> None:
    assert run_examples(getattr(hierfed, name), names | {name: getattr(hierfed, name)})


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_has_an_example_that_is_true(name: str, names: dict[str, Any]) -> None:
    model = hierfed.load(Path("runs/hierarchical"))
    assert run_examples(getattr(hierfed.Recommender, name), names | {"model": model})


@pytest.mark.parametrize("kind", [side_by_side.Seeds, side_by_side.Comparison, side_by_side.Sweep])
def test_what_several_runs_give_has_an_example_that_is_true(kind: type, names: dict[str, Any]) -> None:
    assert run_examples(kind, names)

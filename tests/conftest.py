"""Builders that the tests of every layer share: ratings, nodes and item features, small and reproducible."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

import hierfed
from hierfed.data.content import Content
from hierfed.data.federation import Node
from hierfed.data.ratings import Ratings
from hierfed.methods.hierarchical.beliefs import Strengths
from hierfed.methods.hierarchical.hierarchical import HierarchicalFactors
from hierfed.models.kernel import KernelSettings
from hierfed.report.figures import figures_of
from hierfed.results import Result
from hierfed.runs import reports as reports_of_run
from tests import forked
from tests.commands import Hierfed, caller

LONG = ("test_tutorials.py", "test_examples.py", "test_site.py", "test_cli.py")
CHROMIUM_ARGUMENTS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
USERS, ITEMS, FEATURES = 7, 23, 5
FANS, FILMS, PER_FAN = 40, 50, 12
MakeRatings = Callable[..., Ratings]
MakeNode = Callable[..., Node]
MakeContent = Callable[..., Content]
MakePairs = Callable[..., Ratings]
MakeFactors = Callable[..., HierarchicalFactors]
Divide = Callable[[Ratings, Sequence[int]], list[Node]]


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread() -> None:
    """Torch's own threads would compete with the tests' neighbours on the same cores."""
    torch.set_num_threads(1)


drawing = [True]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest of the last files come first, lest one worker waits for another at the end."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Runs are saved with figures for tests that are marked; see placeholders."""
    drawing[0] = item.get_closest_marker("figures") is not None


@pytest.fixture(scope="session", autouse=True)
def placeholders() -> Iterator[None]:
    """Empty pictures in place of figures, which take most of a small run's time, where a test does not look at them."""
    drawn = reports_of_run.save_figures

    def save(result: Result, folder: Path) -> list[Path]:
        if drawing[0]:
            return drawn(result, folder)
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{name}.{end}" for name in figures_of(result) for end in ("png", "svg")]
        for path in paths:
            path.write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
        return paths

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reports_of_run, "save_figures", save)
        yield


@pytest.fixture(scope="session")
def parent() -> Iterator[forked.Parent]:
    """The process that those of tests are forked from."""
    with forked.parent() as found:
        yield found


@pytest.fixture(scope="session")
def make_ratings() -> MakeRatings:
    """Ratings of 7 users and 23 items in half stars, the same for the same rows and seed."""

    def make(rows: int, seed: int = 0) -> Ratings:
        rng = np.random.default_rng([seed, rows])
        return Ratings(
            user=rng.integers(USERS, size=rows, dtype=np.int32),
            item=rng.integers(ITEMS, size=rows, dtype=np.int32),
            value=(rng.integers(1, 11, size=rows) / 2).astype(np.float32),
            time=rng.integers(10**9, size=rows),
        )

    return make


@pytest.fixture(name="hierfed")
def hierfed_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Hierfed:
    """Run a command in this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return caller(monkeypatch, capsys)


@pytest.fixture(scope="session")
def make_node(make_ratings: MakeRatings) -> MakeNode:
    """A node with this number and these many rows to learn from."""

    def make(number: int, rows: int, seed: int = 0, test_rows: int = 0) -> Node:
        return Node(
            number,
            str(number + 1),
            make_ratings(rows, 100 * seed + number),
            make_ratings(test_rows, 100 * seed + number + 50),
        )

    return make


@pytest.fixture(scope="session")
def features() -> Tensor:
    """Standardised features of the 23 items."""
    return torch.randn(ITEMS, FEATURES, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="session")
def make_content() -> MakeContent:
    """Random public features of so many items, the same for the same arguments; 0 scalars is without metadata."""

    def make(items: int, seed: int = 0, scalars: int = 3, genres: int = 4, titles: bool = True) -> Content:
        rng = np.random.default_rng([seed, items, scalars, genres])
        flags = (rng.random((items, genres)) < 0.4).astype(float)
        words = ("night", "garden", "the river", "return", "stone", "winter")
        names = [f"{rng.choice(words)} {rng.choice(words)} " for _ in range(items)]
        return Content(
            scalars=rng.normal(0, 1, (items, scalars)),
            names=tuple(f"scalar {number}" for number in range(scalars)),
            genres=flags - flags.mean(0),
            unit_genres=flags / np.sqrt(np.maximum(flags.sum(1, keepdims=True), 1)),
            year_bumps=rng.random((items, 3)),
            vote=rng.normal(0, 1, items),
            votes=rng.normal(0, 1, items),
            year=rng.normal(0, 1, items),
            vote_average=rng.uniform(5, 8, items),
            lower_titles=tuple(names) if titles else ("",) * items,
        )

    return make


@pytest.fixture(scope="session")
def make_pairs() -> MakePairs:
    """Ratings in half stars where no user rates an item twice; users and items have very unlike numbers of them.

    User 0 has one rating.
    """

    def make(users: int, items: int, seed: int = 0, most: int = 12, noise: float = 0.7) -> Ratings:
        rng = np.random.default_rng([seed, users, items])
        bias, quality = rng.normal(0, 0.5, users), rng.normal(0, 0.6, items)
        counts = [1, *rng.integers(1, min(most, items) + 1, users - 1).tolist()]
        popularity = np.arange(1, items + 1) ** -0.8
        popularity = popularity / popularity.sum()
        chosen = [rng.choice(items, count, replace=False, p=popularity) for count in counts]
        user = np.repeat(np.arange(users), [len(each) for each in chosen])
        order = rng.permutation(len(user))
        user, item = user[order], np.concatenate(chosen)[order]
        stars = 3.4 + bias[user] + quality[item] + rng.normal(0, noise, len(user))
        value = np.clip(np.round(2 * stars) / 2, 0.5, 5).astype(np.float32)
        return Ratings(user.astype(np.int32), item.astype(np.int32), value)

    return make


@pytest.fixture(scope="session")
def make_factors() -> MakeFactors:
    """The hierarchical model of these items, small, with an embedding, kriging and means of nodes."""

    def make(content: Content, **changes: Any) -> HierarchicalFactors:
        method: dict[str, Any] = {
            "rank": 2,
            "threshold": 2,
            "embedding_rank": 3,
            "embedding_rounds": 3,
            "strengths": Strengths(),
            "between_nodes": True,
            "kernel": KernelSettings(),
            "limits": (0.5, 5.0),
            "seed": 3,
        }
        return HierarchicalFactors(content=content, **{**method, **changes})

    return make


@pytest.fixture(scope="session")
def divide_users() -> Divide:
    """Nodes 0, 1, ... from the ratings and the node of each user; nothing is held out."""

    def divide(ratings: Ratings, node_of: Sequence[int]) -> list[Node]:
        node, nobody = np.asarray(node_of)[ratings.user], ratings.take(np.empty(0, np.int64))
        return [
            Node(number, str(number + 1), ratings.take(np.flatnonzero(node == number)), nobody)
            for number in range(max(node_of) + 1)
        ]

    return divide


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like MovieLens' of another size: ratings.csv and movies.csv."""
    rng, place = np.random.default_rng(5), tmp_path_factory.mktemp("films")
    quality, taste = rng.normal(0, 0.7, FILMS), rng.normal(0, 0.5, FANS)
    rows = [
        (user + 1, item + 1, float(np.clip(round(2 * (3.4 + quality[item] + taste[user])) / 2, 0.5, 5)))
        for user in range(FANS)
        for item in rng.choice(FILMS, PER_FAN, replace=False).tolist()
    ]
    pl.DataFrame(rows, schema=["userId", "movieId", "rating"], orient="row").write_csv(place / "ratings.csv")
    words = ("Night", "Garden", "The River", "Return", "Stone", "Winter")
    titles = [f"{words[k % 6]} {words[k // 6 % 6]} {k} ({1950 + k})" for k in range(FILMS)]
    genres = ["Comedy|Drama" if k % 3 else "Film-Noir" for k in range(FILMS)]
    films = pl.DataFrame({"movieId": range(1, FILMS + 1), "title": titles, "genres": genres})
    films.write_csv(place / "movies.csv")
    return place


@pytest.fixture(scope="session")
def model(films: Path) -> hierfed.Recommender:
    """The hierarchical preset, fitted to these films."""
    return hierfed.fit(
        films,
        protocol="warm",
        scale=(0.5, 5.0),
        rounds=3,
        nodes=2,
        rank=3,
        embedding_rank=4,
        min_raters=3,
        select=False,
        implicit_rank=3,
        implicit_rounds=2,
    )


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A headless Chromium. Its event loop runs as long as it does, and other modules' tests run loops of their own."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not here: pip install '.[browser]'")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("there is no Chromium here: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()

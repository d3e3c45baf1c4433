"""The docs as a reader meets them: the site builds without a warning, code runs, and sentences are short."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from hierfed.cli import app
from hierfed.generated.files import write_world

ROOT = Path(__file__).parent.parent
# Pages that a newcomer works through: each block of code on them runs, or says why not.
WALKED = [
    "index.md",
    "start.md",
    "presets.md",
    *(f"how-to/{path.name}" for path in (ROOT / "docs/how-to").glob("*.md")),
]
START = ["README.md", "docs/index.md", "docs/start.md", "docs/presets.md"]
_BLOCK = re.compile(r"(<!-- not run: [^>]+ -->\n)?```(\w*)\n(.*?)```", re.S)


@dataclass(frozen=True)
class Block:
    """A block of code of a page. skipped: why it is not run; empty where it is."""

    language: str
    code: str
    skipped: str


def blocks(page: str) -> Iterator[Block]:
    for skipped, language, code in _BLOCK.findall((ROOT / "docs" / page).read_text(encoding="utf-8")):
        yield Block(language, code, skipped)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the pages speak of, small ones."""
    folder = tmp_path_factory.mktemp("walk")
    write_world(folder / "world", users=40, items=50, ratings=1_000, seed=4)
    ratings = pl.read_parquet(folder / "world/ratings.parquet")
    user, item, rating = ratings.columns[:3]
    table = ratings.select(
        pl.format("u{}", user).alias("user"), pl.format("0{}", item).alias("item"), pl.col(rating).alias("rating")
    )
    table.write_csv(folder / "ratings.csv")
    table.rename({"user": "who", "item": "what", "rating": "stars"}).write_csv(folder / "visits.csv")
    return folder


def small(command: list[str]) -> list[str]:
    """The command on the few ratings of the test, and not on those that come with the package."""
    if command[:2] in (["hierfed", "run"], ["hierfed", "compare"]) and "--data" not in command:
        command = [*command, "--data", "world"]
    if command[:3] == ["hierfed", "run", "hierarchical"]:
        command = [*command, "--set", "select=false", "--set", "rounds=2"]
    return command


@pytest.mark.parametrize("page", sorted(WALKED))
def test_code_on_the_page_runs(page, place, monkeypatch):
    monkeypatch.chdir(place)
    for block in blocks(page):
        if block.skipped or block.language not in ("sh", "python"):
            continue
        if block.language == "python":
            exec(block.code.replace('data="embedded"', 'data="world"'), {"__name__": "__main__"})
            continue
        for line in block.code.splitlines():
            name, *command = small(shlex.split(line))
            assert name == "hierfed", f"{line}: only commands of hierfed are run; say why it is not"
            done = CliRunner().invoke(app, command)
            assert done.exit_code == 0, f"{line}\n{done.output}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built; a warning is an error."""
    pytest.importorskip("mkdocstrings")
    pytest.importorskip("material")
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(build, check=False, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_site_builds_without_a_warning(site):
    pages = {path.relative_to(site).as_posix() for path in site.rglob("*.html")}
    assert {"index.html", "start/index.html", "settings/index.html", "reference/index.html"} <= pages
    # Nothing is fetched from another host: neither fonts nor scripts.
    home = (site / "index.html").read_text(encoding="utf-8")
    assert not re.findall(r'(?:src|href)="https?://(?!www\.mkdocs|squidfunk)[^"]+\.(?:js|css|woff2?)', home)


def test_parameters_are_a_list_and_examples_are_code(site):
    reference = (site / "reference/index.html").read_text(encoding="utf-8")
    assert "<li>\n<p><code>module</code>: a function from the number of features" in reference
    assert "<blockquote>" not in reference
    assert re.search(r"<pre><code[^>]*>&gt;&gt;&gt; import hierfed", reference)


@pytest.mark.parametrize("page", ["index.html", "results/index.html", "skew/index.html", "robustness/index.html"])
@pytest.mark.parametrize("width", [420, 1280])
def test_pages_of_the_site_fit_a_phone_and_a_desk(site, chromium, page, width):
    tab = chromium.new_page(viewport={"width": width, "height": 900})
    tab.goto((site / page).as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    # A number stays on one line with its deviation, whatever the table's width.
    lines = tab.evaluate("[...document.querySelectorAll('td .number')].map((number) => number.getClientRects().length)")
    assert set(lines) <= {1}
    assert (len(lines) > 20) == (page == "results/index.html")
    if page.startswith("results"):
        assert (
            tab.eval_on_selector("article table", "table => table.scrollWidth - table.parentElement.clientWidth") <= 0
        )
    for picture in tab.query_selector_all("article img"):
        assert picture.evaluate("image => image.naturalWidth > 0 && image.parentElement.href === image.src")
    tab.close()


@pytest.mark.parametrize("page", START)
def test_pages_for_newcomers_are_easy_to_read(page):
    textstat = pytest.importorskip("textstat")
    text = (ROOT / page).read_text(encoding="utf-8")
    plain = _BLOCK.sub("", text)
    plain = re.sub(r"^\|.*$", "", plain, flags=re.M)
    plain = re.sub(r"!?\[([^\]]+)\]\([^)]*\)", r"\1", plain)
    plain = re.sub(r"^#+ (.*)$", r"\1.", plain, flags=re.M)
    plain = re.sub(r"^(?:[-*]|\d+\.) ", "", plain, flags=re.M).replace("`", "").replace("*", "")
    assert textstat.flesch_reading_ease(plain) >= 50
    sentences = [each for each in re.split(r"[.!?:;](?:\s|$)", plain) if each.strip()]
    assert sum(len(each.split()) for each in sentences) / len(sentences) <= 18

"""The report as people see it: in a browser, on a phone and a desk, light and dark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hierfed.report.figures import save_figures
from hierfed.report.page import write_page
from hierfed.results import Result

# The contrast of two colours, as WCAG 2 defines it.
CONTRAST = """([first, second]) => {
  const light = (text) => {
    const part = text.match(/[\\d.]+/g).slice(0, 3).map((each) => each / 255)
      .map((each) => each <= .03928 ? each / 12.92 : ((each + .055) / 1.055) ** 2.4);
    return .2126 * part[0] + .7152 * part[1] + .0722 * part[2];
  };
  const [low, high] = [light(first), light(second)].sort((a, b) => a - b);
  return (high + .05) / (low + .05);
}"""
COLOURS = """() => {
  const paper = getComputedStyle(document.body).backgroundColor;
  return ["p.lead", "li", "thead th", "td", "figcaption", "dt", "summary"]
    .map((each) => document.querySelector(each)).filter(Boolean)
    .map((each) => [getComputedStyle(each).color, paper]);
}"""


@pytest.fixture
def report(hierarchical: Result, tmp_path: Path) -> Path:
    save_figures(hierarchical, tmp_path / "figures")
    return write_page(hierarchical, tmp_path)


@pytest.mark.parametrize("width", [420, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_cut_off_and_text_is_readable(report: Path, chromium: Any, width: int, scheme: Any) -> None:
    page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto(report.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # The table that compares the models is whole.
    assert page.eval_on_selector(".scroll", "box => box.scrollWidth - box.clientWidth") <= 0
    pairs = page.evaluate(COLOURS)
    assert len(pairs) >= 5
    assert min(page.evaluate(CONTRAST, pair) for pair in pairs) >= 4.5
    page.close()

"""The page of a run: one HTML file that holds everything and opens without a network."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment

from hierfed.evaluation.metrics import METRICS
from hierfed.plain_text import plural
from hierfed.report import contents, federation, seeds, words
from hierfed.report.figures import caption, figures_of
from hierfed.report.key_numbers import key_numbers
from hierfed.report.round_figures import seeds_rmse
from hierfed.report.style import save
from hierfed.results import PairedDifference, Result, Summary


def write_page(result: Result, folder: Path) -> Path:
    """Write `report.html` of one run beside its `figures/`, which must be there; gives its path."""
    figures = [
        {
            "caption": caption(name, result),
            "headline": figure.headline(result),
            "section": figure.section,
            "source": _embedded(folder / "figures" / f"{name}.svg"),
            "table": figure.table(result) if figure.table else None,
        }
        for name, figure in figures_of(result).items()
    ]
    return _write(
        "run.html",
        folder,
        result=result,
        contents=contents,
        key_numbers=key_numbers,
        federation=federation,
        row_sets=words.row_sets(result),
        figures=figures,
        measured=words.any_measured,
    )


def write_summary_page(summary: Summary, results: Sequence[Result], folder: Path) -> Path:
    """Write `report.html` of several seeds, with a figure of them all and links to each; gives its path."""
    figure = ""
    if contents.had_rounds(results[0]):
        (folder / "figures").mkdir(exist_ok=True)
        _, svg = save(seeds_rmse(results), "seeds_rmse", folder / "figures")
        figure = _embedded(svg)
    return _write(
        "seeds.html",
        folder,
        summary=summary,
        results=results,
        lead=contents.lead(results[0]),
        names=results[0].words,
        figure=figure,
        figures=seeds.figure_rows(summary),
        differences=seeds.difference_rows(summary),
    )


def write_comparison_page(
    name: str, summaries: Mapping[str, Summary], differences: Sequence[PairedDifference], folder: Path
) -> Path:
    """Write `report.html` of presets side by side on the same seeds; gives its path."""
    columns = {key: metric.column for key, metric in METRICS.items() if metric.column}
    rows = [
        (label, *(words.spread(found) if (found := each.figures.get(key)) else words.MISSING for key in columns))
        for label, each in summaries.items()
    ]
    labels = seeds.figure_labels(next(iter(summaries.values())))
    pairs = [
        (seeds.pair_label(each, labels), words.signed(each.mean), words.stars(each.sd), *seeds.p_values(each))
        for each in differences
        if math.isfinite(each.mean)
    ]
    number = max(len(each.seeds) for each in summaries.values())
    return _write(
        "comparison.html",
        folder,
        name=name,
        seeds=plural(number, "seed"),
        headings=("", *columns.values()),
        rows=rows,
        pairs=pairs,
        caution=seeds.caution(number),
        linked=[label for label in summaries if (folder / label / "report.html").is_file()],
        verdicts={label: each.verdict for label, each in summaries.items()},
    )


def _write(template: str, folder: Path, **content: Any) -> Path:
    # Images by address cannot clash with each other, as the ids inside inlined SVGs would.
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "stars": words.stars,
        "signed": words.signed,
        "count": words.count,
        "share": words.share,
        "seconds": words.seconds,
        "size": words.size,
        "decimals": words.decimals,
        "trial": words.trial,
        "norm": words.norm,
        "sentence": words.sentence,
    }
    templates = resources.files("hierfed.report") / "templates"
    style = (templates / "style.css").read_text(encoding="utf-8")
    text = (templates / template).read_text(encoding="utf-8")
    path = folder / "report.html"
    path.write_text(environment.from_string(text).render(style=style, **content), encoding="utf-8")
    return path


def _embedded(svg: Path) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.read_bytes()).decode("ascii")

"""The page of a run: one HTML file that holds everything and opens without a network."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment

from hierfed.report import words
from hierfed.report.figures import FIGURES, seeds_rmse
from hierfed.report.style import save
from hierfed.results import Result, Summary


def write_page(result: Result, folder: Path) -> Path:
    """Write `report.html` of one run beside its `figures/`, which must be there; gives its path."""
    figures = [
        {
            "name": name,
            "caption": words.CAPTIONS[name],
            "headline": words.HEADLINES[name](result),
            "source": _embedded(folder / "figures" / f"{name}.svg"),
        }
        for name in FIGURES
    ]
    rows = zip(words.baseline_rows(result.baselines), words.baseline_rows(result.personal_baselines), strict=True)
    baselines = [(*test, held[1]) for test, held in rows]
    return _write("run.html", folder, result=result, keys=_key_numbers(result), figures=figures, baselines=baselines)


def write_summary_page(summary: Summary, results: Sequence[Result], folder: Path) -> Path:
    """Write `report.html` of several seeds, with a figure of them all and links to each; gives its path."""
    (folder / "figures").mkdir(exist_ok=True)
    _, svg = save(seeds_rmse(results), "seeds_rmse", folder / "figures")
    content = {"summary": summary, "results": results, "figure": _embedded(svg), "text": words.figure_text}
    return _write("seeds.html", folder, **content)


def _key_numbers(result: Result) -> list[tuple[str, str, str]]:
    """A label, a number and a note for each number that a reader looks for first."""
    users, verdict = result.users, result.verdict
    measured = words.measured(result.nodes)
    worse = f"{words.count(verdict.users_harmed)} of {words.count(users.users)}"
    gain = f"± {words.stars(verdict.gain_sd)}, p {words.p_value(verdict.p_value)}"
    return [
        ("Global model", words.stars(result.final_rmse), "RMSE, test rows"),
        ("Predicting the mean", words.stars(result.baselines.global_mean), "RMSE, test rows"),
        ("User + item biases", words.stars(result.baselines.biases), "RMSE, test rows"),
        ("Before personalisation", words.stars(users.rmse_before), "RMSE, held-out rows"),
        ("After personalisation", words.stars(users.rmse_after), "RMSE, held-out rows"),
        ("User + item biases", words.stars(result.personal_baselines.biases), "RMSE, held-out rows"),
        ("Gain per node", words.signed(verdict.gain_mean), gain),
        ("Nodes harmed", words.count(verdict.nodes_harmed), f"of {words.count(len(measured))} with held-out rows"),
        ("Users harmed", words.share(users.share_worse), worse),
    ]


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
        "p": words.p_value,
        "label": words.figure_label,
        "pair": words.pair_label,
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

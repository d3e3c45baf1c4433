"""The look of the figures: one style, one layout, one way to save."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hierfed.plain_text import printable

INK = "#1f2933"
MUTED = "#5c6773"
RULE = "#c3cad2"
MODEL = "#0b5c94"
HARM = "#c8500a"
BAND = "#bcd3e3"

WIDTH = 7.2
PAD = 0.12
MOST_LABELS = 64

STYLE: dict[Any, Any] = {
    "figure.dpi": 150,
    "savefig.dpi": "figure",
    "figure.facecolor": "white",
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,  # a node may be called "$x$"
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": False,
    "grid.color": "#e8ebee",
    "grid.linewidth": 0.8,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "lines.linewidth": 2.0,
    "lines.markersize": 5.5,
    "hatch.color": "white",
    "hatch.linewidth": 1.2,
    "svg.fonttype": "path",  # looks the same where the font is not installed
}

Arguments = ParamSpec("Arguments")
Drawn = TypeVar("Drawn")


def styled(draw: Callable[Arguments, Drawn]) -> Callable[Arguments, Drawn]:
    """Decorate a function: its figures have the style, and figures drawn elsewhere do not."""

    @wraps(draw)
    def in_style(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Drawn:
        with rc_context(STYLE):
            return draw(*args, **kwargs)

    return in_style


def blank(headline: str, subtitle: str, height: float, panels: int = 1) -> tuple[Figure, list[Axes]]:
    """An empty figure: a finding as its headline, a line on what it shows, and panels below each other."""
    figure = Figure(figsize=(WIDTH, height))
    FigureCanvasAgg(figure)
    headline, subtitle = textwrap.fill(headline, 68), textwrap.fill(subtitle, 100)
    left, top = PAD / WIDTH, 1 - PAD / height
    figure.suptitle(headline, x=left, y=top, ha="left", va="top", fontsize=12, fontweight="bold")
    under = (0.24 + 0.2 * headline.count("\n")) / height
    figure.text(left, top - under, subtitle, ha="left", va="top", fontsize=9, color=MUTED)
    axes = [figure.add_subplot(panels, 1, row + 1) for row in range(panels)]
    for panel in axes:
        panel.tick_params(length=3)
    return figure, axes


def fit(figure: Figure, weights: Sequence[float] = (1,)) -> Figure:
    """Place the panels so that every label lies inside the figure; their heights are in proportion to the weights.

    It does what matplotlib's constrained layout does for panels in one column, in one pass instead of several.
    """
    renderer: RendererAgg = cast(Any, figure.canvas).get_renderer()
    pad, width, height = PAD * figure.dpi, figure.bbox.width, figure.bbox.height
    top = min(text.get_window_extent(renderer).y0 for text in figure.texts) - pad
    # The room that each panel's labels take on the left, below, on the right and above.
    margins = []
    for panel in figure.axes:
        outer = panel.get_tightbbox(renderer)
        if outer is not None:
            margins.append(np.abs(np.subtract(outer.extents, panel.bbox.extents)))
    left, _, right, _ = np.max(margins, axis=0) + pad
    free = top - pad * len(margins) - sum(margin[1] + margin[3] for margin in margins)
    for panel, margin, weight in zip(figure.axes, margins, weights, strict=True):
        share = free * weight / sum(weights)
        top -= margin[3] + share
        panel.set_position((left / width, top / height, (width - left - right) / width, share / height))
        top -= margin[1] + pad
    return figure


def save(figure: Figure, name: str, folder: Path) -> list[Path]:
    """Write NAME.png and NAME.svg; the same figure always gives the same bytes."""
    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    # zlib's fastest level: a third of the time, for files that are a tenth larger.
    figure.savefig(png, format="png", metadata={"Software": None}, pil_kwargs={"compress_level": 1})
    unnamed = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with rc_context({"svg.hashsalt": name}):
        figure.savefig(svg, format="svg", metadata=unnamed)
    return [png, svg]


FORMATS = ("png", "svg", "pdf")


def save_for_print(figure: Figure, name: str, folder: Path, kind: str, titled: bool = True) -> Path:
    """Write NAME.KIND for a paper: the text of SVG and PDF stays text.

    kind: one of FORMATS. titled: False to leave out the headline; what the marks mean stays.
    """
    path = folder / f"{name}.{kind}"
    if not titled:
        figure.suptitle("")
    nameless = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}, "pdf": {"CreationDate": None}}
    with rc_context({"svg.fonttype": "none", "pdf.fonttype": 42, "svg.hashsalt": name}):
        figure.savefig(path, format=kind, metadata=nameless[kind], bbox_inches="tight", dpi=300)
    return path


def finite(values: Sequence[float]) -> np.ndarray:
    """Values as an array; NaN, which is drawn as a gap, stands for values that are not finite."""
    array = np.asarray(values, dtype=float)
    return np.where(np.isfinite(array), array, np.nan)


def tidy(name: str, longest: int = 26) -> str:
    """A name that fits beside an axis: printable, on one line, and cut short where it is long."""
    name = printable(name)
    return name if len(name) <= longest else name[: longest - 1].rstrip() + "…"


def name_rows(panel: Axes, names: Sequence[str]) -> None:
    """One row per name, from the top; where there are too many to read, only every n-th is labelled."""
    step = max(-(-len(names) // MOST_LABELS), 1)
    panel.set_yticks(range(0, len(names), step), names[::step], fontsize=row_fontsize(len(names)), color=INK)
    room = 0.5 + len(names) / 100  # with hundreds of rows, half a row is less than half a mark
    panel.set_ylim(max(len(names), 1) - 1 + room, -room)
    panel.grid(visible=len(names) <= MOST_LABELS, axis="y")
    panel.xaxis.set_major_locator(few_ticks())


def few_ticks() -> MaxNLocator:
    """At most seven ticks at round values: ticks are half the cost of drawing a figure."""
    return MaxNLocator(6, steps=[1, 2, 2.5, 5, 10])


def whole_ticks() -> MaxNLocator:
    """Ticks at whole numbers."""
    return MaxNLocator(10, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)


def row_fontsize(rows: int) -> float:
    """The size of the writing beside this many rows."""
    return 8.5 if rows <= MOST_LABELS else 6.5


def rows_height(rows: int) -> float:
    """Inches of a panel with this many rows."""
    return min(max(0.26 * rows, 0.8), 7.4 if rows > MOST_LABELS else 0.19 * MOST_LABELS)


def value_column(panel: Axes, title: str, texts: Sequence[str], colours: Sequence[str]) -> None:
    """Each row's value in writing, right of the panel, where there is room for all of them."""
    if len(texts) > MOST_LABELS:
        return
    edge, fontsize = panel.get_yaxis_transform(), row_fontsize(len(texts))
    panel.annotate(
        title, (1.02, 1), xycoords="axes fraction", xytext=(0, 4), textcoords="offset points", fontsize=8.5, color=MUTED
    )
    for row, (text, colour) in enumerate(zip(texts, colours, strict=True)):
        panel.text(1.02, row, text, transform=edge, va="center", fontsize=fontsize, color=colour)


def set_limits(panel: Axes, axis: str, values: Sequence[float]) -> None:
    """Limits that hold every finite value, with some room on both sides."""
    known = [value for value in values if np.isfinite(value)]
    if not known:
        return
    low, high = min(known), max(known)
    room = 0.08 * (high - low) or 0.05
    (panel.set_ylim if axis == "y" else panel.set_xlim)(low - room, high + room)


def label_right(panel: Axes, labels: Sequence[tuple[float, str, str]]) -> None:
    """Write (value, text, colour) beside the panel's right edge at each value, moved apart where they would touch."""
    low, high = panel.get_ylim()
    gap = 0.075 * (high - low)
    places: list[float] = []
    ordered = sorted(label for label in labels if np.isfinite(label[0]))
    for value, _, _ in ordered:
        places.append(max(value, places[-1] + gap) if places else value)
    # Labels pushed upwards in a row are moved down together by half of what the last was pushed.
    shift = max((place - value for place, (value, _, _) in zip(places, ordered, strict=True)), default=0.0) / 2
    for place, (value, text, colour) in zip(places, ordered, strict=True):
        panel.annotate(
            text,
            xy=(1.0, value),
            xycoords=panel.get_yaxis_transform(),
            xytext=(1.03, place - shift),
            textcoords=panel.get_yaxis_transform(),
            va="center",
            color=colour,
            arrowprops={"arrowstyle": "-", "color": RULE, "linewidth": 0.8, "shrinkA": 1, "shrinkB": 0},
            annotation_clip=False,
        )

"""The table and the figure of a study: each method in each variant, and who would be better off with the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from rich.table import Table
from rich.text import Text

from hierfed.evaluation.summary import paired, spread
from hierfed.report import words
from hierfed.report.style import HARM, INK, MODEL, MUTED, blank, few_ticks, fit, label_right, set_limits, styled, tidy
from hierfed.results import PairedDifference, Result, Spread

Results = Mapping[str, Mapping[str, Sequence[Result]]]
_MARKS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
_COLOURS = (MODEL, HARM, INK, MUTED)


@dataclass(frozen=True)
class Line:
    """A method in a variant, over seeds, on held-out rows of all users.

    rmse: of the personal models. shared: of the shared model, on the same rows.
    less_reference: the difference to the reference on the same seeds; None for the reference, or without one.
    worse: nodes on which the reference's personal model is better; 0 likewise. nodes: their number over all seeds.
    nodes_harmed, users_harmed: made worse than by the shared model, over all seeds. users: their number.
    """

    variant: str
    method: str
    rmse: Spread
    shared: Spread
    less_reference: PairedDifference | None
    worse: int
    nodes: int
    nodes_harmed: int
    users_harmed: int
    users: int


def lines_of(results: Results, reference: str) -> list[Line]:
    """A line for each variant and method."""
    return [
        _line(variant, method, found, methods.get(reference, []) if method != reference else [])
        for variant, methods in results.items()
        for method, found in methods.items()
    ]


def _line(variant: str, method: str, found: Sequence[Result], alone: Sequence[Result]) -> Line:
    after = [result.users.rmse_after for result in found]
    pairs = [
        (node.rmse_after, rival.rmse_after)
        for result, other in zip(found, alone, strict=bool(alone))
        for node, rival in zip(result.nodes, other.nodes, strict=True)
    ]
    return Line(
        variant,
        method,
        spread(after),
        spread([result.users.rmse_before for result in found]),
        paired(method, "reference", after, [other.users.rmse_after for other in alone]) if alone else None,
        sum(mine > rival for mine, rival in pairs),
        sum(len(result.nodes) for result in found),
        sum(result.verdict.nodes_harmed for result in found),
        sum(result.verdict.users_harmed for result in found),
        sum(result.users.users for result in found),
    )


def study_table(lines: Sequence[Line], reference: str) -> Table:
    """The lines as a table."""
    headings = ["method", "RMSE", "shared", *([f"less {reference}", "nodes worse"] if reference else [])]
    table = Table(title=Text("Personal models on held-out rows, mean ± sd over seeds"), title_justify="left")
    for heading in ("variant", *headings, "nodes harmed", "users harmed"):
        table.add_column(heading, justify="left" if heading in ("variant", "method") else "right", overflow="fold")
    before = ""
    for line in lines:
        compared = line.less_reference
        told = [words.signed(compared.mean), f"{line.worse}/{line.nodes}"] if compared else ["", ""]
        table.add_row(
            Text(line.variant if line.variant != before else ""),
            Text(line.method),
            words.spread(line.rmse),
            words.stars(line.shared.mean),
            *(told if reference else []),
            f"{line.nodes_harmed}/{line.nodes}",
            words.share(line.users_harmed / line.users if line.users else float("nan"), 0),
            end_section=line is lines[-1],
        )
        before = line.variant
    return table


@styled
def study_figure(lines: Sequence[Line], groups: Mapping[str, Sequence[str]], reference: str) -> Figure:
    """Each method's error in the variants of each group, less that of the reference where there is one."""
    methods = list(dict.fromkeys(line.method for line in lines if line.method != reference))
    at = {(line.variant, line.method): line for line in lines}
    what = (
        f"RMSE less that of '{reference}', mean over seeds; below 0 is better" if reference else "RMSE, mean of seeds"
    )
    figure, panels = blank("Each method, by how skewed the nodes are", what, 1.0 + 1.45 * len(groups), len(groups))

    def value(variant: str, method: str) -> float:
        line = at[variant, method]
        return line.less_reference.mean if line.less_reference else line.rmse.mean

    every = [value(variant, method) for variants in groups.values() for variant in variants for method in methods]
    for panel, (group, variants) in zip(panels, groups.items(), strict=True):
        places = range(len(variants))
        if reference:
            panel.axhline(0, color=INK, linewidth=0.8, linestyle=(0, (3, 2)))
        for number, method in enumerate(methods):
            colour, mark = _COLOURS[number % len(_COLOURS)], _MARKS[number % len(_MARKS)]
            panel.plot(places, [value(variant, method) for variant in variants], marker=mark, color=colour)
        set_limits(panel, "y", [0.0, *every] if reference else every)
        panel.yaxis.set_major_locator(few_ticks())
        panel.set_xticks(places, [tidy(variant.removeprefix(f"{group}, "), 40) for variant in variants], color=INK)
        panel.set_xlim(-0.3, len(variants) - 0.7)
        panel.set_ylabel(tidy(group), color=INK)
        last = [
            (value(variants[-1], method), tidy(method), _COLOURS[place % 4]) for place, method in enumerate(methods)
        ]
        label_right(panel, last)
    return fit(figure, [1] * len(groups))

"""Results as tables for notebooks and papers."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

_SPECIAL = str.maketrans(
    {letter: "\\" + letter for letter in "&%$#_{}"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
)


class Tabular:
    """A finding that is a table: `rows` gives its lines, from which all forms follow."""

    def rows(self) -> Sequence[Mapping[str, str | float]]:
        """The lines of the table, each by the names of its columns."""
        raise NotImplementedError

    def heading(self) -> str:
        """The words above the table."""
        raise NotImplementedError

    def to_frame(self) -> pl.DataFrame:
        """The table as a polars DataFrame."""
        import polars as pl  # noqa: PLC0415 - reading a result needs no polars

        return pl.DataFrame(self.rows())

    def to_latex(self, digits: int = 4) -> str:
        """The table for a paper, in the style of the LaTeX package booktabs.

        digits: decimals of the numbers.
        """
        lines = self.rows()
        names = list(lines[0]) if lines else []
        columns = "l" + "r" * (len(names) - 1)
        body = [" & ".join(_latex(line[name], digits) for name in names) + r" \\" for line in lines]
        head = " & ".join(_latex(name, digits) for name in names) + r" \\"
        rules = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", head, r"\midrule", *body]
        return "\n".join([*rules, r"\bottomrule", r"\end{tabular}"]) + "\n"

    def _repr_html_(self) -> str:
        """The table as notebooks show it."""
        lines = self.rows()
        head = "".join(f"<th>{html.escape(name)}</th>" for name in (lines[0] if lines else ()))
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(_shown(value, 4))}</td>" for value in line.values()) + "</tr>"
            for line in lines
        )
        caption = f"<caption>{html.escape(self.heading())}</caption>"
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _shown(value: str | float, digits: int) -> str:
    return value if isinstance(value, str) else f"{value:.{digits}f}"


def _latex(value: str | float, digits: int) -> str:
    return _shown(value, digits).translate(_SPECIAL)

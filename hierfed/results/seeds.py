"""Several runs: the schema of `summary.json`."""

from __future__ import annotations

from pydantic import Field

from hierfed.exports import Tabular
from hierfed.results.data import MethodWords
from hierfed.results.record import Number, Record


class Spread(Record):
    """A figure over seeds: mean, standard deviation (n - 1), smallest and largest."""

    mean: Number
    sd: Number
    min: Number
    max: Number


class PairedDifference(Record):
    """first - second on the same seeds: mean, standard deviation, and p-value of a paired two-sided t-test.

    p_holm: the same p-value by Holm's correction over all differences that are reported with it.
    """

    first: str
    second: str
    mean: Number
    sd: Number
    p_value: float | None
    p_holm: float | None = None


class Summary(Record, Tabular):
    """Several seeds of one preset, as written to `summary.json`; undefined figures are left out.

    figures: hierfed.evaluation.metrics.METRICS and the baselines, by key. words: what the method is called.
    sha256: see Result.
    """

    version: int = 1
    name: str
    preset: str
    words: MethodWords
    protocol: str = "two_groups"
    seeds: list[int]
    figures: dict[str, Spread]
    differences: list[PairedDifference]
    verdict: list[str] = Field(default_factory=list)
    sha256: str = ""

    def rows(self) -> list[dict[str, str | float]]:
        """A figure a line, over seeds; see Tabular."""
        return [{"metric": key, **figure.model_dump()} for key, figure in self.figures.items()]

    def heading(self) -> str:
        """See Tabular."""
        return f"{self.preset}, seeds {', '.join(map(str, self.seeds))}, protocol {self.protocol}"

"""Names and numbers in words, written the same way in figures, on the page and on the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from string import Template

from hierfed.evaluation.metrics import METRICS
from hierfed.evaluation.metrics import measured as measured_metrics
from hierfed.results import MethodWords, NodeRecord, Record, Result, Spread

MISSING = "n/a"

BASELINE_NAMES: Mapping[str, str] = {
    "global_mean": "Predicting the mean",
    "item_mean": "Item means",
    "user_mean": "User means",
    "biases": "User + item biases",
    "local_only": "$alone",
    "centralised": "All rows in one place",
    "pooled_biases": "User + item biases, same threshold",
}
"""The names of the fields of `Baselines`; see `baseline_names`."""

ROW_SETS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "two_groups": (
        ("test rows", "Federated users' test rows"),
        ("held-out rows", "Personalisation users' held-out rows"),
    ),
    "cold": (
        ("no own ratings", "New users' held-out rows, none of their ratings known"),
        ("with own ratings", "The same rows, the users' other ratings known"),
    ),
    "same": (("test rows", "Test rows"),),
    "same users": (
        ("federated nodes", "Test rows, federated nodes"),
        ("personal nodes", "The same rows, personalisation nodes"),
    ),
    "federation": (("held-out rows", "Rows that the nodes held out"),),
}
"""The rows that models are compared on, in few and in more words: by protocol, or what they are under the others."""

RANKER_NAMES: Mapping[str, str] = {
    "popularity": "Popularity (baseline)",
    "rating": "Expected ratings",
    "implicit": "Implicit factors",
    "ease": "Ease",
    "blend": "Blend",
}
"""The names of the models that make recommendation lists."""

TRIAL_NAMES: Mapping[str, str] = {
    "rank": "rank of the factors",
    "amplitude": "factor on the kernel's amplitudes",
    "time_factor": "factor on the kernel's amplitudes by time, the time of the rating known",
    "noise_share": "share of noise kept in kriging",
    "implicit_scale": "factor on what users rated at all",
}
"""The names of the settings that are chosen on validation rows."""

UNITS: Mapping[str, str] = {
    "example": "single rating",
    "user": "user with all ratings",
    "node": "node with all its users",
}
"""The names of the units that differential privacy hides."""

ACCOUNTANTS: Mapping[str, str] = {"rdp": "Renyi divergences", "pld": "privacy loss distributions"}
"""The names of the ways to add up its price."""


def decimals(value: float, digits: int, sign: str = "") -> str:
    """A number with so many decimals; a huge one is short too, with an exponent."""
    if not math.isfinite(value):
        return MISSING
    return f"{value:{sign},.{digits}f}" if abs(value) < 1e5 else f"{value:{sign}.2e}"


def unit(result: Result) -> str:
    """The unit of ratings: stars where a scale ends at five, as most scales of stars do; else points."""
    scale = result.data.scale
    return "stars" if scale and scale[0] >= 0 and scale[-1] == 5 else "points"


def stars(value: float) -> str:
    """An error in the ratings' unit, to 4 decimals."""
    return decimals(value, 4)


def signed(value: float) -> str:
    """A gain in the ratings' unit, always with its sign."""
    return decimals(value, 4, sign="+")


def norm(value: float) -> str:
    """A norm of weights, to 2 decimals."""
    return decimals(value, 2)


def count(value: int) -> str:
    """A number of things, with thousands separators."""
    return f"{value:,}"


def share(value: float, digits: int = 0) -> str:
    """A fraction as a percentage, by default without decimals."""
    return f"{value:.{digits}%}" if math.isfinite(value) else MISSING


def seconds(value: float) -> str:
    """Wall seconds, to two decimals."""
    return f"{value:,.2f} s"


def speed(ratings_per_second: float) -> str:
    """The speed of a round."""
    return f"{count(round(ratings_per_second))} ratings/s"


def size(value: int) -> str:
    """A number of bytes, in the unit that leaves one to three digits before the point."""
    amount = float(value)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:,.1f} GB"


def p_value(value: float | None) -> str:
    """A p-value to 3 decimals, or a bound where it is smaller."""
    if value is None or not math.isfinite(value):
        return MISSING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def spread(value: Spread) -> str:
    """Mean and standard deviation over seeds."""
    return f"{stars(value.mean)} ± {stars(value.sd)}"


def sentence(text: str) -> str:
    """A text that ends in one full stop."""
    return f"{text.rstrip('.')}."


def baseline_names(method: MethodWords) -> dict[str, str]:
    """The names of the fields of `Baselines` beside a method, in the order of the fields."""
    return {key: name.replace("$alone", method.alone) for key, name in BASELINE_NAMES.items()}


def metric_labels(method: MethodWords, rows: str) -> dict[str, str]:
    """The names of the metrics by key, for models that are judged on these rows of ROW_SETS."""
    first, last = ROW_SETS[rows][0][0], ROW_SETS[rows][-1][0]
    names = {"shared": method.shared_short, "personal": method.personal_short, "first": first, "last": last}
    names["before"] = last if rows == "two_groups" else first
    return {key: Template(metric.label).substitute(names) for key, metric in METRICS.items()}


def metric_rows(result: Result) -> list[tuple[str, str]]:
    """The name and the value of every metric that a run shows, each name once."""
    labels, rows = metric_labels(result.words, rows_key(result)), dict[str, str]()
    for key, metric, value in measured_metrics(result):
        if metric.shown:
            rows.setdefault(labels[key], count(value) if isinstance(value, int) else decimals(value, metric.digits))
    return list(rows.items())


def rows_key(result: Result) -> str:
    """The key in ROW_SETS of the rows on which a result's models are judged."""
    if result.federation is not None:
        return "federation"
    if result.data.protocol in ROW_SETS:
        return result.data.protocol
    pairs = zip(dict(result.baselines).values(), dict(result.personal_baselines).values(), strict=True)
    return "same" if all(same(*pair) for pair in pairs) else "same users"


def row_sets(result: Result) -> tuple[tuple[str, str], ...]:
    """The sets of rows that a result's models are compared on, each in few and in more words."""
    return ROW_SETS[rows_key(result)]


def same(first: float, second: float) -> bool:
    """True where two figures are one, computed twice; NaN is the same as NaN."""
    return math.isclose(first, second, rel_tol=1e-9) or (math.isnan(first) and math.isnan(second))


def ranker(name: str, result: Result) -> str:
    """The name of a model that makes lists, marked where the run recommends by it."""
    (ndcg,) = [record.ndcg_at_10 for record in result.rankers if record.model == name]
    recommends = name != "popularity" and same(ndcg, result.ranking.get("ndcg@10", math.inf))
    return RANKER_NAMES.get(name, name) + (" (recommends)" if recommends else "")


def trial(setting: str) -> str:
    """The name of a setting that is chosen on validation rows."""
    return TRIAL_NAMES.get(setting, setting)


def any_measured(records: Sequence[Record], field: str) -> bool:
    """True where any of the records has a number in this field."""
    return any(math.isfinite(getattr(record, field)) for record in records)


def measured(nodes: list[NodeRecord]) -> list[NodeRecord]:
    """The nodes whose gain is a number: a node without held-out rows has none."""
    return [node for node in nodes if math.isfinite(node.gain)]

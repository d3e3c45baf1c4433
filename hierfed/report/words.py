"""Names and numbers in words, written the same way in figures, on the page and on the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hierfed.results import NodeRecord, Record, Result, Spread

MISSING = "n/a"
AVERAGING, HIERARCHICAL, LOCAL, PRIVATE_PRIOR = "averaging", "hierarchical", "local", "private_prior"

BASELINE_NAMES: Mapping[str, str] = {
    "global_mean": "Predicting the mean",
    "item_mean": "Item means",
    "user_mean": "User means",
    "biases": "User + item biases",
    "local_only": "Each node alone",
    "centralised": "All rows in one place",
}
"""What each field of `Baselines` is called, where the models are networks; see `baseline_names`."""


@dataclass(frozen=True)
class ModelNames:
    """What a method's models are called in tables of models, elsewhere, and beside a node's mark in a figure's key.

    alone: what learns without sending anything, to be compared with.
    """

    shared: str
    personal: str
    shared_short: str
    personal_short: str
    mark: str
    alone: str


FEDERATED = ("Federated, global model", "Federated, personal models", "Global model", "Personal models")
EACH_USER_ALONE = "Each user alone (local)"
MODEL_NAMES: Mapping[str, ModelNames] = {
    AVERAGING: ModelNames(*FEDERATED, mark="personal model", alone=BASELINE_NAMES["local_only"]),
    HIERARCHICAL: ModelNames(*FEDERATED, mark="personal model", alone=EACH_USER_ALONE),
    PRIVATE_PRIOR: ModelNames(
        *("Private prior alone", "Private prior, own ratings") * 2, mark="users' own models", alone=EACH_USER_ALONE
    ),
    LOCAL: ModelNames(*("Public votes alone", EACH_USER_ALONE) * 2, mark="user alone", alone=EACH_USER_ALONE),
}

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
}
"""The rows that models are compared on, in few and in more words: by protocol, or what they are under the others."""

RANKER_NAMES: Mapping[str, str] = {
    "popularity": "Popularity (baseline)",
    "rating": "Expected ratings",
    "implicit": "Implicit factors",
    "ease": "Ease",
    "blend": "Blend",
}
"""What makes recommendation lists."""

TRIAL_NAMES: Mapping[str, str] = {
    "rank": "rank of the factors",
    "amplitude": "factor on the kernel's amplitudes",
    "noise_share": "share of noise kept in kriging",
}
"""What is chosen on validation rows."""

UNITS: Mapping[str, str] = {
    "example": "single rating",
    "user": "user with all ratings",
    "node": "node with all its users",
}
"""What differential privacy hides."""

ACCOUNTANTS: Mapping[str, str] = {"rdp": "Renyi divergences", "pld": "privacy loss distributions"}
"""How its price is added up."""

CAPTIONS: Mapping[str, str] = {
    "global_rmse": "RMSE of the global model after each round, on rows that no node trained on. A model that knows "
    "nothing but the mean rating scores the dashed line; one bias per user and per item scores the dotted line. "
    "Below a line is better than that baseline.",
    "training_loss": "Mean squared error on the training rows, averaged over nodes, in every local epoch; one round "
    "is several epochs. It shows that training converged, not that the model is good.",
    "node_rmse": "Each row is a node: from the open circle (global model) to the filled mark (personal model), on "
    "held-out rows. To the left is better. A triangle on a dashed line is a node that personalisation made worse.",
    "weight_change": "How far personalisation moved the weights of the first layer on each node. The norm grows with "
    "the number of steps and the width of the layer; it does not measure how much a node needed its own model.",
    "baselines": "Every model against the simple ones, on the same test rows; best on top. The upper part compares "
    "the global model on the federated users' test rows, the lower part the personal models on the "
    "personalisation users' held-out rows.",
    "user_gain": "How much lower (right of zero) or higher (left, hatched) each user's RMSE became by "
    "personalisation, on held-out rows.",
    "new_users": "RMSE of new users' held-out rows where each begins with only so many ratings of their own; those who "
    "have fewer use all they have. The shared models stay as they are. The biases know every rating of the federated "
    "users; the network is the preset of that name, trained on the same nodes, with a private ridge head per user.",
    "ranking": "Lists of unseen items from the full catalogue, for every user with a held-out item; what was held out "
    "is what should be listed. NDCG@10 rewards hits near the top, HR@10 is the share of users with a hit among ten, "
    "Recall@20 the share of the held-out items among twenty. The dashed line is popularity, the same list for all; "
    "the blend is of Ease, implicit factors and expected ratings.",
}
"""How to read each figure, by its name; see `caption`."""

OTHER_CAPTIONS: Mapping[tuple[str, str], str] = {
    (HIERARCHICAL, "training_loss"): "Expected squared error on the training rows, over all nodes, after every round. "
    "It shows that training converged, not that the model is good.",
    (LOCAL, "node_rmse"): "Each row is a node: from the open circle (public votes alone) to the filled mark (its "
    "users, each alone with own ratings), on held-out rows. To the left is better.",
    ("cold", "global_rmse"): "RMSE of the global model after each round, on rows of users that no round has seen, none "
    "of whose ratings are known. A model that knows nothing but the mean rating scores the dashed line; one bias per "
    "item scores the dotted line. Below a line is better than that baseline.",
    ("cold", "baselines"): "Every model against the simple ones, on the same rows of new users; best on top. In the "
    "upper part nothing is known of a user, in the lower part the user's other ratings are.",
    ("same", "baselines"): "Every model against the simple ones, on the same rows; best on top.",
    ("same users", "baselines"): "Every model against the simple ones, on the same rows; best on top.",
}
"""Captions of figures that show something else for a method, or for a set of rows."""


def decimals(value: float, digits: int, sign: str = "") -> str:
    """A number with so many decimals; one that has exploded is short too, with an exponent."""
    if not math.isfinite(value):
        return MISSING
    return f"{value:{sign},.{digits}f}" if abs(value) < 1e5 else f"{value:{sign}.2e}"


def stars(value: float) -> str:
    """An error in stars, to 4 decimals."""
    return decimals(value, 4)


def signed(value: float) -> str:
    """A gain in stars, always with its sign."""
    return decimals(value, 4, sign="+")


def norm(value: float) -> str:
    """A norm of weights, to 2 decimals."""
    return decimals(value, 2)


def count(value: int) -> str:
    """A number of things, with thousands separators."""
    return f"{value:,}"


def share(value: float, digits: int = 0) -> str:
    """A fraction as a percentage, a whole one unless it is told otherwise."""
    return f"{value:.{digits}%}" if math.isfinite(value) else MISSING


def seconds(value: float) -> str:
    """Wall seconds, to two decimals."""
    return f"{value:,.2f} s"


def speed(ratings_per_second: float) -> str:
    """How fast a round learned."""
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


def plural(number: int, noun: str) -> str:
    """A count with its noun: `1 node`, `8 nodes`."""
    return f"{count(number)} {noun}" if number == 1 else f"{count(number)} {noun}s"


def method_of(result: Result) -> str:
    """The method that made a result; results of old have no other than averaging."""
    method = str(result.settings.get("method", AVERAGING))
    return method if method in MODEL_NAMES else AVERAGING


def names(result: Result) -> ModelNames:
    """What the models of a result are called."""
    return MODEL_NAMES[method_of(result)]


def baseline_names(method: str) -> dict[str, str]:
    """What each field of `Baselines` is called beside a method, in the order of the fields."""
    return {**BASELINE_NAMES, "local_only": MODEL_NAMES[method].alone}


def rows_key(result: Result) -> str:
    """Which of ROW_SETS a result's models are judged on."""
    if result.data.protocol in ROW_SETS:
        return result.data.protocol
    pairs = zip(dict(result.baselines).values(), dict(result.personal_baselines).values(), strict=True)
    return "same" if all(same(*pair) for pair in pairs) else "same users"


def row_sets(result: Result) -> tuple[tuple[str, str], ...]:
    """The sets of rows that a result's models are compared on, each in few and in more words."""
    return ROW_SETS[rows_key(result)]


def same(first: float, second: float) -> bool:
    """Whether two figures are one, computed twice; what is undefined twice is the same too."""
    return math.isclose(first, second, rel_tol=1e-9) or (math.isnan(first) and math.isnan(second))


def caption(name: str, result: Result) -> str:
    """How to read a figure of this result."""
    for key in (method_of(result), rows_key(result)):
        if (key, name) in OTHER_CAPTIONS:
            return OTHER_CAPTIONS[key, name]
    return CAPTIONS[name]


def ranker(name: str, result: Result) -> str:
    """What makes a list, and whether it is what the run recommends by."""
    (ndcg,) = [record.ndcg_at_10 for record in result.rankers if record.model == name]
    recommends = name != "popularity" and same(ndcg, result.ranking.get("ndcg@10", math.inf))
    return RANKER_NAMES.get(name, name) + (" (recommends)" if recommends else "")


def trial(setting: str) -> str:
    """What is chosen on validation rows."""
    return TRIAL_NAMES.get(setting, setting)


def any_measured(records: Sequence[Record], field: str) -> bool:
    """Whether any of the records has a number in this field."""
    return any(math.isfinite(getattr(record, field)) for record in records)


def measured(nodes: list[NodeRecord]) -> list[NodeRecord]:
    """The nodes whose gain is a number: a node without held-out rows has none."""
    return [node for node in nodes if math.isfinite(node.gain)]

"""Numbers and findings in words, written the same way in figures, on the page and on the terminal."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from hierfed.results import Baselines, NodeRecord, PairedDifference, Result, Spread

MISSING = "n/a"

BASELINE_NAMES: Mapping[str, str] = {
    "global_mean": "Predicting the mean",
    "item_mean": "Item means",
    "user_mean": "User means",
    "biases": "User + item biases",
    "local_only": "Each node alone",
    "centralised": "All rows in one place",
}
"""What each field of `Baselines` is called."""

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
}
"""How to read each figure, by its name."""

FIGURE_LABELS: Mapping[str, str] = {
    "global_rmse": "Global model, test rows",
    "rmse_before": "Global model, held-out rows",
    "rmse_after": "Personal models, held-out rows",
    "gain_per_node": "Gain per node, held-out rows",
    "gain_on_tuned_rows": "Gain per node, tuned rows",
    "nodes_harmed": "Nodes harmed",
    "users_harmed": "Users worse off",
    "weight_change_smallest": "First layer's change, smallest",
    "weight_change_largest": "First layer's change, largest",
    "seconds": "Seconds",
    **{f"baseline_{key}": f"{name}, test rows" for key, name in BASELINE_NAMES.items()},
    **{f"personal_baseline_{key}": f"{name}, held-out rows" for key, name in BASELINE_NAMES.items()},
}
"""What the figures of a `Summary` are called."""


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


def share(value: float) -> str:
    """A fraction as a whole percentage."""
    return f"{value:.0%}" if math.isfinite(value) else MISSING


def seconds(value: float) -> str:
    """Wall seconds, to two decimals."""
    return f"{value:,.2f} s"


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


def figure_text(key: str, value: float) -> str:
    """A figure of a `Summary`: errors to 4 decimals, norms and seconds to 2, counts averaged over seeds to 1."""
    if key.endswith("_harmed"):
        return decimals(value, 1)
    return decimals(value, 2 if key == "seconds" or key.startswith("weight_change") else 4)


def sentence(text: str) -> str:
    """A text that ends in one full stop."""
    return f"{text.rstrip('.')}."


def plural(number: int, noun: str) -> str:
    """A count with its noun: `1 node`, `8 nodes`."""
    return f"{count(number)} {noun}" if number == 1 else f"{count(number)} {noun}s"


def figure_label(key: str) -> str:
    """What a figure of a `Summary` is called, also after the name of a preset and a colon."""
    preset, colon, figure = key.rpartition(": ")
    return f"{preset}{colon}{FIGURE_LABELS[figure]}"


def pair_label(difference: PairedDifference) -> str:
    """What is compared: two presets by one figure, or two figures."""
    (first, _, figure), (second, _, other) = difference.first.rpartition(": "), difference.second.rpartition(": ")
    if first and figure == other:
        return f"{FIGURE_LABELS[figure]}: {first} - {second}"
    return f"{figure_label(difference.first)} - {figure_label(difference.second)}"


def baseline_rows(baselines: Baselines) -> list[tuple[str, float]]:
    """Each baseline's name and RMSE, in the order of the fields."""
    return [(label, getattr(baselines, key)) for key, label in BASELINE_NAMES.items()]


def measured(nodes: list[NodeRecord]) -> list[NodeRecord]:
    """The nodes whose gain is a number: a node without held-out rows has none."""
    return [node for node in nodes if math.isfinite(node.gain)]


def global_headline(result: Result) -> str:
    """What the global model achieved."""
    after = f"after {plural(len(result.rounds), 'round')}"
    if result.verdict.beats_biases:
        return f"The global model beats user and item biases {after}"
    if result.verdict.beats_global_mean:
        return f"The global model beats the mean, but not the biases, {after}"
    return f"The global model does not beat predicting the mean {after}"


def loss_headline(result: Result) -> str:
    """How the training loss moved from the first epoch to the last."""
    losses = [loss for record in result.rounds for loss in record.train_loss]
    if not losses:
        return "No training loss was recorded"
    first, last = losses[0], losses[-1]
    if len(losses) == 1 or not math.isfinite(first) or not math.isfinite(last):
        return f"Training loss over {plural(len(losses), 'epoch')}"
    moved = "fell" if last < first else "did not fall"
    return f"Training loss {moved}: {decimals(first, 2)} to {decimals(last, 2)} in {len(losses)} epochs"


def node_headline(result: Result) -> str:
    """How many nodes personalisation helped, and how many it harmed."""
    nodes = measured(result.nodes)
    if not nodes:
        return "No node has held-out rows to measure personalisation on"
    helped = sum(node.gain > 0 for node in nodes)
    harmed = sum(node.gain < 0 for node in nodes)
    text = f"Personalisation helped {helped} of {plural(len(nodes), 'node')}"
    return f"{text} and harmed {harmed}" if harmed else text


def weight_headline(result: Result) -> str:
    """The range of the first layer's changes."""
    norms = [node.weight_change_l2 for node in result.nodes if math.isfinite(node.weight_change_l2)]
    if not norms:
        return "Personalisation changed no first layer"
    if max(norms) == 0:
        return "Personalisation left the first layer as it was"
    if len(norms) == 1:
        return f"Personalisation moved the first layer by {norm(norms[0])}"
    return f"Personalisation moved the first layer by {norm(min(norms))} to {norm(max(norms))}"


def baseline_headline(result: Result) -> str:
    """Whether personal models beat user and item biases on the same users' rows."""
    difference = result.personal_baselines.biases - result.users.rmse_after
    if not math.isfinite(difference):
        return "Models against simple baselines"
    side = "below" if difference > 0 else "above"
    return f"After personalisation, RMSE is {stars(abs(difference))} {side} user + item biases"


def user_headline(result: Result) -> str:
    """How many users personalisation left worse off."""
    if not result.users.gains:
        return "No user has held-out rows to measure personalisation on"
    return f"Personalisation left {share(result.users.share_worse)} of {plural(result.users.users, 'user')} worse off"


HEADLINES: Mapping[str, Callable[[Result], str]] = {
    "global_rmse": global_headline,
    "training_loss": loss_headline,
    "node_rmse": node_headline,
    "weight_change": weight_headline,
    "baselines": baseline_headline,
    "user_gain": user_headline,
}
"""The finding that each figure shows, by the figure's name."""

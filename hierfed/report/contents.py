"""The contents that page, terminal and figures share: models to compare, findings in sentences, and tables."""

from __future__ import annotations

import math
from dataclasses import dataclass
from string import Template

from hierfed.plain_text import plural
from hierfed.report import federation, words
from hierfed.report.tables import Table
from hierfed.results import Result, Selection


@dataclass(frozen=True)
class ModelRow:
    """A model's RMSE on each of `words.row_sets`; None where it is not one of the models compared there."""

    name: str
    own: bool
    values: tuple[float | None, ...]


def model_rows(result: Result) -> list[ModelRow]:
    """The run's own models, then the baselines in the order of their fields, but for those that have no value."""
    names, sets = result.words, len(words.row_sets(result))
    before, after = result.users.rmse_before, result.users.rmse_after
    rows = [
        ModelRow(names.shared, True, (result.final_rmse, before)[:sets]),
        ModelRow(names.personal, True, (None, after)[2 - sets :]),
    ]
    for key, name in words.baseline_names(names).items():
        values = getattr(result.baselines, key), getattr(result.personal_baselines, key)
        if any(math.isfinite(value) for value in values):
            rows.append(ModelRow(name, False, values[:sets]))
    return rows


def has_models(result: Result) -> bool:
    """True where any model was judged."""
    return any(math.isfinite(value) for row in model_rows(result) for value in row.values if value is not None)


def has_baselines(result: Result) -> bool:
    """True where any baseline was measured."""
    return any(not row.own for row in model_rows(result))


def lead(result: Result) -> str:
    """The first sentence: the work of the method, and the users or rows that it was judged on."""
    personal = len(result.nodes) if result.federation is None else result.data.nodes
    numbers = {
        "nodes": plural(result.data.nodes, "node"),
        "rounds": plural(len(result.rounds), "round"),
        "personal_nodes": plural(personal, "node"),
    }
    return f"{Template(result.words.lead).safe_substitute(numbers)}{_judged(result)}."


def _judged(result: Result) -> str:
    if result.federation is not None:
        return federation.judged(result.federation)
    if result.rankers and not result.users.users:
        return "; of what users have seen a part is held out, and the lists alone are judged on it"
    users = plural(result.users.users, "user")
    seen = "that no round had seen" if had_rounds(result) else "held out by protocol cold"
    judged = {
        "two_groups": "" if result.words.lead_names_judged else f"; judged on {users} who took no part in the rounds",
        "cold": f"; judged on {users} {seen}",
        "warm": f"; judged on rows held out of all {users}",
        "temporal": f"; judged on the newest rows of all {users}",
        "loo": f"; judged on the newest row of each of {users}",
        "none": "; it learned from every row, and nothing was judged",
        "given": f"; judged on the test rows that the data name, of {users}",
    }
    return judged.get(result.data.protocol, "")


def early_sentence(result: Result) -> str:
    """A sentence on the round after which training was stopped; empty where it was not."""
    if not result.ended_early:
        return ""
    done, asked = len(result.rounds), result.settings["training"]["rounds"]
    return f"Training was stopped after round {done} of {asked}: every figure is of the model as it was then."


def repeat_command(result: Result) -> str:
    """The command that gives the same model again.

    Empty where fewer rounds would have had other noise, and for a federation, whose ratings are in no one place.
    """
    if result.federation is not None:
        return ""
    if not result.ended_early:
        return "hierfed run settings.toml"
    return "" if result.privacy else f"hierfed run settings.toml --set rounds={len(result.rounds)}"


def same_rows(result: Result) -> str:
    """A note on parts of the split that are the same rows; nothing where all are apart."""
    if result.data.protocol == "two_groups":
        return ""
    if result.data.protocol == "cold":
        return "Test and personal test are the same rows."
    return "Train and personal train are the same rows, and so are test and personal test."


def interval_sentence(result: Result) -> str:
    """The coverage of the intervals; empty where there are none."""
    if result.intervals is None:
        return ""
    level, coverage = words.share(result.intervals.level), words.share(result.intervals.coverage, 1)
    found = f"The personal models' {level} intervals hold {coverage} of the held-out ratings"
    return "; ".join(filter(None, [found, interval_width(result)])) + "."


def interval_width(result: Result) -> str:
    """The mean width of the intervals; nothing where nobody tells it."""
    if result.intervals is None or not math.isfinite(result.intervals.mean_width):
        return ""
    return f"mean width {words.decimals(result.intervals.mean_width, 2)} {words.unit(result)}"


TOLD_SHARE = 0.05
"""The price of the threshold is told if more than this share of the held-out rows lies under it."""


def threshold_sentence(result: Result) -> str:
    """The cost of the threshold of rare items; empty where no item is under it."""
    found = result.threshold
    if found is None or not found.items:
        return ""
    items = f"{words.count(found.items)} of {words.count(result.data.items)} items"
    begins = f"{items} have fewer than {plural(found.min_raters, 'rater')} and are never summed by themselves"
    if not found.rows:
        return f"{begins}; no held-out row is of them."
    rmse, others = words.stars(found.rmse), words.stars(found.rmse_others)
    rows = plural(found.rows, "held-out row")
    told = f"{begins}: RMSE {rmse} on their {rows}, {others} on the others."
    return f"{told} {_price(result)}" if found.share > TOLD_SHARE else told


def _price(result: Result) -> str:
    """The price of the threshold for biases, and the choice that the reader has."""
    free, held = result.personal_baselines.biases, result.personal_baselines.pooled_biases
    cost = f"The threshold costs user + item biases {words.stars(held - free)} ({words.stars(held)} with it). "
    choice = (
        "factors.min_raters is a choice: with a lower one, items' sums reveal more of fewer users; at 1 the sum of an "
        "item with one rater is that user's own, secure sums or not."
    )
    return f"{cost if math.isfinite(held - free) else ''}{choice}"


def secure_sums_sentence(result: Result) -> str:
    """The effect of secure sums; empty where the server saw each contribution."""
    if not result.settings.get("privacy", {}).get("secure_sums"):
        return ""
    secure = "Sums were secure: the server learned the sums over nodes and no node's contribution."
    if result.federation is not None:
        return secure
    simulated = "In a simulation this shows what they cost and that they are exact; nodes and server share one memory."
    return f"{secure} {simulated}"


def privacy_sentence(result: Result) -> str:
    """The unit that the shared model hides, and the price; empty without differential privacy."""
    found = result.privacy
    if found is None:
        return ""
    spent = f"epsilon {words.decimals(found.epsilon_spent, 2)} spent of {found.epsilon:g}, at delta {found.delta:g}"
    accounting = f"{words.ACCOUNTANTS.get(found.accountant, found.accountant)} by dp-accounting"
    hides = f"The shared model hides each {words.UNITS.get(found.unit, found.unit)} by differential privacy"
    return f"{hides}: {spent} ({accounting}). {words.sentence(found.mechanism)}"


def selection_sentence(selection: Selection) -> str:
    """The choices made on validation rows."""
    chosen = [f"{words.trial(trial.setting)} {trial.value:g}" for trial in selection.trials if trial.chosen]
    scale = f"standard deviations x {words.decimals(selection.deviation_scale, 3)}"
    return f"Chosen on {plural(selection.rows, 'validation row')}: {', '.join([*chosen, scale])}."


def had_rounds(result: Result) -> bool:
    """True where anything was learned in rounds: a method that sends nothing is judged once, as round 0."""
    return any(record.round > 0 for record in result.rounds)


def loss_heading(result: Result) -> str:
    """The name of a round's training loss."""
    return "Training loss, last epoch" if result.words.loss_by_epoch else "Training loss"


def new_user_table(result: Result) -> Table:
    """RMSE of new users by how many ratings of their own they begin with."""
    headings = ("Own ratings", result.words.personal_short, words.BASELINE_NAMES["biases"], "Network")
    rows = [
        (words.count(each.ratings), *(words.stars(value) for value in (each.model, each.biases, each.network)))
        for each in result.new_users
    ]
    return Table("New users, RMSE on held-out rows", headings, rows)


def lists_sentence(result: Result) -> str:
    """The weights of the lists' blend; empty where nothing was chosen."""
    if result.lists is None:
        return ""
    weights = sorted(result.lists.weights.items(), key=lambda pair: -pair[1])
    parts = [f"{name} {words.decimals(weight, 2)}" for name, weight in weights if weight]
    chosen = f"Lists are by {parts[0].split()[0]} alone" if len(parts) == 1 else f"Lists blend {', '.join(parts)}"
    return f"{chosen}, chosen on validation rows of {plural(result.lists.users, 'user')}."


def ranking_table(result: Result) -> Table:
    """The quality of each ranking model's lists; the one that recommends stands out."""
    names = [words.ranker(each.model, result) for each in result.rankers]
    values: list[tuple[float, ...]] = [(each.ndcg_at_10, each.hr_at_10, each.recall_at_20) for each in result.rankers]
    headings = ["Lists by", "NDCG@10", "HR@10", "Recall@20"]
    if any(math.isfinite(each.sampled_hr_at_10) for each in result.rankers):
        headings += ["NDCG@10 of 99 sampled", "HR@10 of 99 sampled"]
        sampled = [(each.sampled_ndcg_at_10, each.sampled_hr_at_10) for each in result.rankers]
        values = [(*whole, *part) for whole, part in zip(values, sampled, strict=True)]
    rows = [(name, *(words.decimals(value, 3) for value in row)) for name, row in zip(names, values, strict=True)]
    own = frozenset(place for place, name in enumerate(names) if "(recommends)" in name)
    return Table("Recommendation lists, means over users", tuple(headings), rows, own)


def sample_tables(result: Result) -> list[Table]:
    """The lists of made-up people."""
    return [
        Table(
            f"For someone who gave the highest rating to {each.loved}, and rated nothing else",
            ("Item", "Expected rating"),
            [(title, words.decimals(rating, 2)) for title, rating in zip(each.titles, each.expected, strict=True)],
        )
        for each in result.samples
    ]


def metric_table(result: Result) -> Table:
    """Every metric that the result has."""
    return Table("Every metric", ("Metric", "Value"), words.metric_rows(result))


def data_sentence(result: Result) -> str:
    """The source of the ratings, and the numbers of users and items."""
    if result.federation is not None:
        return federation.data_sentence(result)
    data = result.data
    return f"{data.source}: {words.count(data.users)} users, {words.count(data.items)} items."


def spent_seconds(result: Result) -> str:
    """The seconds of each part of a run; of them together where nobody tells of the parts."""
    parts = [(part, spent) for part, spent in result.seconds if spent > 0 and part not in ("report", "total")]
    return ", ".join(f"{part} {words.seconds(spent)}" for part, spent in parts or [("total", result.seconds.total)])

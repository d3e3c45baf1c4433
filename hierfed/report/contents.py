"""What page, terminal and figures show alike: who is compared with whom, and findings in sentences."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hierfed.report import words
from hierfed.results import Result, Selection


@dataclass(frozen=True)
class ModelRow:
    """A model's RMSE on each of `words.row_sets`; None where it is not one of the models compared there."""

    name: str
    own: bool
    values: tuple[float | None, ...]


def model_rows(result: Result) -> list[ModelRow]:
    """The run's own models, then the baselines in the order of their fields, but for those that have no value."""
    names, sets = words.names(result), len(words.row_sets(result))
    before, after = result.users.rmse_before, result.users.rmse_after
    rows = [
        ModelRow(names.shared, True, (result.final_rmse, before)[:sets]),
        ModelRow(names.personal, True, (None, after)[2 - sets :]),
    ]
    for key, name in words.baseline_names(words.method_of(result)).items():
        values = getattr(result.baselines, key), getattr(result.personal_baselines, key)
        if any(math.isfinite(value) for value in values):
            rows.append(ModelRow(name, False, values[:sets]))
    return rows


def lead(result: Result) -> str:
    """What was done by which method, and on whom it was judged."""
    method, federated = words.method_of(result), words.plural(result.data.nodes, "node")
    rounds, users = words.plural(len(result.rounds), "round"), words.plural(result.users.users, "user")
    does = {
        words.AVERAGING: f"{federated} trained one model in {rounds} without pooling their ratings; "
        f"{words.plural(len(result.nodes), 'node')} made it their own",
        words.HIERARCHICAL: f"{federated} learned one hierarchical model in {rounds} by sending sums, "
        f"and every user made it their own",
        words.PRIVATE_PRIOR: f"{federated} learned a prior in {rounds} with differential privacy for whole users, "
        "and every user's own model began from it",
        words.LOCAL: "every user learned alone, from public features and own ratings, and nothing was sent",
    }
    judged = {
        "two_groups": "" if method == words.AVERAGING else f"; judged on {users} who took no part in the rounds",
        "cold": f"; judged on {users} "
        + ("that no round had seen" if had_rounds(result) else "held out by protocol cold"),
        "warm": f"; judged on rows held out of all {users}",
        "temporal": f"; judged on the newest rows of all {users}",
        "given": f"; judged on the test rows that the data name, of {users}",
    }
    return f"{does[method]}{judged.get(result.data.protocol, '')}."


def early_sentence(result: Result) -> str:
    """After which round training was stopped, or nothing where it was not."""
    if not result.ended_early:
        return ""
    done, asked = len(result.rounds), result.settings["training"]["rounds"]
    return f"Training was stopped after round {done} of {asked}: every figure is of the model as it was then."


def repeat_command(result: Result) -> str:
    """What gives the same model again; nothing where fewer rounds would have had another privacy's noise."""
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


def sent_per_node(result: Result) -> str:
    """The bytes that a federated node sent in all rounds together."""
    return words.size(round(sum(record.bytes_up for record in result.rounds) / max(result.data.nodes, 1)))


def interval_sentence(result: Result) -> str:
    """How often the intervals hold, or nothing where there are none."""
    if result.intervals is None:
        return ""
    level, coverage = words.share(result.intervals.level), words.share(result.intervals.coverage, 1)
    width = words.decimals(result.intervals.mean_width, 2)
    return f"The personal models' {level} intervals hold {coverage} of the held-out ratings; mean width {width} stars."


def threshold_sentence(result: Result) -> str:
    """What the threshold of rare items costs, or nothing where no item is under it."""
    found = result.threshold
    if found is None or not found.items:
        return ""
    items = f"{words.count(found.items)} of {words.count(result.data.items)} items"
    begins = f"{items} have fewer than {words.plural(found.min_raters, 'rater')} and are never summed"
    if not found.rows:
        return f"{begins}; no held-out row is of them."
    rmse, others = words.stars(found.rmse), words.stars(found.rmse_others)
    rows = words.plural(found.rows, "held-out row")
    return f"{begins}: RMSE {rmse} on their {rows}, {others} on the others."


def secure_sums_sentence(result: Result) -> str:
    """What the server did not see, or nothing where it saw each contribution."""
    if not result.settings.get("privacy", {}).get("secure_sums"):
        return ""
    return (
        "Sums were secure: the server learned the sums over nodes and no node's contribution. In a simulation this "
        "shows what they cost and that they are exact; nodes and server share one memory."
    )


def privacy_sentence(result: Result) -> str:
    """What the shared model hides, by what and at which price, or nothing without differential privacy."""
    found = result.privacy
    if found is None:
        return ""
    spent = f"epsilon {words.decimals(found.epsilon_spent, 2)} spent of {found.epsilon:g}, at delta {found.delta:g}"
    accounting = f"{words.ACCOUNTANTS.get(found.accountant, found.accountant)} by dp-accounting"
    hides = f"The shared model hides each {words.UNITS.get(found.unit, found.unit)} by differential privacy"
    return f"{hides}: {spent} ({accounting}). {words.sentence(found.mechanism)}"


def selection_sentence(selection: Selection) -> str:
    """What was chosen on validation rows."""
    chosen = [f"{words.trial(trial.setting)} {trial.value:g}" for trial in selection.trials if trial.chosen]
    scale = f"standard deviations x {words.decimals(selection.deviation_scale, 3)}"
    return f"Chosen on {words.plural(selection.rows, 'validation row')}: {', '.join([*chosen, scale])}."


def key_numbers(result: Result) -> list[tuple[str, str, str]]:
    """A label, a number and a note for each number that a reader looks for first."""
    notes = [f"RMSE, {short}" for short, _ in words.row_sets(result)]
    first, last = notes[0], notes[-1]
    users, baselines, personal = result.users, result.baselines, result.personal_baselines
    if words.method_of(result) == words.AVERAGING:
        return [
            ("Global model", words.stars(result.final_rmse), first),
            ("Predicting the mean", words.stars(baselines.global_mean), first),
            ("User + item biases", words.stars(baselines.biases), first),
            ("Before personalisation", words.stars(users.rmse_before), last),
            ("After personalisation", words.stars(users.rmse_after), last),
            ("User + item biases", words.stars(personal.biases), last),
            *_gains(result),
        ]
    names = words.names(result)
    keys = [(names.personal_short, words.stars(users.rmse_after), last)]
    if math.isfinite(personal.local_only):
        added = personal.local_only - users.rmse_after
        keys.append((names.alone, words.stars(personal.local_only), last))
        keys.append(("Federation adds", words.signed(added), "stars, against each user alone"))
    keys.append(("User + item biases", words.stars(personal.biases), last))
    keys.append((names.shared_short, words.stars(users.rmse_before), "RMSE, no own ratings"))
    keys += _gains(result)
    if result.intervals is not None:
        width = f"mean width {words.decimals(result.intervals.mean_width, 2)} stars"
        level = f"{words.share(result.intervals.level)} intervals hold"
        keys.append((level, words.share(result.intervals.coverage, 1), width))
    popular = [record.ndcg_at_10 for record in result.rankers if record.model == "popularity"]
    if result.ranking and popular:
        own = words.decimals(result.ranking["ndcg@10"], 3)
        keys.append(("NDCG@10", own, f"popularity {words.decimals(popular[0], 3)}"))
    rounds = f"in {words.plural(len(result.rounds), 'round')}, all together" if had_rounds(result) else "no rounds"
    keys.append(("Sent per node", sent_per_node(result), rounds))
    return keys


def had_rounds(result: Result) -> bool:
    """Whether anything was learned in rounds: a method that sends nothing is judged once, as round 0."""
    return any(record.round > 0 for record in result.rounds)


def loss_heading(result: Result) -> str:
    """What a round's training loss is called."""
    return "Training loss, last epoch" if words.method_of(result) == words.AVERAGING else "Training loss"


def _gains(result: Result) -> list[tuple[str, str, str]]:
    users, verdict = result.users, result.verdict
    gain = f"± {words.stars(verdict.gain_sd)}, p {words.p_value(verdict.p_value)}"
    measured = words.count(len(words.measured(result.nodes)))
    worse = f"{words.count(verdict.users_harmed)} of {words.count(users.users)}"
    return [
        ("Gain per node", words.signed(verdict.gain_mean), gain),
        ("Nodes harmed", words.count(verdict.nodes_harmed), f"of {measured} with held-out rows"),
        ("Users harmed", words.share(users.share_worse), worse),
    ]

"""The key numbers of a run: for each a label, the number and a note."""

from __future__ import annotations

import math

from hierfed.plain_text import plural
from hierfed.report import contents, federation, words
from hierfed.results import Result


def key_numbers(result: Result) -> list[tuple[str, str, str]]:
    """The key numbers of a run that there are: for each a label, the number and a note."""
    return [(label, value, note) for label, value, note in _key_numbers(result) if value != words.MISSING]


def _key_numbers(result: Result) -> list[tuple[str, str, str]]:
    if result.federation is not None:
        return [*_federation_models(result), *_intervals(result), *federation.numbers(result), _sent(result)]
    notes = [f"RMSE, {short}" for short, _ in words.row_sets(result)]
    first, last = notes[0], notes[-1]
    users, baselines, personal = result.users, result.baselines, result.personal_baselines
    names = result.words
    if names.first == "shared":
        return [
            (names.shared_short, words.stars(result.final_rmse), first),
            ("Predicting the mean", words.stars(baselines.global_mean), first),
            ("User + item biases", words.stars(baselines.biases), first),
            ("Before personalisation", words.stars(users.rmse_before), last),
            ("After personalisation", words.stars(users.rmse_after), last),
            ("User + item biases", words.stars(personal.biases), last),
            *_gains(result),
        ]
    keys = [(names.personal_short, words.stars(users.rmse_after), last)]
    if math.isfinite(users.rmse_at_times):
        keys.append(("Asked for its time", words.stars(users.rmse_at_times), f"{last}, the time of the rating known"))
    if math.isfinite(personal.local_only):
        added = personal.local_only - users.rmse_after
        keys.append((names.alone, words.stars(personal.local_only), last))
        keys.append(("Federation adds", words.signed(added), f"{words.unit(result)}, against {names.alone_short}"))
    keys.append(("User + item biases", words.stars(personal.biases), last))
    keys.append((names.shared_short, words.stars(users.rmse_before), "RMSE, no own ratings"))
    keys += _gains(result)
    keys += _intervals(result)
    popular = [record.ndcg_at_10 for record in result.rankers if record.model == "popularity"]
    if result.ranking and popular:
        own = words.decimals(result.ranking["ndcg@10"], 3)
        keys.append(("NDCG@10", own, f"popularity {words.decimals(popular[0], 3)}"))
    return [*keys, _sent(result)]


def _federation_models(result: Result) -> list[tuple[str, str, str]]:
    if not contents.has_models(result):
        return []
    users, note = result.users, f"RMSE, {words.row_sets(result)[0][0]}"
    return [
        (result.words.personal_short, words.stars(users.rmse_after), note),
        (result.words.shared_short, words.stars(users.rmse_before), note),
        ("Gain", words.signed(users.rmse_before - users.rmse_after), f"{words.unit(result)}, on all rows together"),
    ]


def _intervals(result: Result) -> list[tuple[str, str, str]]:
    if result.intervals is None:
        return []
    level = f"{words.share(result.intervals.level)} intervals hold"
    return [(level, words.share(result.intervals.coverage, 1), contents.interval_width(result))]


def _sent(result: Result) -> tuple[str, str, str]:
    """The bytes that a federated node sent in all rounds together."""
    rounds = result.rounds if result.federation is None else result.federation.rounds
    sent = words.size(round(sum(record.bytes_up for record in rounds) / max(result.data.nodes, 1)))
    note = f"in {plural(len(result.rounds), 'round')}, all together"
    return ("Sent per node", sent, note if contents.had_rounds(result) else "no rounds")


def _gains(result: Result) -> list[tuple[str, str, str]]:
    users, verdict = result.users, result.verdict
    if not users.users:
        return []
    gain = f"± {words.stars(verdict.gain_sd)} over nodes, p {words.p_value(verdict.p_value)}"
    measured = words.count(len(words.measured(result.nodes)))
    worse = f"{words.count(verdict.users_harmed)} of {words.count(users.users)}"
    return [
        ("Gain per node", words.signed(verdict.gain_mean), gain),
        ("Nodes harmed", words.count(verdict.nodes_harmed), f"of {measured} with held-out rows"),
        ("Users harmed", words.share(users.share_worse), worse),
    ]

"""The verdict on a run: its figures in words that claim no more than the figures do."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan, nan

import numpy as np

from hierfed.evaluation.paired import paired_p_value
from hierfed.results import Baselines, Gain, NodeRecord, RankingRecord, UserSummary, Verdict


def give_verdict(
    global_rmse: float,
    baselines: Baselines,
    personal_baselines: Baselines,
    nodes: Sequence[NodeRecord],
    users: UserSummary,
    rivals: Sequence[tuple[str, float]] = (),
    epsilon: float | None = None,
) -> Verdict:
    """Judge the global model on the test rows, and the personal ones on the personalisation users' held-out rows.

    rivals: further rivals of the personal models, in words and with their RMSE on the held-out rows.
    epsilon: what was spent of each user's privacy; None without differential privacy.
    """
    gains = np.array([node.gain for node in nodes])
    gains = gains[np.isfinite(gains)]
    p_value = paired_p_value(gains)
    harmed = int((gains < 0).sum())
    worse = sum(gain < 0 for gain in users.gains)
    mean = float(gains.mean()) if len(gains) else float("nan")
    words = [
        _compare("The global model", global_rmse, "predicting the mean", baselines.global_mean),
        _compare("The global model", global_rmse, "user and item biases", baselines.biases),
        _gain_in_words(mean, p_value, harmed, len(gains)),
        f"{worse:,} of {users.users:,} users are worse off than with the global model.",
        _compare(
            "After personalisation the model", users.rmse_after, "user and item biases", personal_baselines.biases
        ),
        *_under_threshold(users.rmse_after, personal_baselines.pooled_biases),
        *(_compare("After personalisation the model", users.rmse_after, *rival) for rival in rivals),
        *_privacy_pays(users.rmse_after, personal_baselines.local_only, epsilon),
        *_worse("The global model", global_rmse, "item means", baselines.item_mean),
    ]
    return Verdict(
        beats_global_mean=global_rmse < baselines.global_mean,
        beats_biases=global_rmse < baselines.biases,
        personal_beats_biases=users.rmse_after < personal_baselines.biases,
        gain_mean=mean,
        gain_sd=float(gains.std(ddof=1)) if len(gains) > 1 else 0.0,
        p_value=p_value,
        nodes_harmed=harmed,
        users_harmed=worse,
        words=words,
    )


def verdict_of_gain(gain: Gain | None) -> Verdict:
    """The verdict on a federation: errors on all rows that nodes held out, and nothing of a node or a user.

    gain: None where no node held out rows, or tells its errors.
    """
    words = ["No node held out rows to be judged on, or none tells how well it is served."]
    if gain is not None:
        change = "lowers" if gain.rmse_after < gain.rmse_before else "does not lower"
        words = [
            f"Personalisation {change} the RMSE on {gain.rows:,} held-out ratings: {gain.rmse_before:.4f} before, "
            f"{gain.rmse_after:.4f} after."
        ]
    return _open(words)


def verdict_of_lists(rankers: Sequence[RankingRecord], recommends: str) -> Verdict:
    """The verdict where no rating was judged: on lists, where these were, or on a model that learned from every row."""
    ndcg = {record.model: record.ndcg_at_10 for record in rankers}
    if recommends in ndcg and "popularity" in ndcg:
        own, popular = ndcg[recommends], ndcg["popularity"]
        verb = "beats" if own > popular else "does not beat"
        return _open([f"What is recommended {verb} popularity: NDCG@10 {own:.4f} against {popular:.4f}."])
    return _open(
        [
            "The model learned from every row, for use: nothing was held out, so nothing was judged. "
            "Another protocol says how good such a model is."
        ]
    )


def _open(words: list[str]) -> Verdict:
    """A verdict on nothing that was compared."""
    return Verdict(
        beats_global_mean=None,
        beats_biases=None,
        personal_beats_biases=None,
        gain_mean=nan,
        gain_sd=nan,
        p_value=None,
        nodes_harmed=0,
        users_harmed=0,
        words=words,
    )


def _compare(who: str, rmse: float, rival: str, rival_rmse: float) -> str:
    verb = "beats" if rmse < rival_rmse else "does not beat"
    return f"{who} {verb} {rival}: RMSE {rmse:.4f} against {rival_rmse:.4f}."


def _worse(who: str, rmse: float, rival: str, rival_rmse: float) -> list[str]:
    """A sentence where the rival is better; none elsewhere."""
    return [f"{who} is worse than {rival}: RMSE {rmse:.4f} against {rival_rmse:.4f}."] if rmse > rival_rmse else []


def _privacy_pays(rmse: float, alone: float, epsilon: float | None) -> list[str]:
    """The gain of a private run over sending nothing; no sentence where one of them was not measured."""
    if epsilon is None or isnan(alone) or isnan(rmse):
        return []
    figures = f"RMSE {rmse:.4f} against {alone:.4f}"
    if rmse >= alone:
        return [f"At epsilon {epsilon:.2g} the model is no better than sending nothing: {figures}."]
    return [f"At epsilon {epsilon:.2g} the model is {alone - rmse:.4f} better than sending nothing: {figures}."]


def _under_threshold(rmse: float, rival_rmse: float) -> list[str]:
    """The comparison with biases that are held to the same threshold; none where no item is under it."""
    rival = "user and item biases under the same threshold"
    return [] if isnan(rival_rmse) else [_compare("After personalisation the model", rmse, rival, rival_rmse)]


def _gain_in_words(mean: float, p_value: float | None, harmed: int, nodes: int) -> str:
    change = "lowers" if mean > 0 else "raises" if mean < 0 else "does not change"
    by = f" by {abs(mean):.4f} on average over {nodes} node{'s' * (nodes != 1)}" if mean else ""
    test = "" if p_value is None else f" (paired t-test over nodes: p = {p_value:.2g})"
    return f"Personalisation {change} the held-out RMSE{by}{test}; {harmed} node{'s' * (harmed != 1)} harmed."

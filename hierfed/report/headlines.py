"""The finding that each figure shows, in one line."""

from __future__ import annotations

import math

from hierfed.plain_text import plural
from hierfed.report.words import decimals, measured, norm, share, stars
from hierfed.results import NewUserRecord, Result


def global_headline(result: Result) -> str:
    """The global model against the mean and the biases."""
    after = f"after {plural(len(result.rounds), 'round')}: RMSE {stars(result.final_rmse)}{_better_before(result)}"
    if result.verdict.beats_biases:
        return f"The global model beats user and item biases {after}"
    if result.verdict.beats_global_mean:
        return f"The global model beats the mean, but not the biases, {after}"
    return f"The global model does not beat predicting the mean {after}"


# A curve is told to have been better before if it was so by more than this share of the last error.
BETTER = 0.002


def _better_before(result: Result) -> str:
    """A note on the best round, where the model became worse after it; empty elsewhere."""
    judged = [record for record in result.rounds if math.isfinite(record.global_rmse)]
    best = min(judged, key=lambda record: record.global_rmse, default=None)
    if best is None or best.global_rmse >= (1 - BETTER) * result.final_rmse:
        return ""
    return f"; it was best after round {best.round}, {stars(best.global_rmse)}"


def loss_headline(result: Result) -> str:
    """The change of the training loss from the first epoch to the last."""
    losses = [loss for record in result.rounds for loss in record.train_loss]
    if not losses:
        return "No training loss was recorded"
    first, last = losses[0], losses[-1]
    steps = plural(len(losses), "epoch" if result.words.loss_by_epoch else "round")
    if len(losses) == 1 or not math.isfinite(first) or not math.isfinite(last):
        return f"Training loss over {steps}"
    moved = "fell" if last < first else "did not fall"
    return f"Training loss {moved}: {decimals(first, 2)} to {decimals(last, 2)} in {steps}"


def node_headline(result: Result) -> str:
    """The numbers of nodes that personalisation helped and harmed."""
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
    """The personal models against user and item biases and what learns alone, on the same users' rows."""
    rivals = {"user + item biases": result.personal_baselines.biases}
    if result.words.names_alone:
        rivals[result.words.alone_short] = result.personal_baselines.local_only
    differences = {name: rmse - result.users.rmse_after for name, rmse in rivals.items() if math.isfinite(rmse)}
    if not differences or not math.isfinite(result.users.rmse_after):
        return "Models against simple baselines"
    parts = [f"{stars(abs(by))} {'below' if by > 0 else 'above'} {name}" for name, by in differences.items()]
    return f"After personalisation, RMSE is {' and '.join(parts)}"


def user_headline(result: Result) -> str:
    """The share of users that personalisation left worse off."""
    if not result.users.gains:
        return "No user has held-out rows to measure personalisation on"
    return f"Personalisation left {share(result.users.share_worse)} of {plural(result.users.users, 'user')} worse off"


def new_users_headline(result: Result) -> str:
    """The worth of a new user's own ratings, and the number from which on the model leads."""
    measured_ones = (record for record in result.new_users if math.isfinite(record.model))
    records = sorted(measured_ones, key=lambda record: record.ratings)
    if not records:
        return "No new users to measure"
    first, last = records[0], records[-1]
    if len(records) == 1:
        return f"With {plural(last.ratings, 'own rating')}, a new user's RMSE is {stars(last.model)}"
    moved = "lower" if last.model < first.model else "do not lower"
    change = f"from {stars(first.model)} to {stars(last.model)}"
    text = f"{plural(last.ratings, 'own rating')} {moved} a new user's RMSE {change}"
    behind = [record for record in records if record.model > min(_rivals(record), default=math.inf)]
    if not behind:
        return f"{text}; the model leads throughout"
    if behind[-1] is last:
        return text
    return f"{text}; the model leads with more than {plural(behind[-1].ratings, 'own rating')}"


def _rivals(record: NewUserRecord) -> list[float]:
    return [rmse for rmse in (record.biases, record.network) if math.isfinite(rmse)]


def ranking_headline(result: Result) -> str:
    """The recommended lists against popularity's."""
    popular = {record.model: record.ndcg_at_10 for record in result.rankers}.get("popularity", math.nan)
    own = result.ranking.get("ndcg@10", math.nan)
    if not math.isfinite(own):
        return "Recommendation lists of every ranking model"
    if not math.isfinite(popular):
        return f"What is recommended reaches NDCG@10 {decimals(own, 3)}"
    verb = "beats" if own > popular else "does not beat"
    return f"What is recommended {verb} popularity: NDCG@10 {decimals(own, 3)} against {decimals(popular, 3)}"

"""The key numbers of a report fit the method and the protocol."""

from __future__ import annotations

from hierfed.report.key_numbers import key_numbers
from hierfed.results import Result


def test_a_network_s_key_numbers_are_of_both_sets_of_rows(result: Result) -> None:
    keys = key_numbers(result)
    assert keys[0] == ("Global model", f"{result.final_rmse:.4f}", "RMSE, test rows")
    assert ("User + item biases", "0.9550", "RMSE, test rows") in keys
    assert ("User + item biases", "0.9466", "RMSE, held-out rows") in keys
    assert len(keys) == 9


def test_the_hierarchical_key_numbers_say_what_federation_adds_and_what_it_sends(hierarchical: Result) -> None:
    keys = key_numbers(hierarchical)
    assert keys[:4] == [
        ("Personal models", "0.7823", "RMSE, with own ratings"),
        ("Each user alone (local)", "0.8115", "RMSE, with own ratings"),
        ("Federation adds", "+0.0292", "stars, against each user alone"),
        ("User + item biases", "0.8585", "RMSE, with own ratings"),
    ]
    assert ("90% intervals hold", "92.2%", "mean width 2.66 stars") in keys
    assert ("NDCG@10", "0.463", "popularity 0.236") in keys
    assert keys[-1] == ("Sent per node", "2.8 MB", "in 50 rounds, all together")


def test_who_learns_alone_is_not_compared_with_itself_and_sends_nothing(local: Result) -> None:
    keys = key_numbers(local)
    labels = [label for label, *_ in keys]
    assert labels[0] == "Each user alone (local)"
    assert len(labels) == len(set(labels))
    assert "Federation adds" not in labels
    assert keys[-1] == ("Sent per node", "0 B", "no rounds")

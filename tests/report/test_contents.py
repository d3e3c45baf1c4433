"""The first sentence and the key numbers of a report fit the method and the protocol."""

from __future__ import annotations

import pytest

from hierfed.report import contents
from hierfed.results import Result


@pytest.mark.parametrize(
    ("method", "protocol", "sentence"),
    [
        ("result", "two_groups", "8 nodes trained one model in 10 rounds without pooling their ratings; 8 nodes made"),
        ("hierarchical", "cold", "in 50 rounds by sending sums, and every user made it their own; judged on 201 users"),
        ("hierarchical", "cold", "judged on 201 users that no round had seen."),
        ("hierarchical", "two_groups", "judged on 201 users who took no part in the rounds."),
        ("warm_hierarchical", "warm", "judged on rows held out of all 201 users."),
        ("warm_hierarchical", "temporal", "judged on the newest rows of all 201 users."),
        ("warm_hierarchical", "given", "judged on the test rows that the data name, of 201 users."),
        (
            "local",
            "cold",
            "every user learned alone, from public features and own ratings, and nothing was sent; judged",
        ),
    ],
)
def test_the_first_sentence_names_method_and_protocol(
    request: pytest.FixtureRequest, method: str, protocol: str, sentence: str
) -> None:
    result: Result = request.getfixturevalue(method)
    data = result.data.model_copy(update={"protocol": protocol})
    assert sentence in contents.lead(result.model_copy(update={"data": data}))


def test_a_network_s_key_numbers_are_of_both_sets_of_rows(result: Result) -> None:
    keys = contents.key_numbers(result)
    assert keys[0] == ("Global model", f"{result.final_rmse:.4f}", "RMSE, test rows")
    assert ("User + item biases", "0.9550", "RMSE, test rows") in keys
    assert ("User + item biases", "0.9466", "RMSE, held-out rows") in keys
    assert len(keys) == 9


def test_the_hierarchical_key_numbers_say_what_federation_adds_and_what_it_sends(hierarchical: Result) -> None:
    keys = contents.key_numbers(hierarchical)
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
    keys = contents.key_numbers(local)
    labels = [label for label, *_ in keys]
    assert labels[0] == "Each user alone (local)"
    assert len(labels) == len(set(labels))
    assert "Federation adds" not in labels
    assert keys[-1] == ("Sent per node", "0 B", "no rounds")


def ended_early(result: Result, rounds: int) -> Result:
    settings = {**result.settings, "training": {"rounds": rounds}}
    return result.model_copy(update={"ended_early": True, "settings": settings})


def test_what_ended_early_says_after_which_round_and_how_to_get_it_again(result: Result) -> None:
    early = ended_early(result, 25)
    assert contents.early_sentence(early).startswith("Training was stopped after round 10 of 25")
    assert contents.repeat_command(early) == "hierfed run settings.toml --set rounds=10"


def test_a_whole_run_says_nothing_of_an_end(result: Result) -> None:
    assert contents.early_sentence(result) == ""
    assert contents.repeat_command(result) == "hierfed run settings.toml"


def test_an_early_end_under_differential_privacy_cannot_be_repeated(private: Result) -> None:
    """A run that is asked for fewer rounds adds less noise to each."""
    assert contents.repeat_command(private) == "hierfed run settings.toml"
    assert contents.repeat_command(ended_early(private, 25)) == ""

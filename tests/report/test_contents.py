"""The first sentence of a report, and those of its findings, fit the method and the protocol."""

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

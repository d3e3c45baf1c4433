"""A federation's result has the same report: what its nodes told, and nothing that they did not."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest

from hierfed.evaluation.collection import collect_federation
from hierfed.report.figures import figures_of
from hierfed.report.key_numbers import key_numbers
from hierfed.report.terminal import result_tables
from hierfed.results import DeployedRound, Gain, PrivacyRecord, RefusedAnswer, ReleaseRecord, Result, write_record
from hierfed.runs.reports import rewrite_report
from hierfed.settings import load_settings
from tests.report.test_page import Page, assert_self_contained
from tests.report.test_terminal import cells, flat, rendered

NODES = ["oak", "elm", "ash <b>\x1b[31m"]
REASON = "its contribution is not finite\x1b[2J"
GAIN = Gain(rows=1_234, rmse_before=0.9512, rmse_after=0.9012, coverage=0.912)


def rounds() -> list[DeployedRound]:
    """An opening round, one, one that is abandoned, its repetition, and one of another stage."""

    def one(stage: str, number: int, contributors: list[str], **other: Any) -> DeployedRound:
        fields = {"refused": [], "abandoned": False, "train_loss": [], "bytes_up": 1_000, "bytes_down": 2_000}
        return DeployedRound(stage=stage, round=number, contributors=contributors, seconds=1.5, **(fields | other))

    refused = [RefusedAnswer(node=NODES[2], reason=REASON)]
    return [
        one("rating", 0, NODES),
        one("rating", 1, NODES, train_loss=[0.9]),
        one("rating", 2, NODES[:1], refused=refused, abandoned=True),
        one("rating", 2, NODES[:2], train_loss=[0.8]),
        one("ease", 1, NODES, bytes_up=500),
    ]


def federation(preset: str = "hierarchical", **replaced: Any) -> Result:
    given: dict[str, Any] = {
        "nodes": NODES,
        "items": 2_830,
        "ratings": 44_989,
        "rounds": rounds(),
        "gain": GAIN,
        "privacy": None,
        "digest": "5f" * 32,
        "seconds": 12.5,
    }
    return collect_federation("village", load_settings(preset), scale=(0.5, 5.0), **(given | replaced))


def page_of(result: Result, folder: Path) -> Page:
    """The page that `hierfed report` makes of what a server wrote."""
    write_record(result, folder / "result.json")
    rewrite_report(folder)
    return Page(folder / "report.html")


def assert_nothing_is_made_up(text: str) -> None:
    assert not re.search(r"\bnan\b|n/a|\bnull\b|\bNone\b|\b0 users|0 of 0", text)


def test_the_result_holds_what_the_nodes_told_and_no_more() -> None:
    found = federation()
    assert [each.round for each in found.rounds] == [1, 2]
    assert [each.train_loss for each in found.rounds] == [[0.9], [0.8]]
    assert [each.bytes_up for each in found.rounds] == [2_000, 2_000], "openings and abandoned ones are in the next"
    assert [each.seconds for each in found.rounds] == [3.0, 3.0]
    assert found.federation is not None and len(found.federation.rounds) == 5
    assert (found.final_rmse, found.users.rmse_after) == (0.9512, 0.9012)
    assert found.nodes == found.users.gains == []
    assert found.verdict.beats_biases is None
    assert math.isnan(found.baselines.biases)
    assert found.metrics == {
        "global_rmse": 0.9512,
        "rmse_before": 0.9512,
        "rmse_after": 0.9012,
        "coverage": 0.912,
        "seconds": 12.5,
    }


def test_it_reads_back_as_it_was_written(tmp_path: Path) -> None:
    write_record(federation(), tmp_path / "result.json")
    read = Result.model_validate_json((tmp_path / "result.json").read_text())
    assert read.federation == federation().federation
    assert read.words == federation().words


def test_the_page_says_who_contributed_and_what_was_refused(tmp_path: Path) -> None:
    page = page_of(federation(), tmp_path)
    assert_self_contained(page)
    assert_nothing_is_made_up(page.text)
    told = "3 nodes took part; 2 to 3 of them contributed to a round. 1 answer was refused. 1 round was abandoned"
    assert told in page.text
    assert page.row("oak") == ["oak", "4 of 4", "0"]
    assert page.row("ash <b> [31m", "3 of 4") == ["ash <b> [31m", "3 of 4", "1"]
    assert page.row("ash <b> [31m", "rating, 2")[2] == "its contribution is not finite [2J"
    assert page.row("rating", "2", "1")[-1] == "abandoned"
    assert page.row("rating", "2", "2")[3:5] == ["0.8000", "1.0 kB"]
    assert page.row("ease", "1")[2] == "3"
    assert page.row("Federated, personal models") == ["Federated, personal models", "0.9012"]
    assert "3 nodes learned one hierarchical model in 2 rounds" in page.text
    assert "judged on 1,234 ratings that the nodes held out." in page.text
    assert "Personalisation lowers the RMSE on 1,234 held-out ratings: 0.9512 before, 0.9012 after." in page.text
    assert "The nodes learned from 44,989 ratings" in page.text
    assert federation().digest in page.text
    for absent in ("Item means", "hierfed run settings.toml", "worse off", "Rows by part", "mean width"):
        assert absent not in page.text
    assert not [row for row in page.rows if not any(row)], "no empty row"


def test_only_the_figures_that_it_has_are_drawn(tmp_path: Path) -> None:
    page = page_of(federation(), tmp_path)
    assert [path.stem for path in sorted((tmp_path / "figures").glob("*.svg"))] == ["training_loss"]
    (image,) = page.all("img")
    assert "fell: 0.90 to 0.80 in 2 rounds" in (image["alt"] or "")
    silent = [each.model_copy(update={"train_loss": []}) for each in rounds()]
    assert not figures_of(federation(rounds=silent))


@pytest.mark.parametrize("preset", ["paper", "hierarchical", "local", "private"])
def test_a_federation_that_tells_nothing_has_a_report_of_every_method(preset: str, tmp_path: Path) -> None:
    """No gain, no loss, no count of ratings, no round: as with secure sums and users who learn alone."""
    result = federation(preset, gain=None, ratings=0, rounds=[])
    page = page_of(result, tmp_path)
    assert_nothing_is_made_up(page.text)
    assert not page.all("img")
    assert "Figures" not in page.text and "RMSE of every model" not in page.text
    assert "did not tell how many ratings" in page.text
    assert "no node told how well it is served" in page.text
    text = flat(rendered(result_tables(result)))
    assert_nothing_is_made_up(text)


def test_the_terminal_shows_the_same() -> None:
    text = rendered(result_tables(federation()))
    assert len(cells(text, "Global model, held-out rows")) == 1
    assert_nothing_is_made_up(text)
    assert cells(text, "oak") == [["oak", "4 of 4", "0"]]
    assert cells(text, "Federated, global model") == [["Federated, global model", "0.9512"]]
    assert "not finite [2J" in flat(text.replace("│", " "))
    assert "1 answer was refused." in flat(text)
    assert "90% intervals hold 91.2% of the held-out ratings." in flat(text)
    assert "\x1b" not in text


def test_many_refused_answers_are_cut_on_the_terminal_and_counted() -> None:
    refused = [RefusedAnswer(node="oak", reason=f"late {number}") for number in range(30)]
    many = [each.model_copy(update={"refused": refused}) for each in rounds()[:1]]
    text = flat(rendered(result_tables(federation(rounds=many))))
    assert "30 answers were refused" in text
    assert "late 19" in text and "late 20" not in text
    assert "The other 10 are on the page." in text


def test_secure_sums_and_privacy_are_not_called_a_simulation(tmp_path: Path) -> None:
    release = ReleaseRecord(name="each round", count=3, sampling=1.0, clip_norm=1.0, noise_multiplier=2.0)
    record = PrivacyRecord(
        unit="user", epsilon=2.0, epsilon_spent=1.9, delta=1e-5, mechanism="noise", accountant="rdp", releases=[release]
    )
    result = federation("private", privacy=record, gain=None)
    page = page_of(result, tmp_path)
    assert "the server learned the sums over nodes and no node's contribution." in page.text
    assert "epsilon 1.90 spent of 2" in page.text
    assert "imulation" not in page.text


def test_its_key_numbers_are_the_errors_on_held_out_rows_and_who_took_part() -> None:
    assert key_numbers(federation()) == [
        ("Personal models", "0.9012", "RMSE, held-out rows"),
        ("Global model", "0.9512", "RMSE, held-out rows"),
        ("Gain", "+0.0500", "stars, on all rows together"),
        ("90% intervals hold", "91.2%", ""),
        ("Nodes", "3", "2 to 3 contributed to a round"),
        ("Ratings", "44,989", "learned from, over all nodes"),
        ("Sent per node", "1.5 kB", "in 2 rounds, all together"),
    ]

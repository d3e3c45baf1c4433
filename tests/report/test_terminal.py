"""The tables of the terminal: legible at 80 columns, with every number the result holds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

from hierfed.data.reading.sources import load
from hierfed.report.terminal import (
    comparison_table,
    dataset_table,
    recommendations_table,
    result_tables,
    summary_table,
)
from hierfed.results import PairedDifference, Result, Summary
from hierfed.serving.answers import Answer, Reason, Recommendation, Twin

MakeResult = Callable[..., Result]
CONTENT = "userId,movieId,rating,timestamp\n7,10,4.5,1000000000\n7,20,3.0,1000000001\n3,10,0.5,1000000002\n"


def rendered(content: RenderableType) -> str:
    out = StringIO()
    Console(width=80, file=out).print(content)
    text = out.getvalue()
    assert text.strip()
    assert "\x1b" not in text
    for line in text.splitlines():
        assert len(line) <= 80, line
    return text


def cells(text: str, first: str) -> list[list[str]]:
    """The cells of every table row whose first cell is this."""
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line]
    return [row for row in rows if row[0] == first]


def flat(text: str) -> str:
    """The text with lines joined, for sentences that wrap."""
    return " ".join(text.split())


def test_every_node_has_a_row_of_its_numbers_to_four_decimals(result: Result) -> None:
    text = rendered(result_tables(result))
    for node in result.nodes:
        (row,) = cells(text, node.node)
        assert row == [
            node.node,
            "25",
            "1,310",
            "328",
            f"{node.rmse_before:.4f}",
            f"{node.rmse_after:.4f}",
            f"{node.gain:+.4f}",
            "worse" if node.gain < 0 else "",
        ]
    assert [cells(text, node.node)[0][-1] for node in result.nodes] == [""] * 7 + ["worse"]


def test_every_model_stands_beside_the_baselines(result: Result) -> None:
    text = rendered(result_tables(result))
    expected = {
        "Federated, global model": [f"{result.final_rmse:.4f}", "1.0521"],
        "Federated, personal models": ["n/a", "1.0257"],
        "Predicting the mean": ["1.0543", "1.0488"],
        "Item means": ["1.0140", "1.0102"],
        "User means": ["0.9940", "0.9871"],
        "User + item biases": ["0.9550", "0.9466"],
        "Each node alone": ["1.0902", "1.0750"],
        "All rows in one place": ["1.0601", "1.0533"],
    }
    for name, values in expected.items():
        assert cells(text, name) == [[name, *values]]


def test_verdict_warning_missing_features_and_dropped_rows_are_shown(result: Result) -> None:
    text = flat(rendered(result_tables(result)))
    for sentence in result.verdict.words:
        assert sentence in text
    assert "Warning: This join compares ids of two different catalogues" in text
    assert "lack: vote_count, revenue." in text
    assert "100,004 in = 44,989 used + 55,015 dropped" in text


def test_an_early_end_is_told_before_the_verdict(result: Result) -> None:
    assert "stopped" not in rendered(result_tables(result))
    early = result.model_copy(update={"ended_early": True, "settings": {"training": {"rounds": 25}}})
    text = flat(rendered(result_tables(early)))
    assert 0 < text.index("stopped after round 10 of 25") < text.index(result.verdict.words[0])


def test_what_is_hidden_at_which_price_is_said_with_its_warning(private: Result) -> None:
    text = flat(rendered(result_tables(private)))
    assert "hides each node with all its users by differential privacy: epsilon 8.00 spent of 8, at delta 1e-05" in text
    assert "(Renyi divergences by dp-accounting). Gaussian noise on clipped changes." in text
    assert "Warning: the noise is long." in text


@pytest.mark.parametrize("secure", [False, True])
def test_secure_sums_are_told_of_where_there_were_any(secure: bool, result: Result) -> None:
    settings = {**result.settings, "privacy": {"secure_sums": secure}}
    text = flat(rendered(result_tables(result.model_copy(update={"settings": settings}))))
    assert ("the server learned the sums over nodes and no node's contribution" in text) == secure


def test_nothing_is_said_of_differential_privacy_without_it(result: Result) -> None:
    assert "differential" not in rendered(result_tables(result))


def test_nothing_is_warned_of_where_nothing_is_wrong(result: Result) -> None:
    join = result.data.join.model_copy(update={"warning": ""})
    data = result.data.model_copy(update={"join": join, "missing_features": []})
    text = rendered(result_tables(result.model_copy(update={"data": data})))
    assert "Warning" not in text
    assert "lack" not in text


def test_of_many_nodes_those_that_gained_least_are_shown(make_result: MakeResult) -> None:
    result = make_result(nodes=500)
    text = rendered(result_tables(result))
    shown = [node for node in result.nodes if cells(text, node.node)]
    assert 0 < len(shown) < 100
    assert "500 nodes" in flat(text)
    least = sorted(result.nodes, key=lambda node: node.gain)[: len(shown)]
    assert {node.node for node in shown} == {node.node for node in least}


@pytest.mark.parametrize("name", ["[bold]x[/bold]", "[/]", "$x$", "<b>", "n" * 200, "two\nlines"])
def test_odd_node_names_are_shown_as_they_are(result: Result, name: str) -> None:
    nodes = [result.nodes[0].model_copy(update={"node": name}), *result.nodes[1:]]
    text = rendered(result_tables(result.model_copy(update={"nodes": nodes})))
    letters = "".join(line.strip("│ ").split("│")[0].strip() for line in text.splitlines() if "│" in line)
    assert name.replace("\n", "") in letters


def test_undefined_numbers_are_written_as_such(result: Result) -> None:
    nothing = float("nan")
    node = result.nodes[0].model_copy(update={"rmse_before": nothing, "rmse_after": nothing, "gain": nothing})
    text = rendered(result_tables(result.model_copy(update={"nodes": [node, *result.nodes[1:]]})))
    (row,) = cells(text, "1")
    assert row[4:] == ["n/a", "n/a", "n/a", ""]


def test_the_summary_has_mean_deviation_and_range_of_every_figure(summary: Summary) -> None:
    text = rendered(summary_table(summary))
    assert cells(text, "Global model, test rows") == [
        ["Global model, test rows", "1.0654", "0.0091", "1.0554", "1.0754"]
    ]
    (gain,) = cells(text, "Gain per node, held-out rows")
    assert gain[1:] == ["0.0264", "0.0091", "0.0164", "0.0364"]
    assert "3 seeds" in text
    assert summary.verdict[0] in flat(text)


def test_the_comparison_has_each_preset_and_the_paired_differences_with_p_values(
    summary: Summary, better_summary: Summary
) -> None:
    presets = [("paper: global_rmse", "network: global_rmse"), ("paper: rmse_after", "network: rmse_after")]
    (first, second), (third, fourth) = presets
    differences = [
        PairedDifference(first=first, second=second, mean=0.0834, sd=0.01, p_value=0.0123),
        PairedDifference(first=third, second=fourth, mean=0.1643, sd=0.01, p_value=1e-9),
        PairedDifference(first=third, second=fourth, mean=0.1643, sd=0.0, p_value=None),
    ]
    text = rendered(comparison_table({"paper": summary, "network": better_summary}, differences))
    assert cells(text, "paper")[0][1:] == ["1.0654 ± 0.0091", "1.0257 ± 0.0091", "0.0264 ± 0.0091"]
    assert cells(text, "network")[0][1:] == ["0.9820 ± 0.0091", "0.8614 ± 0.0091", "0.0264 ± 0.0091"]
    rows = [line for line in text.splitlines() if "+0." in line]
    assert ["+0.0834 ± 0.0100" in rows[0], "0.012" in rows[0]] == [True, True]
    assert ["+0.1643 ± 0.0100" in rows[1], "< 0.001" in rows[1]] == [True, True]
    assert "n/a" in rows[2]
    assert "paper - network" in flat(text)


def test_the_data_table_shows_rows_licence_hash_and_every_row_s_fate(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text(CONTENT)
    text = rendered(dataset_table(load(str(tmp_path))))
    joined = "".join(line.strip() for line in text.splitlines())
    assert hashlib.sha256(CONTENT.encode()).hexdigest() in joined
    assert "3 by 2 users of 2 items" in text
    assert "3 in = 3 used + 0 dropped" in text
    assert "ratings.csv: 3 rows" in text
    assert "licence" in text
    assert "not known: ask who gave you the tables" in flat(text)
    assert "2001-09-09 to 2001-09-09" in text


def test_the_data_table_counts_what_a_join_dropped(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text(CONTENT)
    (tmp_path / "movies_metadata.csv").write_text(
        "id,imdb_id,title,release_date,genres,popularity,runtime,vote_average,vote_count,revenue\n"
        "10,tt1,Heat,1995-12-15,\"[{'id': 28, 'name': 'Action'}]\",17.9,170.0,7.7,1886.0,1.0\n"
    )
    text = flat(rendered(dataset_table(load(str(tmp_path), join=["paper"]))))
    assert "3 in = 2 used + 1 dropped" in text
    assert "dropped 1: no metadata (join paper)" in text
    assert "warning" in text


def test_the_hierarchical_tables_hold_all_that_was_found(hierarchical: Result) -> None:
    text = rendered(result_tables(hierarchical))
    assert cells(text, "Each user alone (local)") == [["Each user alone (local)", "0.9813", "0.8115"]]
    assert cells(text, "Federated, personal models")[0][1:] == ["n/a", "0.7823"]
    assert cells(text, "All rows in one place") == cells(text, "Each node alone") == []
    assert cells(text, "50") == [["50", "0.8068", "0.8655", "0.8463"]]
    assert cells(text, "Popularity (baseline)")[0][1:] == ["0.236", "0.706", "0.108"]
    assert cells(text, "Blend (recommends)")[0][1:] == ["0.463", "0.861", "0.248"]
    sentences = flat(text)
    assert "The personal models' 90% intervals hold 92.2% of the held-out ratings; mean width 2.66 stars." in sentences
    assert "RMSE 0.8209 on their 1,439 held-out rows, 0.7748 on the others." in sentences
    chosen = "factor on the kernel's amplitudes 0.5, share of noise kept in kriging 0.4, standard deviations x 1.015."
    assert f"Chosen on 3,329 validation rows: {chosen}" in sentences


def test_of_a_network_nothing_is_said_that_it_has_not(result: Result) -> None:
    text = rendered(result_tables(result))
    for absent in ("intervals", "summed", "Chosen", "New users", "lists by", "(local)"):
        assert absent not in text


def test_each_user_alone_is_the_model_of_the_method_that_sends_nothing(local: Result) -> None:
    text = rendered(result_tables(local))
    assert cells(text, "Each user alone (local)") == [["Each user alone (local)", "n/a", "0.7823"]]
    assert len(cells(text, "Public votes alone")) == 1
    assert "Federated" not in text


def test_rows_of_the_same_users_have_one_column(warm_hierarchical: Result) -> None:
    text = rendered(result_tables(warm_hierarchical))
    assert cells(text, "Each user alone (local)") == [["Each user alone (local)", "0.8115"]]
    assert cells(text, "Federated, personal models") == [["Federated, personal models", "0.7823"]]


def test_a_threshold_that_no_item_is_under_costs_nothing(hierarchical: Result) -> None:
    threshold = hierarchical.threshold
    assert threshold is not None
    without = hierarchical.model_copy(update={"threshold": threshold.model_copy(update={"items": 0, "rows": 0})})
    assert "summed" not in rendered(result_tables(without))
    unjudged = hierarchical.model_copy(update={"threshold": threshold.model_copy(update={"rows": 0})})
    assert "no held-out row is of them." in flat(rendered(result_tables(unjudged)))


def test_recommendations_have_under_each_item_the_ratings_that_moved_it() -> None:
    twin = Twin("10", "Aliens (1986)", 4.0)
    reasons = (Reason("9", "Alien (1979)", 4.5, 0.123, twin), Reason("a1", "A long title " * 9, 0.5, -1.2))
    items = (
        Recommendation(1, "0007", "Heat [1995]", 4.256, 2.81, 5.0, 3.333, False, reasons),
        Recommendation(2, "8", "Title " * 20, 4.5, 2.0, 5.0, 1.2, True, ()),
    )
    text = rendered(recommendations_table(Answer("17", True, "score", items)))
    assert "For user 17" in text
    assert cells(text, "1. Heat [1995]") == [["1. Heat [1995]", "3.33", "4.26", "2.8 to 5.0"]]
    assert "not by expected rating" in flat(text)
    assert text.count("(rated") == text.count("before)") == 1
    assert cells(text, "+0.12  rated 4.5: Alien (1979)")
    assert cells(text, "and  rated 4: Aliens (1986)")
    (cut,) = [line for line in text.splitlines() if "-1.20  rated 0.5: A long title" in line]
    assert "…" in cut
    assert text.count("Title") == 20, "the title of an item is never cut"
    assert "falls (+) or rises (-) without an own rating" in flat(text)
    assert "newcomer" not in text


def test_recommendations_for_a_stranger_say_so() -> None:
    items = (Recommendation(1, "7", "Heat (1995)", 4.2, 2.8, 5.0, 0.8, False, ()),)
    text = flat(rendered(recommendations_table(Answer("999", False, "rating", items))))
    assert "score" not in text
    assert "There are no ratings of user 999 here: the list suits any newcomer." in text
    assert "without an own rating" not in text

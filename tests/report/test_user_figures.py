"""Which figures a result has, and what those of the hierarchical model, of new users and of ranking hold."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hierfed.report.figures import FIGURES, all_figures
from hierfed.report.round_figures import seeds_rmse
from hierfed.results import Result

MakeResult = Callable[..., Result]


def line(panel: Axes, label: str) -> Line2D:
    (found,) = [artist for artist in panel.lines if artist.get_label() == label]
    return found


def headline(figure: Figure) -> str:
    return figure.get_suptitle().replace("\n", " ")


def written(panel: Axes) -> list[str]:
    return [text.get_text() for text in panel.texts]


def with_new_users(result: Result, **replaced: float) -> Result:
    """The result with the last record of its new users replaced in part."""
    return result.model_copy(
        update={"new_users": [*result.new_users[:-1], result.new_users[-1].model_copy(update=replaced)]}
    )


def test_a_result_has_the_figures_that_it_has_something_for(
    result: Result, hierarchical: Result, local: Result
) -> None:
    every = ["global_rmse", "training_loss", "node_rmse", "weight_change", "baselines", "user_gain"]
    assert list(all_figures(result)) == every
    every.remove("weight_change")
    assert list(all_figures(hierarchical)) == [*every, "new_users", "ranking"]
    assert list(all_figures(local)) == ["node_rmse", "baselines", "user_gain"]


def test_one_node_with_a_norm_is_enough_for_the_change_of_weights(hierarchical: Result) -> None:
    first = hierarchical.nodes[0].model_copy(update={"weight_change_l2": 3.5})
    nodes = [first, *hierarchical.nodes[1:]]
    assert "weight_change" in all_figures(hierarchical.model_copy(update={"nodes": nodes}))


def test_new_users_lines_are_the_records_with_none_at_all_on_the_axis(hierarchical: Result) -> None:
    (panel,) = FIGURES["new_users"](hierarchical).axes
    for name in ("model", "biases", "network"):
        drawn = line(panel, name)
        np.testing.assert_array_equal(drawn.get_ydata(), [getattr(each, name) for each in hierarchical.new_users])
    places = line(panel, "model").get_xdata()
    assert [label.get_text() for label in panel.get_xticklabels()] == ["0", "1", "5", "50"]
    np.testing.assert_array_equal(panel.get_xticks(), places)
    assert panel.get_xlim()[0] < places[0] < places[-1] < panel.get_xlim()[1]
    assert places[1] - places[0] > 10 * (places[-1] - places[-2]) / 45, "the first rating has more room than later ones"
    assert {"model 0.8068", "biases 0.8655", "network 0.8463"} <= set(written(panel))


def test_new_users_lines_are_told_apart_without_colour(hierarchical: Result) -> None:
    (panel,) = FIGURES["new_users"](hierarchical).axes
    lines = [line(panel, name) for name in ("model", "biases", "network")]
    assert len({drawn.get_marker() for drawn in lines}) == 3
    assert len({str(drawn._unscaled_dash_pattern) for drawn in lines}) == 3


def test_new_users_headline_says_what_ratings_are_worth_and_where_the_model_leads(hierarchical: Result) -> None:
    def finding(result: Result) -> str:
        return headline(FIGURES["new_users"](result))

    assert "50 own ratings lower a new user's RMSE from 0.9387 to 0.8068; the model leads throughout" in finding(
        hierarchical
    )
    first = hierarchical.new_users[0].model_copy(update={"network": 0.9})
    behind = hierarchical.model_copy(update={"new_users": [first, *hierarchical.new_users[1:]]})
    assert "the model leads with more than 0 own ratings" in finding(behind)
    last = finding(with_new_users(hierarchical, model=0.95, network=0.8))
    assert "50 own ratings do not lower a new user's RMSE from 0.9387 to 0.9500" in last
    assert "leads" not in last


def test_undefined_figures_of_new_users_are_gaps(hierarchical: Result) -> None:
    (panel,) = FIGURES["new_users"](with_new_users(hierarchical, network=float("nan"))).axes
    assert np.isnan(line(panel, "network").get_ydata()[-1])
    assert not [text for text in written(panel) if "network" in text]


@pytest.mark.parametrize(
    ("place", "title", "values"),
    [
        (0, "NDCG@10", {"Blend (recommends)": 0.4631, "Ease": 0.4603, "Expected ratings": 0.1294}),
        (1, "HR@10", {"Blend (recommends)": 0.8607, "Ease": 0.8507, "Expected ratings": 0.4129}),
        (2, "Recall@20", {"Blend (recommends)": 0.2483, "Ease": 0.2448, "Expected ratings": 0.0566}),
    ],
)
def test_ranking_panels_hold_every_ranker_beside_popularity(
    hierarchical: Result, place: int, title: str, values: dict[str, float]
) -> None:
    panel = FIGURES["ranking"](hierarchical).axes[place]
    assert panel.get_title(loc="left") == title
    names = [label.get_text() for label in panel.get_yticklabels()]
    assert names == ["Blend (recommends)", "Ease", "Popularity (baseline)", "Expected ratings"]
    marks, popular = line(panel, "models"), line(panel, "baseline")
    assert {names[int(row)]: x for x, row in zip(marks.get_xdata(), marks.get_ydata(), strict=True)} == values
    assert [names[int(row)] for row in popular.get_ydata()] == ["Popularity (baseline)"]
    assert set(line(panel, "popularity").get_xdata()) == set(popular.get_xdata())
    assert marks.get_marker() != popular.get_marker()
    assert panel.get_xlim()[0] == 0
    assert [text for text in written(panel) if text] == [f"{value:.3f}" for value in _by_rows(panel)]


def _by_rows(panel: Axes) -> list[float]:
    marks = [line(panel, "models"), line(panel, "baseline")]
    rows = {row: x for each in marks for x, row in zip(each.get_xdata(), each.get_ydata(), strict=True)}
    return [rows[row] for row in sorted(rows)]


def test_ranking_headline_compares_what_recommends_with_popularity(hierarchical: Result) -> None:
    finding = headline(FIGURES["ranking"](hierarchical))
    assert finding == "What is recommended beats popularity: NDCG@10 0.463 against 0.236"
    worse = hierarchical.model_copy(update={"ranking": {"ndcg@10": 0.1}})
    assert "does not beat popularity" in headline(FIGURES["ranking"](worse))


def test_each_user_alone_stands_beside_the_hierarchical_model(hierarchical: Result) -> None:
    figure = FIGURES["baselines"](hierarchical)
    upper, lower = figure.axes
    assert upper.get_title(loc="left") == "New users' held-out rows, none of their ratings known"
    names = [[label.get_text() for label in panel.get_yticklabels()] for panel in (upper, lower)]
    assert names[1][:3] == ["Federated, personal models", "Each user alone (local)", "User + item biases"]
    assert "Each user alone (local)" in names[0]
    assert not {"Each node alone", "All rows in one place"} & {*names[0], *names[1]}
    assert headline(figure) == (
        "After personalisation, RMSE is 0.0762 below user + item biases and 0.0292 below each user alone"
    )


def test_rows_of_the_same_users_are_drawn_once(warm_hierarchical: Result) -> None:
    (panel,) = FIGURES["baselines"](warm_hierarchical).axes
    names = [label.get_text() for label in panel.get_yticklabels()]
    assert names[0] == "Federated, personal models"
    assert len(names) == len(set(names)) == 7


def test_a_user_alone_is_no_federated_model(local: Result) -> None:
    figure = FIGURES["baselines"](local)
    lower = figure.axes[-1]
    names = [label.get_text() for label in lower.get_yticklabels()]
    own = line(lower, "federated")
    assert {names[int(row)] for row in own.get_ydata()} == {"Each user alone (local)", "Public votes alone"}
    assert not any("ederated" in text.get_text() for text in figure.texts)


def test_fifty_rounds_of_one_loss_each_are_rounds_and_no_epochs(hierarchical: Result) -> None:
    figure = FIGURES["training_loss"](hierarchical)
    (panel,) = figure.axes
    assert list(panel.lines[0].get_xdata()) == list(range(1, 51))
    assert panel.get_xlabel() == "Round"
    assert headline(figure).endswith("in 50 rounds")
    (panel,) = FIGURES["global_rmse"](hierarchical).axes
    assert list(line(panel, "global model").get_xdata()) == list(range(1, 51))


def test_figures_over_rounds_name_the_rows_that_they_are_judged_on(result: Result, hierarchical: Result) -> None:
    def subtitle(figure: Figure) -> str:
        return " ".join(text.get_text() for text in figure.texts)

    assert "federated users' test rows" in subtitle(FIGURES["global_rmse"](result))
    assert "new users' held-out rows" in subtitle(FIGURES["global_rmse"](hierarchical))
    assert "new users' held-out rows" in subtitle(seeds_rmse([hierarchical] * 2))

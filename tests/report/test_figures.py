"""The figures hold what the result holds, are legible in every size of federation, and are the same every time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import StepPatch
from matplotlib.text import Text

from hierfed.report.figures import FIGURES, all_figures
from hierfed.report.round_figures import seeds_rmse
from hierfed.results import NodeRecord, Result

MakeResult = Callable[..., Result]


def line(panel: Axes, label: str) -> Line2D:
    found = [artist for artist in panel.lines if artist.get_label() == label]
    assert len(found) == 1, f"{len(found)} lines called {label}"
    return found[0]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_visible() and text.get_text()]


def replace_nodes(result: Result, change: Callable[[int, NodeRecord], dict[str, Any]]) -> Result:
    nodes = [node.model_copy(update=change(index, node)) for index, node in enumerate(result.nodes)]
    return result.model_copy(update={"nodes": nodes})


def test_global_rmse_is_the_rmse_of_every_round(result: Result) -> None:
    (panel,) = FIGURES["global_rmse"](result).axes
    drawn = line(panel, "global model")
    assert list(drawn.get_xdata()) == list(range(1, 11))
    np.testing.assert_array_equal(drawn.get_ydata(), [record.global_rmse for record in result.rounds])


@pytest.mark.parametrize(("label", "value"), [("mean", 1.0543), ("biases", 0.9550)])
def test_baselines_are_level_lines_at_their_values(result: Result, label: str, value: float) -> None:
    (panel,) = FIGURES["global_rmse"](result).axes
    assert set(line(panel, label).get_ydata()) == {value}
    low, high = panel.get_ylim()
    assert low < value < high
    assert any(f"{value:.4f}" in text for text in texts(panel.figure))


def test_the_two_baselines_differ_in_more_than_colour(result: Result) -> None:
    (panel,) = FIGURES["global_rmse"](result).axes
    styles = {str(line(panel, label)._unscaled_dash_pattern) for label in ("global model", "mean", "biases")}
    assert len(styles) == 3


def test_training_loss_is_the_loss_of_every_epoch(result: Result) -> None:
    (panel,) = FIGURES["training_loss"](result).axes
    (drawn,) = panel.lines
    assert list(drawn.get_xdata()) == list(range(1, 41))
    expected = [loss for record in result.rounds for loss in record.train_loss]
    np.testing.assert_array_equal(drawn.get_ydata(), expected)
    low, high = panel.get_ylim()
    assert low <= min(expected)
    assert high >= max(expected)


def test_nodes_are_marked_before_and_after_and_triangles_where_harmed(result: Result) -> None:
    def harm(index: int, node: NodeRecord) -> dict[str, Any]:
        return {"gain": -0.01, "rmse_after": node.rmse_before + 0.01} if index in (2, 7) else {}

    result = replace_nodes(result, harm)
    (panel,) = FIGURES["node_rmse"](result).axes
    before = line(panel, "before")
    np.testing.assert_array_equal(before.get_xdata(), [node.rmse_before for node in result.nodes])
    assert list(before.get_ydata()) == list(range(8))
    worse, better = line(panel, "after, worse"), line(panel, "after")
    assert list(worse.get_ydata()) == [2, 7]
    np.testing.assert_array_equal(worse.get_xdata(), [result.nodes[row].rmse_after for row in (2, 7)])
    assert list(better.get_ydata()) == [0, 1, 3, 4, 5, 6]
    np.testing.assert_array_equal(better.get_xdata(), [result.nodes[row].rmse_after for row in (0, 1, 3, 4, 5, 6)])
    assert worse.get_marker() == "^"
    assert better.get_marker() == before.get_marker() == "o"
    assert before.get_markerfacecolor() == "white"
    assert sum("worse" in text.get_text() for text in panel.texts) == 2


def test_node_rows_are_named_from_the_top(result: Result) -> None:
    (panel,) = FIGURES["node_rmse"](result).axes
    assert [label.get_text() for label in panel.get_yticklabels()] == [node.node for node in result.nodes]
    low, high = panel.get_ylim()
    assert low > high


def test_each_node_s_gain_is_written_beside_its_row(result: Result) -> None:
    (panel,) = FIGURES["node_rmse"](result).axes
    written = {text.get_position()[1]: text.get_text() for text in panel.texts if text.get_text()[:1] in "+-"}
    assert written == {
        row: f"{node.gain:+.4f}" + (" worse" if node.gain < 0 else "") for row, node in enumerate(result.nodes)
    }


def test_weight_change_marks_are_the_norms(result: Result) -> None:
    (panel,) = FIGURES["weight_change"](result).axes
    (drawn,) = panel.lines
    np.testing.assert_array_equal(drawn.get_xdata(), [node.weight_change_l2 for node in result.nodes])
    assert list(drawn.get_ydata()) == list(range(8))
    assert panel.get_xlim()[0] == 0


@pytest.mark.parametrize(("name", "field"), [("node_rmse", "gain"), ("weight_change", "weight_change_l2")])
def test_many_nodes_are_ordered_from_the_largest_and_none_is_lost(
    make_result: MakeResult, name: str, field: str
) -> None:
    result = make_result(nodes=500)
    (panel,) = FIGURES[name](result).axes
    ordered = sorted(result.nodes, key=lambda node: -getattr(node, field))
    marks = panel.lines[0]
    drawn_field = "rmse_before" if name == "node_rmse" else field
    np.testing.assert_array_equal(marks.get_xdata(), [getattr(node, drawn_field) for node in ordered])
    assert "ordered" in panel.get_ylabel()
    labelled = [int(row) for row in panel.get_yticks()]
    assert [label.get_text() for label in panel.get_yticklabels()] == [ordered[row].node for row in labelled]


def test_baselines_figure_holds_every_model_of_both_row_sets_best_on_top(result: Result) -> None:
    upper, lower = FIGURES["baselines"](result).axes
    names = {
        "global_mean": "Predicting the mean",
        "item_mean": "Item means",
        "user_mean": "User means",
        "biases": "User + item biases",
        "local_only": "Each node alone",
        "centralised": "All rows in one place",
    }
    expected = [
        {name: getattr(result.baselines, key) for key, name in names.items()}
        | {"Federated, global model": result.final_rmse},
        {name: getattr(result.personal_baselines, key) for key, name in names.items()}
        | {
            "Federated, global model": result.users.rmse_before,
            "Federated, personal models": result.users.rmse_after,
        },
    ]
    for panel, values in zip((upper, lower), expected, strict=True):
        labels = [label.get_text() for label in panel.get_yticklabels()]
        assert labels == sorted(values, key=lambda name: values[name])
        drawn = {}
        for kind in ("baselines", "federated"):
            marks = line(panel, kind)
            drawn |= {labels[int(row)]: (x, kind) for x, row in zip(marks.get_xdata(), marks.get_ydata(), strict=True)}
        for name, value in values.items():
            assert drawn[name] == (value, "federated" if name.startswith("Federated") else "baselines")
        low, high = panel.get_ylim()
        assert low > high, "the first row is the best and must be on top"
    assert line(upper, "federated").get_marker() != line(upper, "baselines").get_marker()


def test_histogram_counts_sum_to_the_users_and_no_bin_mixes_better_and_worse(result: Result) -> None:
    (panel,) = FIGURES["user_gain"](result).axes
    worse, better = (patch for patch in panel.patches if isinstance(patch, StepPatch))
    gains = np.array(result.users.gains)
    assert worse.get_data().values.sum() == (gains < 0).sum()
    assert better.get_data().values.sum() == (gains >= 0).sum()
    assert worse.get_data().edges[-1] == better.get_data().edges[0] == 0
    assert worse.get_data().edges[0] <= gains.min()
    assert better.get_data().edges[-1] >= gains.max()
    for patch in (worse, better):
        data = patch.get_data()
        np.testing.assert_array_equal(data.values, np.histogram(gains, data.edges)[0])
    assert worse.get_hatch() and not better.get_hatch()
    assert to_rgba(worse.get_facecolor()) != to_rgba(better.get_facecolor())


@pytest.mark.parametrize("gains", [[], [0.0], [0.0] * 5, [0.1], [-0.1], [1e-12, -3.0], [float("nan"), 0.1]])
def test_histogram_of_few_or_odd_gains_counts_every_finite_one(result: Result, gains: list[float]) -> None:
    users = result.users.model_copy(update={"users": len(gains), "gains": gains})
    (panel,) = FIGURES["user_gain"](result.model_copy(update={"users": users})).axes
    counted = sum(patch.get_data().values.sum() for patch in panel.patches)
    assert counted == sum(math.isfinite(gain) for gain in gains)


def test_seeds_figure_has_the_seeds_range_and_their_mean(make_result: MakeResult) -> None:
    results = [make_result(seed=seed) for seed in range(3)]
    higher = [record.model_copy(update={"global_rmse": record.global_rmse + 0.3}) for record in results[1].rounds]
    results[1] = results[1].model_copy(update={"rounds": higher})
    (panel,) = seeds_rmse(results).axes
    errors = np.array([[record.global_rmse for record in result.rounds] for result in results])
    np.testing.assert_allclose(line(panel, "global model").get_ydata(), errors.mean(axis=0))
    paths = [each.get_path() for each in panel.lines]
    paths += [path for band in panel.collections for path in band.get_paths()]
    corners = {(float(x), float(y)) for path in paths for x, y in path.vertices}
    for number, (low, high) in enumerate(zip(errors.min(axis=0), errors.max(axis=0), strict=True), start=1):
        assert {(number, low), (number, high)} <= corners
    np.testing.assert_allclose(line(panel, "mean").get_ydata(), 1.0543)


@pytest.mark.parametrize(
    ("name", "across", "upwards"),
    [
        ("global_rmse", "Round", "RMSE (stars)"),
        ("training_loss", "Local epoch", "stars²"),
        ("node_rmse", "(stars)", "Node"),
        ("weight_change", "(no unit)", "Node"),
        ("user_gain", "(stars)", "Users"),
    ],
)
def test_axes_say_what_they_measure_and_in_what_unit(result: Result, name: str, across: str, upwards: str) -> None:
    (panel,) = FIGURES[name](result).axes
    assert across in panel.get_xlabel()
    assert upwards in panel.get_ylabel()


def test_the_axis_of_the_baselines_is_in_stars(result: Result) -> None:
    assert "RMSE (stars)" in FIGURES["baselines"](result).axes[-1].get_xlabel()


@pytest.mark.parametrize(
    ("name", "finding"),
    [
        ("global_rmse", "does not beat predicting the mean after 10 rounds"),
        ("node_rmse", "helped 7 of 8 nodes and harmed 1"),
        ("baselines", "0.0791 above user + item biases"),
    ],
)
def test_headlines_say_the_finding(result: Result, name: str, finding: str) -> None:
    assert finding in FIGURES[name](result).get_suptitle().replace("\n", " ")


def test_headlines_hold_the_numbers_of_the_result(result: Result) -> None:
    losses = [loss for record in result.rounds for loss in record.train_loss]
    norms = [node.weight_change_l2 for node in result.nodes]
    loss, weight, user = (
        FIGURES[name](result).get_suptitle() for name in ("training_loss", "weight_change", "user_gain")
    )
    assert f"fell: {losses[0]:.2f} to {losses[-1]:.2f} in 40 epochs" in loss
    assert f"{min(norms):.2f} to {max(norms):.2f}" in weight
    worse = sum(gain < 0 for gain in result.users.gains) / len(result.users.gains)
    assert f"{worse:.0%} of 202 users" in user


@pytest.mark.parametrize(
    ("mean", "biases", "finding"),
    [(True, False, "beats the mean, but not the biases"), (True, True, "beats user and item biases")],
)
def test_the_headline_follows_the_verdict(result: Result, mean: bool, biases: bool, finding: str) -> None:
    verdict = result.verdict.model_copy(update={"beats_global_mean": mean, "beats_biases": biases})
    assert finding in FIGURES["global_rmse"](result.model_copy(update={"verdict": verdict})).get_suptitle()


def test_no_harm_is_not_called_harm(result: Result) -> None:
    result = replace_nodes(result, lambda index, node: {"gain": abs(node.gain)})
    headline = FIGURES["node_rmse"](result).get_suptitle()
    assert "helped 8 of 8 nodes" in headline
    assert "harmed" not in headline


def one_nan_node(result: Result) -> Result:
    return replace_nodes(
        result,
        lambda index, node: (
            {"rmse_before": float("nan"), "rmse_after": float("nan"), "gain": float("nan")} if index == 3 else {}
        ),
    )


def test_a_node_without_value_is_left_blank_and_counted(result: Result) -> None:
    figure = FIGURES["node_rmse"](one_nan_node(result))
    (panel,) = figure.axes
    before = line(panel, "before").get_xdata()
    assert np.isnan(before[3])
    assert np.isfinite(np.delete(before, 3)).all()
    assert any("1 node without a value" in text for text in texts(figure))
    assert "of 7 nodes" in figure.get_suptitle()


def test_drawing_leaves_matplotlib_s_own_settings_alone(result: Result) -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    all_figures(result)
    assert dict(mpl.rcParams) == before

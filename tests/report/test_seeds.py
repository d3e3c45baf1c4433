"""Several seeds: their figures have the names of the method and of its rows, and what is undefined is left out."""

from __future__ import annotations

from collections.abc import Mapping

from hierfed.report import seeds
from hierfed.results import Baselines, PairedDifference, Result, Spread, Summary


def summary_of(result: Result) -> Summary:
    """What several seeds of this very result would be summarised to."""
    figures = {
        "global_rmse": result.final_rmse,
        "rmse_before": result.users.rmse_before,
        "rmse_after": result.users.rmse_after,
        "gain_per_node": result.verdict.gain_mean,
        "gain_on_tuned_rows": result.nodes[0].train_gain,
        "weight_change_largest": result.nodes[0].weight_change_l2,
    }
    for key in Baselines.model_fields:
        figures[f"baseline_{key}"] = getattr(result.baselines, key)
        figures[f"personal_baseline_{key}"] = getattr(result.personal_baselines, key)
    pairs = [("global_rmse", f"baseline_{key}") for key in Baselines.model_fields]
    pairs += [("rmse_after", f"personal_baseline_{key}") for key in Baselines.model_fields]
    return Summary(
        name="x",
        preset="x",
        words=result.words,
        protocol=result.data.protocol,
        seeds=[0, 1],
        figures={key: Spread(mean=value, sd=0.0, min=value, max=value) for key, value in figures.items()},
        differences=[difference(*pair, figures) for pair in pairs],
    )


def difference(first: str, second: str, figures: Mapping[str, float]) -> PairedDifference:
    return PairedDifference(first=first, second=second, mean=figures[first] - figures[second], sd=0.0, p_value=None)


def test_networks_have_two_sets_of_rows_and_each_node_alone(result: Result) -> None:
    rows = {label: values for label, *values in seeds.figure_rows(summary_of(result))}
    assert rows["Global model, test rows"][0] == f"{result.final_rmse:.4f}"
    assert rows["Global model, held-out rows"][0] == "1.0521"
    assert rows["Each node alone, test rows"][0] == "1.0902"
    assert rows["Each node alone, held-out rows"][0] == "1.0750"
    assert rows["All rows in one place, test rows"][0] == "1.0601"
    assert "First layer's change, largest" in rows
    assert len(rows) == 6 + 12


def test_the_hierarchical_model_has_each_user_alone_with_and_without_own_ratings(hierarchical: Result) -> None:
    rows = {label: values for label, *values in seeds.figure_rows(summary_of(hierarchical))}
    assert rows["Personal models, with own ratings"][0] == "0.7823"
    assert rows["Each user alone (local), no own ratings"][0] == "0.9813"
    assert rows["Each user alone (local), with own ratings"][0] == "0.8115"
    assert [label for label in rows if label.startswith("Global model")] == ["Global model, no own ratings"]
    assert not [label for label in rows if "one place" in label or "layer" in label or "tuned" in label]
    assert "n/a" not in [cell for values in rows.values() for cell in values]


def test_rows_of_the_same_users_are_listed_once(warm_hierarchical: Result) -> None:
    labels = [label for label, *_ in seeds.figure_rows(summary_of(warm_hierarchical))]
    assert len(labels) == len(set(labels))
    assert "Each user alone (local), test rows" in labels
    assert not [label for label in labels if "own ratings" in label or "held-out" in label]


def test_a_method_that_sends_nothing_has_no_global_model(local: Result) -> None:
    labels = [label for label, *_ in seeds.figure_rows(summary_of(local))]
    assert {"Public votes alone, no own ratings", "Each user alone (local), with own ratings"} <= set(labels)
    assert not [label for label in labels if "lobal model" in label or "Each node" in label]


def test_differences_to_what_is_undefined_are_left_out(hierarchical: Result) -> None:
    rows = seeds.difference_rows(summary_of(hierarchical))
    assert len(rows) == 2 * 5
    label = "Personal models, with own ratings - Each user alone (local), with own ratings"
    assert (label, "-0.0292", "0.0000", "n/a", "n/a") in rows
    assert not [row for row in rows if "one place" in row[0]]


def test_figures_that_a_later_version_adds_keep_their_key(summary: Summary) -> None:
    added = summary.model_copy(update={"figures": {"new_one": Spread(mean=1.0, sd=0.0, min=1.0, max=1.0)}})
    assert seeds.figure_rows(added) == [("new_one", "1.0000", "0.0000", "1.0000", "1.0000")]

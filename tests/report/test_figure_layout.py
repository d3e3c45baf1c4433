"""The figures are legible in every size of federation and for every method: no text leaves the canvas or touches."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text

from hierfed.report.figures import FIGURES, all_figures, save_figures
from hierfed.report.round_figures import seeds_rmse
from hierfed.results import NodeRecord, Result, UserSummary
from tests.report.test_figures import one_nan_node, replace_nodes

MakeResult = Callable[..., Result]
PAPER_FIGURES = ("global_rmse", "training_loss", "node_rmse", "weight_change", "baselines", "user_gain")
ODD_NAMES = [
    "$x$",
    "$x_{",
    "<b>bold</b>",
    "two\nlines",
    "tab\there",
    "x" * 300,
    "",
    "&amp;",
    "Zürich",
    "\\frac",
    "%s",
    "\0",
]


def assert_inside(figure: Figure, drawn: list[Text]) -> None:
    width, height = figure.bbox.width, figure.bbox.height
    assert drawn
    for text in drawn:
        box = text.get_window_extent()
        inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
        assert inside, f"{text.get_text()!r} at {box.extents} leaves the canvas {width} x {height}"


def all_nan(result: Result) -> Result:
    nothing = float("nan")

    def empty(record: Any) -> Any:
        undefined = {key: nothing for key, value in record if isinstance(value, float)}
        return record.model_copy(update=undefined)

    users = UserSummary(**{**empty(result.users).model_dump(), "users": 0, "gains": []})
    return result.model_copy(
        update={
            "rounds": [
                empty(record).model_copy(update={"train_loss": [nothing] * len(record.train_loss)})
                for record in result.rounds
            ],
            "nodes": [empty(node) for node in result.nodes],
            "users": users,
            "baselines": empty(result.baselines),
            "personal_baselines": empty(result.personal_baselines),
        }
    )


def diverged(result: Result) -> Result:
    """Ever larger errors, up to infinity."""
    rounds = [
        record.model_copy(
            update={"global_rmse": 10.0 ** (4 * index), "train_loss": [10.0 ** (4 * index)] * 3 + [float("inf")]}
        )
        for index, record in enumerate(result.rounds)
    ]

    def explode(index: int, node: NodeRecord) -> dict[str, Any]:
        return {"rmse_after": float("inf") if index == 1 else 1e30, "gain": -1e30, "weight_change_l2": 1e30}

    return replace_nodes(result.model_copy(update={"rounds": rounds}), explode)


def oddly_named(result: Result) -> Result:
    return replace_nodes(result, lambda index, node: {"node": ODD_NAMES[index % len(ODD_NAMES)]})


def alike(result: Result) -> Result:
    """No node differs from another, and nothing was gained."""
    return replace_nodes(
        result, lambda _, node: {"rmse_before": 1.0, "rmse_after": 1.0, "gain": 0.0, "weight_change_l2": 0.0}
    )


VARIANTS: dict[str, tuple[dict[str, Any], Callable[[Result], Result]]] = {
    "1 node, 1 round": ({"nodes": 1, "rounds": 1, "users": 1}, lambda result: result),
    "65 nodes": ({"nodes": 65}, lambda result: result),
    "500 nodes, 200 rounds": ({"nodes": 500, "rounds": 200, "users": 5000}, lambda result: result),
    "8 nodes": ({}, lambda result: result),
    "nothing measured": ({}, all_nan),
    "a node without held-out rows": ({}, one_nan_node),
    "diverged": ({}, diverged),
    "odd names": ({"nodes": 12}, oddly_named),
    "64 odd names": ({"nodes": 64}, oddly_named),
    "all alike": ({}, alike),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_text_lies_inside_the_canvas(
    make_result: MakeResult, drawn_texts: Callable[[Figure], list[Text]], variant: str
) -> None:
    sizes, change = VARIANTS[variant]
    result = change(make_result(**sizes))
    for name, figure in all_figures(result).items():
        drawn = drawn_texts(figure)
        assert figure.get_suptitle() in [text.get_text() for text in drawn], name
        assert_inside(figure, drawn)


@pytest.mark.parametrize("method", ["hierarchical", "local", "warm_hierarchical"])
def test_every_text_of_every_method_lies_inside_the_canvas(
    request: pytest.FixtureRequest, drawn_texts: Callable[[Figure], list[Text]], method: str
) -> None:
    result: Result = request.getfixturevalue(method)
    for figure in all_figures(result).values():
        assert_inside(figure, drawn_texts(figure))


@pytest.mark.parametrize("nodes", [8, 64, 500])
@pytest.mark.parametrize("name", ["node_rmse", "weight_change"])
def test_row_labels_do_not_run_into_each_other(
    make_result: MakeResult, drawn_texts: Callable[[Figure], list[Text]], name: str, nodes: int
) -> None:
    figure = FIGURES[name](make_result(nodes=nodes))
    drawn_texts(figure)
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert 8 <= len(boxes) <= 64
    for above, below in pairwise(boxes):
        # Digits reach neither the top nor the foot of their box: a tenth may overlap.
        assert below.y1 - above.y0 <= 0.1 * above.height


def test_seeds_figure_lies_inside_the_canvas(
    make_result: MakeResult, drawn_texts: Callable[[Figure], list[Text]]
) -> None:
    for results in ([make_result(rounds=1)], [make_result(seed=seed) for seed in range(3)]):
        figure = seeds_rmse(results)
        assert_inside(figure, drawn_texts(figure))


def test_svg_of_odd_names_is_valid_xml(make_result: MakeResult, tmp_path: Path) -> None:
    for path in save_figures(oddly_named(make_result(nodes=12)), tmp_path):
        if path.suffix == ".svg":
            ElementTree.fromstring(path.read_bytes())


def test_saving_twice_gives_the_same_bytes_and_every_figure_as_png_and_svg(result: Result, tmp_path: Path) -> None:
    first, second = (save_figures(result, tmp_path / name) for name in ("first", "second"))
    assert {path.name for path in first} == {f"{name}.{end}" for name in PAPER_FIGURES for end in ("png", "svg")}
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name
    for path in first:
        if path.suffix == ".svg":
            root = ElementTree.fromstring(path.read_bytes())
            assert root.tag == "{http://www.w3.org/2000/svg}svg"
            assert len(list(root.iter("{http://www.w3.org/2000/svg}path"))) > 10
        else:
            pixels = imread(path)[..., :3]
            ink = (pixels < 0.9).any(axis=-1)
            assert 0.005 < ink.mean() < 0.5, f"{path.name}: {ink.mean():.1%} ink"
            border = np.concatenate([ink[0], ink[-1], ink[:, 0], ink[:, -1]])
            assert not border.any(), f"{path.name}: something touches the border"


def test_odd_names_are_written_as_they_are(make_result: MakeResult) -> None:
    result = replace_nodes(make_result(nodes=4), lambda index, node: {"node": ODD_NAMES[index]})
    (panel,) = FIGURES["node_rmse"](result).axes
    labels = panel.get_yticklabels()
    assert [label.get_text() for label in labels] == ["$x$", "$x_{", "<b>bold</b>", "two lines"]
    assert not any(label.get_parse_math() for label in labels)

"""The page of a run holds everything, opens without a network, and shows names as text."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from hierfed.report.contents import threshold_sentence
from hierfed.report.figures import save_figures
from hierfed.report.page import write_page, write_summary_page
from hierfed.results import Result, Summary

MakeResult = Callable[..., Result]
EVIL = "<script>alert('x')</script>\"><img src=http://evil.example/x.png onerror=alert(1)>"
LOADING = ("src", "href", "srcset", "poster", "action", "data", "xlink:href")
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """A parsed page: every tag with its attributes, and the text between them; asserts that tags are balanced."""

    def __init__(self, path: Path):
        super().__init__(convert_charrefs=True)
        self.source = path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.feed(self.source)
        self.close()
        assert not self.open, f"never closed: {self.open}"
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words.append(data)
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def row(self, *first: str) -> list[str]:
        """The only row of any table that begins with these cells."""
        (found,) = [row for row in self.rows if row[: len(first)] == list(first)]
        return found

    def addresses(self) -> list[str]:
        return [value or "" for _, attributes in self.tags for key, value in attributes.items() if key in LOADING]


def page_of(result: Result, folder: Path) -> Page:
    save_figures(result, folder / "figures")
    return Page(write_page(result, folder))


def quick_page(result: Result, folder: Path) -> Page:
    return Page(write_page(result, folder))


@pytest.fixture(scope="module")
def drawn(make_result: MakeResult, tmp_path_factory: pytest.TempPathFactory) -> tuple[Page, Path]:
    """The page of a result with its figures, and its folder."""
    folder = tmp_path_factory.mktemp("drawn")
    return page_of(make_result(), folder), folder


def assert_self_contained(page: Page) -> None:
    for address in page.addresses():
        assert address.startswith("data:") or re.fullmatch(r"[\w.-]+/report\.html", address), address[:80]
    style = page.source.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    assert not page.all("script")
    assert not page.all("link")
    assert not [key for _, attributes in page.tags for key in attributes if key.startswith("on")]


def test_the_page_holds_everything_itself(drawn: tuple[Page, Path]) -> None:
    page, _ = drawn
    assert_self_contained(page)
    for image in page.all("img"):
        kind, _, data = (image["src"] or "").partition(",")
        assert kind == "data:image/svg+xml;base64"
        root = ElementTree.fromstring(base64.b64decode(data, validate=True))
        assert root.tag.endswith("svg")
        outside = [value for element in root.iter() for key, value in element.attrib.items() if key.endswith("href")]
        assert all(value.startswith("#") for value in outside)


def test_every_figure_is_there_once_in_order_with_alt_text(drawn: tuple[Page, Path]) -> None:
    page, folder = drawn
    names = ["global_rmse", "training_loss", "node_rmse", "weight_change", "baselines", "user_gain"]
    images = page.all("img")
    shown = [base64.b64decode((image["src"] or "").partition(",")[2]) for image in images]
    assert shown == [(folder / "figures" / f"{name}.svg").read_bytes() for name in names]
    alternatives = [image["alt"] or "" for image in images]
    assert all(len(text) > 15 for text in alternatives)
    assert len(set(alternatives)) == len(names)
    assert "does not beat predicting the mean" in alternatives[0]
    assert len(page.all("figcaption")) == len(names)


@pytest.mark.parametrize("where", ["preset", "name", "node", "source", "dropped", "feature", "settings", "warning"])
def test_names_are_shown_as_text_and_never_run(result: Result, folder_with_figures: Path, where: str) -> None:
    data = result.data
    changes = {
        "preset": {"preset": EVIL},
        "name": {"name": EVIL},
        "node": {"nodes": [result.nodes[0].model_copy(update={"node": EVIL}), *result.nodes[1:]]},
        "source": {"data": data.model_copy(update={"source": EVIL})},
        "dropped": {"data": data.model_copy(update={"dropped": {EVIL: 3}})},
        "feature": {"data": data.model_copy(update={"missing_features": [EVIL]})},
        "settings": {"settings": {EVIL: {EVIL: EVIL}, "description": EVIL}},
        "warning": {"data": data.model_copy(update={"join": data.join.model_copy(update={"warning": EVIL})})},
    }
    page = quick_page(result.model_copy(update=changes[where]), folder_with_figures)
    assert EVIL in page.text
    assert_self_contained(page)
    assert len(page.all("img")) == 6


def test_the_page_shows_the_verdict_the_warning_and_what_was_dropped(result: Result, folder_with_figures: Path) -> None:
    text = quick_page(result, folder_with_figures).text
    for sentence in result.verdict.words:
        assert sentence in text
    assert "Warning. This join compares ids of two different catalogues" in text
    for number, reason in ("55,010", "no metadata under this id"), ("5", "doubled by a repeated metadata id"):
        beside = rf"{reason}\W+{number}\b|\b{number}\b[^,;]*{reason}"
        assert re.search(beside, text), reason
    assert "44,989" in text
    assert "100,004" in text
    assert "lack: vote_count, revenue." in text
    assert result.digest in text


def test_the_page_says_what_is_hidden_and_lists_what_was_released(private: Result, folder_with_figures: Path) -> None:
    page = quick_page(private, folder_with_figures)
    assert "hides each node with all its users by differential privacy: epsilon 8.00 spent of 8" in page.text
    assert "Warning. the noise is long." in page.text
    assert page.row("every round") == ["every round", "10", "100.00%", "1.5", "2.0165"]
    assert len(page.all("img")) == 5, "there are no losses to draw"


@pytest.mark.parametrize("secure", [False, True])
def test_a_page_tells_of_secure_sums_where_there_were_any(
    secure: bool, result: Result, folder_with_figures: Path
) -> None:
    settings = {**result.settings, "privacy": {"secure_sums": secure}}
    page = quick_page(result.model_copy(update={"settings": settings}), folder_with_figures)
    assert ("no node's contribution" in page.text) == secure


def test_a_page_without_differential_privacy_says_nothing_of_it(result: Result, folder_with_figures: Path) -> None:
    assert "Privacy" not in quick_page(result, folder_with_figures).text


def test_a_page_of_a_run_that_ended_early_says_so_and_how_to_get_it_again(
    result: Result, folder_with_figures: Path
) -> None:
    assert "Ended early" not in Page(write_page(result, folder_with_figures)).text
    early = result.model_copy(update={"ended_early": True, "settings": {"training": {"rounds": 25}}})
    text = Page(write_page(early, folder_with_figures)).text
    assert "Ended early. Training was stopped after round 10 of 25" in text
    assert "hierfed run settings.toml --set rounds=10" in text


def test_without_a_warning_there_is_none(result: Result, folder_with_figures: Path) -> None:
    join = result.data.join.model_copy(update={"warning": ""})
    data = result.data.model_copy(update={"join": join, "missing_features": []})
    text = quick_page(result.model_copy(update={"data": data}), folder_with_figures).text
    assert "Warning" not in text
    assert "lack:" not in text


def test_the_page_shows_every_figure_of_every_node_and_round(result: Result, folder_with_figures: Path) -> None:
    page = quick_page(result, folder_with_figures)
    for node in result.nodes:
        gain = f"{node.gain:+.4f}" + (" worse" if node.gain < 0 else "")
        counts = [f"{node.users}", f"{node.train_rows:,}", f"{node.test_rows:,}"]
        row = page.row(node.node, *counts)
        assert row[4:7] == [f"{node.rmse_before:.4f}", f"{node.rmse_after:.4f}", gain]
        assert f"{node.train_gain:+.4f}" in row[7:]
    assert any(node.gain < 0 for node in result.nodes)
    for record in result.rounds:
        expected = [f"{record.train_loss[-1]:.4f}", f"{record.global_rmse:.4f}", f"{record.global_mae:.4f}"]
        assert page.row(str(record.round), expected[0])[1:4] == expected


def test_baselines_stand_beside_the_models(result: Result, folder_with_figures: Path) -> None:
    page = quick_page(result, folder_with_figures)
    assert page.row("Federated, global model")[1:] == [f"{result.final_rmse:.4f}", "1.0521"]
    assert page.row("Federated, personal models")[-1] == "1.0257"
    assert page.row("Predicting the mean")[1:] == ["1.0543", "1.0488"]
    assert page.row("Item means")[1:] == ["1.0140", "1.0102"]
    assert page.row("User means")[1:] == ["0.9940", "0.9871"]
    assert page.row("User + item biases")[1:] == ["0.9550", "0.9466"]
    assert page.row("Each node alone")[1:] == ["1.0902", "1.0750"]
    assert page.row("All rows in one place")[1:] == ["1.0601", "1.0533"]


def test_undefined_numbers_are_written_as_such(result: Result, folder_with_figures: Path) -> None:
    nothing = float("nan")
    nodes = [result.nodes[0].model_copy(update={"rmse_before": nothing, "gain": nothing}), *result.nodes[1:]]
    text = quick_page(result.model_copy(update={"nodes": nodes}), folder_with_figures).text
    assert "n/a" in text
    assert not re.search(r"\bnan\b", text, re.IGNORECASE)


def test_the_summary_page_links_every_seed_by_relative_address(
    make_result: MakeResult, summary: Summary, tmp_path: Path
) -> None:
    results = [make_result(seed=seed, name=f"seed-{seed}") for seed in summary.seeds]
    page = Page(write_summary_page(summary, results, tmp_path))
    assert_self_contained(page)
    assert [link["href"] for link in page.all("a")] == [f"seed-{seed}/report.html" for seed in (0, 1, 2)]
    (image,) = page.all("img")
    assert image["alt"]
    assert "Warning." in page.text
    for sentence in summary.verdict:
        assert sentence in page.text
    assert page.row("Global model, test rows", "1.0654")[2:] == ["0.0091", "1.0554", "1.0754"]
    (pair,) = [row for row in page.rows if row[-4:] == ["+0.0264", "0.0140", "< 0.001", "0.001"]]
    names = " ".join(pair[:-4])
    assert names.index("Global model, held-out rows") < names.index("Personal models, held-out rows")


def test_the_summary_page_shows_names_as_text(make_result: MakeResult, summary: Summary, tmp_path: Path) -> None:
    named = summary.model_copy(update={"preset": EVIL, "name": EVIL, "verdict": [EVIL]})
    page = Page(write_summary_page(named, [make_result(seed=seed) for seed in summary.seeds], tmp_path))
    assert EVIL in page.text
    assert_self_contained(page)
    assert len(page.all("img")) == 1


def test_the_hierarchical_page_has_its_sections_and_their_numbers(hierarchical: Result, tmp_path: Path) -> None:
    page = page_of(hierarchical, tmp_path)
    assert_self_contained(page)
    assert len(page.all("img")) == 7
    for record in hierarchical.new_users:
        expected = [f"{value:.4f}" for value in (record.model, record.biases, record.network)]
        assert page.row(str(record.ratings), expected[0])[1:] == expected
    assert page.row("Popularity (baseline)")[1:] == ["0.236", "0.706", "0.108"]
    assert page.row("Blend (recommends)")[1:] == ["0.463", "0.861", "0.248"]
    assert "90% intervals hold 92.2% of the held-out ratings; mean width 2.66 stars." in page.text
    rare = "1,214 of 2,830 items have fewer than 5 raters and are never summed by themselves"
    assert f"{rare}: RMSE 0.8209 on their 1,439 held-out rows, 0.7748 on the others." in page.text
    assert page.row("factor on the kernel's amplitudes", "0.5")[2:] == ["0.8512", "chosen"]
    assert page.row("factor on the kernel's amplitudes", "1")[2:] == ["0.8576", ""]
    assert "standard deviations x 1.015" in page.text
    for heading in ("New users", "Recommendation lists", "Intervals and rare items", "Choices made on validation rows"):
        assert heading in page.text


def test_sections_without_content_are_left_out(result: Result, local: Result, folder_with_figures: Path) -> None:
    absent = ("New users ", "Recommendation lists", "rare items", "Choices made", "Rare items")
    for each in (result, local):
        text = quick_page(each, folder_with_figures).text
        assert not [heading for heading in absent if heading in text.replace("New users' held-out", "")]
    assert "Intervals" not in quick_page(result, folder_with_figures).text
    page = quick_page(local, folder_with_figures)
    assert "Intervals" in page.text
    assert "Training loss" not in page.text
    assert len(page.all("img")) == 3


def test_columns_without_any_value_are_left_out(
    result: Result, hierarchical: Result, folder_with_figures: Path
) -> None:
    for each, present in ((result, True), (hierarchical, False)):
        page = quick_page(each, folder_with_figures)
        (heading,) = [row for row in page.rows if row[0] == "Node"]
        assert ("Gain on tuned rows" in heading) is present
        assert ("First layer's change" in heading) is present
        assert len(page.row(each.nodes[0].node, "25")) == len(heading)
        assert ("All rows in one place" in page.text) is present
        assert "n/a" not in page.text


def test_each_user_alone_stands_beside_the_hierarchical_model(hierarchical: Result, folder_with_figures: Path) -> None:
    page = quick_page(hierarchical, folder_with_figures)
    assert page.row("Each user alone (local)")[1:] == ["0.9813", "0.8115"]
    assert page.row("Federated, personal models")[1:] == ["", "0.7823"]
    assert "Each node alone" not in page.text


def test_rows_of_the_same_users_have_one_column(warm_hierarchical: Result, folder_with_figures: Path) -> None:
    page = quick_page(warm_hierarchical, folder_with_figures)
    assert page.row("Model") == ["Model", "Test rows"]
    assert page.row("Federated, personal models")[1:] == ["0.7823"]
    assert page.row("Each user alone (local)")[1:] == ["0.8115"]
    assert "Train and personal train are the same rows" in page.text


def test_the_summary_page_of_a_method_without_rounds_has_no_figure_of_rounds(
    local: Result, summary: Summary, tmp_path: Path
) -> None:
    page = Page(write_summary_page(summary, [local], tmp_path))
    assert not page.all("img")
    assert "RMSE over rounds" not in page.text
    assert "nothing was sent" in page.text
    assert f"RMSE: public votes alone {local.final_rmse:.4f}, each user alone (local) 0.7823" in page.text


def test_the_price_of_the_threshold_is_told_where_many_rows_pay_it(hierarchical: Result) -> None:
    assert hierarchical.threshold is not None
    biases = hierarchical.personal_baselines
    costly = hierarchical.model_copy(
        update={
            "threshold": hierarchical.threshold.model_copy(update={"share": 0.2}),
            "personal_baselines": biases.model_copy(update={"biases": 0.9, "pooled_biases": 0.9123}),
        }
    )
    told = threshold_sentence(costly)
    assert "The threshold costs user + item biases 0.0123 (0.9123 with it)." in told
    assert "at 1 the sum of an item with one rater is that user's own" in told
    cheap = costly.model_copy(update={"threshold": hierarchical.threshold.model_copy(update={"share": 0.05})})
    assert "costs" not in threshold_sentence(cheap)

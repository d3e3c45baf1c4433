"""Tables for the terminal, legible at 80 columns; nothing is printed here."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hierfed.data.description import describe
from hierfed.data.ratings import Dataset
from hierfed.evaluation.metrics import METRICS
from hierfed.exports import Tabular
from hierfed.plain_text import plural
from hierfed.report import contents, federation, seeds, tables, words
from hierfed.results import FederationRecord, NodeRecord, PairedDifference, Result, Summary
from hierfed.serving.answers import Answer, Recommendation

MOST_NODES = 20
ORDERED_BY_SCORE = "Ordered by score, how well an item suits the user next to all others; not by expected rating."


def result_tables(result: Result) -> Group:
    """One run: nodes, models beside baselines, what else was found and chosen, the data, and the verdict in words."""
    from hierfed.report.figures import figures_of  # noqa: PLC0415 - matplotlib, which commands without figures do not need

    parts: list[RenderableType] = []
    if result.federation is not None:
        parts += _federation(result.federation)
    if words.any_measured(result.nodes, "gain"):
        parts.append(_node_table(result))
    if contents.has_models(result):
        parts.append(_model_table(result))
    parts += [_shown(figure.table(result)) for figure in figures_of(result).values() if figure.table]
    parts.append(_shown(contents.metric_table(result)))
    chosen = contents.selection_sentence(result.selection) if result.selection else ""
    lists = contents.lists_sentence(result)
    found = (contents.interval_sentence(result), contents.threshold_sentence(result), chosen, lists)
    parts += [Text(sentence) for sentence in (*found, *_data_sentences(result)) if sentence]
    for warning in filter(None, [result.data.join.warning, *result.data.warnings]):
        parts.append(Text(f"Warning: {words.sentence(warning)}", style="bold"))
    if result.data.missing_features:
        parts.append(Text(f"Features of items that these data lack: {', '.join(result.data.missing_features)}."))
    if contents.secure_sums_sentence(result):
        parts.append(Text(contents.secure_sums_sentence(result)))
    if result.privacy is not None:
        parts.append(Text(contents.privacy_sentence(result)))
        if result.privacy.warning:
            parts.append(Text(f"Warning: {words.sentence(result.privacy.warning)}", style="bold"))
    if result.ended_early:
        parts.append(Text(contents.early_sentence(result), style="bold"))
    return Group(*parts, sentences(result.verdict.words))


def _data_sentences(result: Result) -> list[str]:
    data, join = result.data, result.data.join
    if result.federation is not None:
        return [contents.data_sentence(result)]
    dropped = sum(data.dropped.values())
    rows = f"{words.count(data.rows_in)} in = {words.count(data.ratings)} used + {words.count(dropped)} dropped"
    before = f"{words.count(join.kept_before_deduplication)} before repeated metadata ids were taken out"
    joined = f"Join {join.name}: {words.count(join.kept)} ratings with metadata, {before}."
    return [f"Rows of {data.source}: {rows}.", joined if join.name != "none" else ""]


def _federation(record: FederationRecord) -> list[RenderableType]:
    refused = federation.refused_table(record)
    parts: list[RenderableType] = [Text(federation.summary(record)), _shown(federation.node_table(record))]
    if refused.rows:
        parts.append(_shown(replace(refused, rows=refused.rows[:MOST_NODES])))
    if len(refused.rows) > MOST_NODES:
        parts.append(Text(f"The other {words.count(len(refused.rows) - MOST_NODES)} are on the page."))
    return parts


def summary_table(summary: Summary) -> Group:
    """Several seeds of a preset: each figure's mean, deviation and range, and the verdict in words."""
    table = _table(f"{summary.preset}, {plural(len(summary.seeds), 'seed')}", "", "mean", "sd", "min", "max")
    for row in seeds.figure_rows(summary):
        table.add_row(*map(Text, row))
    return Group(table, sentences(summary.verdict))


def comparison_table(summaries: Mapping[str, Summary], differences: Sequence[PairedDifference]) -> Group:
    """Presets side by side on the same seeds: their figures, and the paired differences."""
    number = max(len(summary.seeds) for summary in summaries.values())
    columns = {key: metric.column for key, metric in METRICS.items() if metric.column}
    table = _table(f"{plural(number, 'seed')}, mean ± sd", "preset", *columns.values())
    for label, summary in summaries.items():
        figures = (summary.figures.get(key) for key in columns)
        table.add_row(Text(label), *(words.spread(each) if each else words.MISSING for each in figures))
    pairs = _table("Paired differences in RMSE on the same seeds", "first - second", "mean ± sd", "p", "p by Holm")
    labels = seeds.figure_labels(next(iter(summaries.values())))
    for difference in differences:
        change = f"{words.signed(difference.mean)} ± {words.stars(difference.sd)}"
        pairs.add_row(Text(seeds.pair_label(difference, labels)), change, *seeds.p_values(difference))
    caution = seeds.caution(number)
    return Group(table, pairs, *([Text(caution)] if caution else []))


def rows_table(found: Tabular) -> Table:
    """A finding that is a table, as its rows are."""
    rows = found.rows()
    table = _table(found.heading(), *list(rows[0]))
    for row in rows:
        table.add_row(*(Text(each if isinstance(each, str) else _number(each)) for each in row.values()))
    return table


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else words.stars(value)


def dataset_table(dataset: Dataset) -> Table:
    """The contents of a source, a line each."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in describe(dataset):
        table.add_row(label, Text(text))
    return table


def recommendations_table(answer: Answer) -> Group:
    """A user's recommendations in their order, and under each the own ratings that moved it most."""
    scored = answer.ordered_by == "score"
    sure = answer.rated and all(item.lowest is not None for item in answer.items)
    headings = ["score"] if scored else []
    headings += ["rating"] if answer.rated else []
    headings += ["90% interval"] if sure else []
    table = _table(f"For user {answer.user}", "item", *headings)
    for item in answer.items:
        interval = [f"{item.lowest:.1f} to {item.highest:.1f}"] if sure else []
        score = [words.decimals(item.score, 2)] if scored else []
        rating = [f"{item.rating:.2f}"] if answer.rated else []
        table.add_row(_with_reasons(item), *score, *rating, *interval)
    captions = [ORDERED_BY_SCORE] if scored and answer.rated else []
    if any(item.reasons for item in answer.items):
        captions.append("Under each item: how far the expected rating falls (+) or rises (-) without an own rating.")
    if captions:
        table.caption = Text("\n".join(captions))
        table.caption_justify = "left"
    if answer.known:
        return Group(table)
    return Group(Text(f"There are no ratings of user {answer.user} here: the list suits any newcomer."), table)


def _with_reasons(item: Recommendation) -> Group:
    seen = " (rated before)" if item.seen else ""
    lines = [Text(f"{item.rank}. {item.title}{seen}", style="bold", overflow="fold")]
    for each in item.reasons:
        rated = [f"  {words.decimals(each.moved, 2, '+')}  rated {each.rating:g}: {each.title}"]
        rated += [f"    and  rated {each.twin.rating:g}: {each.twin.title}"] if each.twin else []
        lines += [Text(line, no_wrap=True, overflow="ellipsis") for line in rated]
    return Group(*lines)


def sentences(lines: Sequence[str]) -> Group:
    """A verdict, one sentence a line."""
    return Group(*(Text(f"• {line}") for line in lines))


def _node_table(result: Result) -> Table:
    number = len(result.nodes)
    least = f", the {MOST_NODES} of {number} nodes that gained least" if number > MOST_NODES else ""
    table = _table(
        f"Personalisation, RMSE on held-out rows{least}",
        "node",
        "users",
        "train",
        "test",
        "before",
        "after",
        "gain",
        "worse",
    )
    for node in _listed(result.nodes):
        table.add_row(
            Text(node.node),
            *(words.count(number) for number in (node.users, node.train_rows, node.test_rows)),
            words.stars(node.rmse_before),
            words.stars(node.rmse_after),
            words.signed(node.gain),
            "worse" if node.gain < 0 else "",
        )
    users = result.users
    table.add_section()
    change = words.signed(users.rmse_before - users.rmse_after)
    train, test = (sum(getattr(node, field) for node in result.nodes) for field in ("train_rows", "test_rows"))
    table.add_row(
        f"all {number}",
        *(words.count(total) for total in (users.users, train, test)),
        words.stars(users.rmse_before),
        words.stars(users.rmse_after),
        change,
        "",
    )
    return table


def _listed(nodes: Sequence[NodeRecord]) -> Sequence[NodeRecord]:
    """The nodes that a terminal has room for: all, or those that gained least, which are the ones to look at."""
    if len(nodes) <= MOST_NODES:
        return nodes
    return sorted(nodes, key=lambda node: (math.isnan(node.gain), node.gain))[:MOST_NODES]


def _model_table(result: Result) -> Table:
    table = _table("Every model on the same rows, RMSE", "", *(short for short, _ in words.row_sets(result)))
    for row in contents.model_rows(result):
        values = (words.MISSING if value is None else words.stars(value) for value in row.values)
        table.add_row(Text(row.name), *values, style="bold" if row.own else None)
    return table


def _shown(content: tables.Table) -> Table:
    headings = (each if re.search(r"\d", each) else each[:1].lower() + each[1:] for each in content.headings)
    table = _table(content.title, *headings)
    for row in content.rows:
        table.add_row(*map(Text, row))
    return table


def _table(title: str, first: str, *rest: str) -> Table:
    table = Table(title=Text(title), title_justify="left", title_style="bold")
    table.add_column(first, overflow="fold")
    for heading in rest:
        table.add_column(heading, justify="right")
    return table

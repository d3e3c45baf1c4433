"""The report of a federation of real nodes: contributions, refused answers, and the rows that nodes held out."""

from __future__ import annotations

from collections import Counter

from hierfed.plain_text import plural, printable
from hierfed.report import words
from hierfed.report.tables import Table
from hierfed.results import DeployedRound, FederationRecord, Result


def judged(record: FederationRecord) -> str:
    """The end of the lead sentence: the rows on which the models were judged."""
    if record.gain is None:
        return "; no node told how well it is served"
    return f"; judged on {plural(record.gain.rows, 'rating')} that the nodes held out"


def summary(record: FederationRecord) -> str:
    """The numbers of nodes that contributed, of refused answers and of abandoned rounds."""
    refused = sum(len(each.refused) for each in record.rounds)
    abandoned = sum(each.abandoned for each in record.rounds)
    told = [f"{plural(len(record.nodes), 'node')} took part{_contributed(record)}."]
    if refused:
        told.append(f"{plural(refused, 'answer')} {'was' if refused == 1 else 'were'} refused.")
    if abandoned:
        was = "was abandoned and left" if abandoned == 1 else "were abandoned and left"
        told.append(f"{plural(abandoned, 'round')} {was} the model as it was.")
    return " ".join(told)


def node_table(record: FederationRecord) -> Table:
    """Each node, in how many finished rounds its contribution is, and how many of its answers were refused."""
    contributed = Counter(node for each in _finished(record) for node in each.contributors)
    refused = Counter(answer.node for each in record.rounds for answer in each.refused)
    of = f" of {words.count(len(_finished(record)))}" if _finished(record) else ""
    rows = [
        (printable(node), f"{words.count(contributed[node])}{of}", words.count(refused[node]))
        for node in dict.fromkeys([*record.nodes, *contributed, *refused])
    ]
    return Table("Nodes of the federation", ("Node", "Rounds contributed to", "Answers refused"), rows)


def refused_table(record: FederationRecord) -> Table:
    """Each answer that did not enter a sum, and why."""
    rows = [
        (printable(answer.node), f"{each.stage}, {each.round}", printable(answer.reason))
        for each in record.rounds
        for answer in each.refused
    ]
    return Table("Answers that were refused", ("Node", "Round", "Reason"), rows)


def round_table(record: FederationRecord) -> Table:
    """Every round of every stage."""
    headings = ("Stage", "Round", "Nodes", "Training loss", "Bytes up", "Bytes down", "Seconds", "")
    rows = [
        (
            each.stage,
            str(each.round),
            words.count(len(each.contributors)),
            words.stars(each.train_loss[-1]) if each.train_loss else "",
            words.size(each.bytes_up),
            words.size(each.bytes_down),
            words.seconds(each.seconds),
            "abandoned" if each.abandoned else "",
        )
        for each in record.rounds
    ]
    return Table("Rounds", headings, rows)


def numbers(result: Result) -> list[tuple[str, str, str]]:
    """A label, a number and a note for what a reader looks for first, beside the models."""
    record = result.federation
    if record is None:
        return []
    keys = [("Nodes", words.count(len(record.nodes)), f"{_range(record)} contributed to a round")]
    if not record.rounds:
        keys = [("Nodes", words.count(len(record.nodes)), "no rounds")]
    if result.data.ratings:
        keys.append(("Ratings", words.count(result.data.ratings), "learned from, over all nodes"))
    return keys


def data_sentence(result: Result) -> str:
    """The number of ratings, where nodes tell it, and the size of the catalogue."""
    items = plural(result.data.items, "item")
    if not result.data.ratings:
        return f"The catalogue has {items}. The nodes did not tell how many ratings they learned from."
    ratings = plural(result.data.ratings, "rating")
    return f"The catalogue has {items}. The nodes learned from {ratings}, which did not leave them."


def _finished(record: FederationRecord) -> list[DeployedRound]:
    return [each for each in record.rounds if not each.abandoned]


def _contributed(record: FederationRecord) -> str:
    return f"; {_range(record)} of them contributed to a round" if _finished(record) else ""


def _range(record: FederationRecord) -> str:
    """The fewest and the most nodes in a finished round."""
    numbers = [len(each.contributors) for each in _finished(record)] or [0]
    least, most = words.count(min(numbers)), words.count(max(numbers))
    return least if least == most else f"{least} to {most}"

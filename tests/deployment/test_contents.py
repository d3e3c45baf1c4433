"""Messages hold what is declared, in every byte: nothing more, and nothing of rare items.

`benchmarks/on_the_wire.py` looks in the same way at the bytes of real processes, of every method.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from leaks.wire import Kept, drawn, look, numbers_of
from safetensors.torch import save

from hierfed.data.reading.catalogue_file import read_catalogue
from hierfed.deployment.contents import ASKED, JUDGED_SUMS, check_reply, check_request, check_sum, table
from hierfed.engines.exchange import Reply, Request
from hierfed.errors import HierfedError
from hierfed.federated.contract import Contribution
from hierfed.methods import METHODS
from hierfed.settings import load_settings

DOCS = Path(__file__).parents[2] / "docs" / "privacy.md"
NAMES = ("node 1", "node 2", "node 10")
SECURELY = {"secure_sums": True, "scale": [0.5, 5.0]}
# Items alike in all but these ratings, which a user of node 2 gave, and no one else. Half stars have no such sums.
RARE, OWNER = {501: 1.171875, 502: 4.640625, 503: 3.2978515625, 504: 0.5322265625}, 7_310_001
ORDER = {"order": "[]"}
WAYS = ("sent: deviations", "received: bias")
PLACES = [item - 501 for item in RARE]


def ones(*names: str) -> dict[str, torch.Tensor]:
    return {name: torch.ones(1, dtype=torch.float64) for name in names}


def test_the_table_in_the_docs_is_the_one_that_the_code_checks_by():
    assert table() in DOCS.read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", [kind for kind in ASKED if kind != "setup"] + ["tally"])
def test_a_request_that_holds_more_than_is_declared_is_refused_in_one_line(kind):
    with pytest.raises(HierfedError, match=r"holds what no message|which no node answers") as error:
        check_request(Request(kind, {"sums of\nitems": 1}), "hierarchical")
    assert "\n" not in str(error.value)
    with pytest.raises(HierfedError) as error:
        check_request(Request(kind, {"stage": "rating"}, ones("counts")), "hierarchical")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ASKED)
def test_an_answer_that_holds_more_than_is_declared_is_not_sent(kind):
    with pytest.raises(HierfedError, match="holds what no message of its kind holds: 'unknown'"):
        check_reply(Request(kind), Reply({"unknown": 3}))
    if kind != "round":
        with pytest.raises(HierfedError, match="holds what no message of its kind holds: 'counts'"):
            check_reply(Request(kind), Reply({}, Contribution(ones("counts"))))


@pytest.mark.parametrize(
    ("method", "stage", "names"),
    [
        ("hierarchical", "rating", ["raters", "moments", "users", "sums"]),
        ("hierarchical", "rating", ["raters", "co_ratings"]),
        ("averaging", "features", ["rows", "sums", "counts"]),
        ("averaging", "rating", ["change", "ratings"]),
        ("private_prior", "features", ["rows"]),
        ("hierarchical", "features", ["rows"]),
    ],
)
def test_a_sum_of_what_no_one_round_declares_is_not_sent(method, stage, names):
    with pytest.raises(HierfedError, match="not declared, so not sent"):
        check_sum(method, stage, Contribution(ones(*names)))


def test_what_is_declared_is_sent():
    asked = {"training": "f00d", "round": 1}
    for method, kind in METHODS.items():
        for sums in kind.sums:
            check_sum(method, sums.stage, Contribution(ones(*sums.arrays)))
        for model in kind.models:
            check_request(Request("round", {**asked, "stage": model.stage}, ones(*model.arrays)), method)


def with_rare_items(data: Any, place: Path, features: bool = True) -> Any:
    """The same data, but that four items have one rater each, and are alike. features: whether items have any."""
    table = data.table.filter(~pl.col("item").is_in(list(RARE)))
    rows = [(OWNER, item, stars, "node 2", False) for item, stars in RARE.items()]
    table = pl.concat([table, pl.DataFrame(rows, schema=table.schema, orient="row")])
    items = pl.read_parquet(data.place / "catalogue.parquet")
    first = items.row(0, named=True)
    alike = [first | {"item_id": item} for item in RARE]
    items = pl.concat([pl.DataFrame(alike, schema=items.schema), items.slice(len(RARE))])
    (items if features else items.select("item_id")).write_parquet(place / "catalogue.parquet")
    found = type(data)(place, table, read_catalogue(place / "catalogue.parquet"))
    for name, held in itertools.product(NAMES, (False, True)):
        own = table.filter((pl.col("node") == name) & (pl.col("held") == held))
        own.select("user", "item", "rating").write_parquet(found.file(name, held))
    return found


def kept_of(data: Any) -> Kept:
    """What no message may tell."""
    learned = data.table.filter(~pl.col("held"))
    raters = np.zeros((len(NAMES), len(data.catalogue)))
    node = [NAMES.index(name) for name in learned["node"]]
    np.add.at(raters, (node, learned["item"].to_numpy() - 501), 1.0)
    means = [learned["rating"].mean(), learned.filter(pl.col("node") == "node 2")["rating"].mean(), 2.75]
    said = [np.array([stars]) for stars in RARE.values()]
    twins = list(itertools.pairwise(PLACES))
    users = [str(user) for user in data.table["user"].unique()]
    return Kept(len(data.catalogue), raters, twins, numbers_of([*said, np.concatenate(said)], means), users)


KNOWN = {"scale": [0.5, 5.0], "min_raters": 5}
VECTORS = {"item_vector_size": 3, "user_vector_size": 3}
FEDERATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "averaging": ("network", {}),
    "averaging, known scale": ("network", KNOWN),
    "averaging, secure": ("network", {**KNOWN, **SECURELY}),
    "averaging, no features": ("network", KNOWN),
    "averaging, no features, secure": ("network", {**KNOWN, **SECURELY}),
    "averaging, vectors": ("network", KNOWN | VECTORS),
    "averaging, vectors, secure": ("network", {**KNOWN, **VECTORS, **SECURELY}),
    "averaging, experts": ("network", {**KNOWN, "experts": 2}),
    "averaging, scaffold": ("network", {**KNOWN, "correction": "scaffold", "optimizer": "sgd"}),
    "item_biases": ("item_biases", KNOWN),
    "item_biases, secure": ("item_biases", {**KNOWN, **SECURELY}),
    "hierarchical": ("hierarchical", {"min_raters": 5}),
    "hierarchical, known scale": ("hierarchical", {**KNOWN, "least_raters": 5}),
    "hierarchical, secure": ("hierarchical", {**KNOWN, **SECURELY}),
    "private prior": ("private", {"epsilon": 3.0}),
}


def overheard(grid: type[Any], received: list[bytes]) -> type[Any]:
    """A grid that keeps the bytes of all requests."""

    class Overheard(grid):
        def on_request(self, side: Any, message: Any) -> None:
            received.append(bytes_of(message))

    return Overheard


@pytest.mark.parametrize("case", FEDERATIONS)
def test_every_message_of_a_federation_holds_what_is_declared_and_nothing_of_rare_items(
    case, data, tmp_path, village, make_settings, monkeypatch
):
    from hierfed.deployment.node import NodeSide

    name, changes = FEDERATIONS[case]
    settings = load_settings(name, changes) if name == "private" else make_settings(name, **changes)
    rare, exchanged, summed = with_rare_items(data, tmp_path, "no features" not in case), list[Any](), list[Any]()
    answer = NodeSide.answer

    def listened(side: Any, request: Request) -> Reply:
        reply = answer(side, request)
        exchanged.append((side.name, request, reply))
        return reply

    def noted(method: str, stage: str, sent: Contribution) -> None:
        summed.append((stage, sent.arrays))
        check_sum(method, stage, sent)

    monkeypatch.setattr(NodeSide, "answer", listened)
    monkeypatch.setattr("hierfed.deployment.node.check_sum", noted)
    found, received = village(settings), list[bytes]()
    found.data, found.make_grid = rare, overheard(found.make_grid, received)
    found.start(*NAMES)
    found.serve()
    found.start(*NAMES)
    found.serve()  # It hands out what is finished, so setups hold models.

    kinds = {request.kind for _, request, _ in exchanged}
    steps = {"share", "mask", "consent", "unmask"} if changes.get("secure_sums") or name == "private" else set()
    judged = set() if name == "private" else {"judge"}
    assert kinds == {"hello", "setup", "round", "finish", "ledger", "goodbye", *steps, *judged}
    method = settings.method
    for _, request, reply in exchanged:
        declared = ASKED[request.kind]
        assert request.facts.keys() <= declared.request.keys()
        assert reply.facts.keys() <= declared.reply.keys()
        if request.kind == "hello":
            told = {"low", "high"} & reply.facts.keys()
            assert told == (set() if steps or "scale" in changes else {"low", "high"})
        if steps:
            assert not reply.contribution.arrays
        elif request.kind == "judge":
            assert reply.contribution.arrays.keys() == JUDGED_SUMS.keys()
        elif request.kind != "round":
            assert not reply.contribution.arrays
        check_received(method, request, settings.factors.min_raters)
    for stage, arrays in summed:
        assert any(arrays.keys() <= each.arrays.keys() for each in METHODS[method].sums if each.stage == stage)

    public = drawn(settings, rare.catalogue, (0.5, 5.0))
    kept, replies = kept_of(rare), [bytes_of(message) for _, _, message in found.sent]
    told = look(method, kept, replies, received, public)
    assert told.found == []
    assert told.messages > 2 * len(NAMES)
    counted = not steps and (name != "network" or "vectors" in case or "no features" in case)
    assert bool(told.counts) == counted
    # A node's own sums, which secure sums hide, are of nothing else.
    hidden = [save({each: array.contiguous() for each, array in arrays.items()}, ORDER) for _, arrays in summed]
    assert look(method, kept, hidden, []).found == []


def test_the_look_itself_finds_what_is_there_without_a_threshold(data, tmp_path, village, make_settings):
    rare, received = with_rare_items(data, tmp_path), list[bytes]()
    found = village(make_settings("item_biases", scale=[0.5, 5.0], min_raters=1))
    found.data, found.make_grid = rare, overheard(found.make_grid, received)
    found.start(*NAMES)
    found.serve()
    kept = kept_of(rare)
    told = look("item_biases", kept, [bytes_of(message) for _, _, message in found.sent], received)
    wrong = set(told.found)
    assert {f"{way}: items {one} and {two} differ" for way in WAYS for one, two in kept.twins} <= wrong
    assert any(line.startswith("sent: deviations: ") and "differ" not in line for line in wrong)
    others = look("averaging", kept, [], received).found
    assert any("not declared" in line for line in others)
    assert look("item_biases", kept, [kept.users[0].encode()], []).found == ["sent: a user's id"]


def bytes_of(message: Any) -> bytes:
    """All that Flower sends of a message."""
    return b"".join(each.deflate() for each in get_all_nested_objects(message).values())


def check_received(method: str, request: Request, threshold: int) -> None:
    """Nodes receive what is declared; counts of rare items are 0 there."""
    for name, array in request.arrays.items():
        stage, _, own = name.rpartition(".") if request.kind == "setup" else (request.facts["stage"], "", name)
        declared = [model.arrays for model in METHODS[method].models if model.stage == stage]
        assert any(own in names for names in declared), (request.kind, name)
        if own in ("raters", "counts"):
            assert not array[PLACES].any()
            assert not ((array > 0) & (array < threshold)).any()

"""Messages hold what is declared, in every byte: nothing more, and nothing of rare items."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

from hierfed.deployment.contents import ASKED, JUDGED_SUMS, check_reply, check_request, check_sum, table
from hierfed.engines.exchange import Reply, Request
from hierfed.errors import HierfedError
from hierfed.federated.contract import Contribution
from hierfed.methods import METHODS
from hierfed.settings import load_settings

DOCS = Path(__file__).parents[2] / "docs" / "privacy.md"
NAMES = ("node 1", "node 2", "node 10")
SECURELY = {"secure_sums": True, "scale": [0.5, 5.0]}
# Items that a user of node 2 has rated, and no one else; and what that user said of them.
RARE, OWNER = {501: 0.5, 502: 5.0, 503: 2.5}, 7_310_001


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


def with_rare_items(data: Any, place: Path) -> Any:
    """The same data, but that three items have one rater each."""
    table = data.table.filter(~pl.col("item").is_in(list(RARE)))
    rows = [(OWNER, item, stars, "node 2", False) for item, stars in RARE.items()]
    table = pl.concat([table, pl.DataFrame(rows, schema=table.schema, orient="row")])
    found = type(data)(place, table, data.catalogue)
    for name, held in itertools.product(NAMES, (False, True)):
        own = table.filter((pl.col("node") == name) & (pl.col("held") == held))
        own.select("user", "item", "rating").write_parquet(found.file(name, held))
    return found


FEDERATIONS = {
    "averaging, open": ("network", {}),
    "averaging, open, known scale": ("network", {"scale": [0.5, 5.0]}),
    "averaging, secure": ("network", SECURELY),
    "hierarchical, open": ("hierarchical", {"min_raters": 5}),
    "hierarchical, secure": ("hierarchical", {"min_raters": 5, **SECURELY}),
    "private prior": ("private", {"epsilon": 3.0}),
}


@pytest.mark.parametrize("preset", FEDERATIONS.values(), ids=FEDERATIONS.keys())
def test_every_message_of_a_federation_holds_what_is_declared_and_nothing_of_rare_items(
    preset, data, tmp_path, village, make_settings, monkeypatch
):
    from hierfed.deployment.node import NodeSide

    name, changes = preset
    settings = load_settings(name, changes) if name == "private" else make_settings(name, **changes)
    rare, exchanged, summed = with_rare_items(data, tmp_path), list[tuple[str, Request, Reply]](), list[Any]()
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
    found = village(settings)
    found.data = rare
    found.start(*NAMES)
    found.serve()
    found.start(*NAMES)
    found.serve()  # It hands out what is finished, so setups hold models.

    kinds = {request.kind for _, request, _ in exchanged}
    steps = {"share", "mask", "consent", "unmask"} if changes.get("secure_sums") or name == "private" else set()
    judged = set() if name == "private" else {"judge"}
    assert kinds == {"hello", "setup", "round", "finish", "ledger", "goodbye", *steps, *judged}
    method, places = settings.method, [item - 501 for item in RARE]
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
        check_received(method, request, places, settings.factors.min_raters)
    content = [*map(bytes_of, (message for _, _, message in found.sent))]
    content += [b"".join(map(to_bytes, request.arrays.values())) for _, request, _ in exchanged]
    assert len(content) > 2 * 3 * len(kinds)
    for kind, sign in itertools.product((np.float32, np.float64), (1, -1)):
        stars = (sign * np.array(list(RARE.values()), kind)).tobytes()
        assert not any(stars in each for each in content)
    for stage, arrays in summed:
        assert any(arrays.keys() <= each.arrays.keys() for each in METHODS[method].sums if each.stage == stage)
    check_sums(rare, summed)


def to_bytes(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().numpy().tobytes()


def bytes_of(message: Any) -> bytes:
    """All that Flower sends of a message."""
    return b"".join(each.deflate() for each in get_all_nested_objects(message).values())


def check_received(method: str, request: Request, places: list[int], threshold: int) -> None:
    """Nodes receive what is declared; counts of rare items are 0 there."""
    for name, array in request.arrays.items():
        stage, _, own = name.rpartition(".") if request.kind == "setup" else (request.facts["stage"], "", name)
        declared = [model.arrays for model in METHODS[method].models if model.stage == stage]
        assert any(own in names for names in declared), (request.kind, name)
        if own in ("raters", "counts"):
            assert not array[places].any()
            assert not ((array > 0) & (array < threshold)).any()


def check_sums(data: Any, summed: list[Any]) -> None:
    """No array of a sum tells a rare item's ratings: none has an entry for each item but counts of the opening, and
    what is summed of shared items alone says the same whatever these ratings are."""
    items = len(data.catalogue)
    for _, arrays in summed:
        for name, array in arrays.items():
            assert name in ("raters", "counts") or items not in array.shape, name

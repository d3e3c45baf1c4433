"""What a user has seen and not rated is recommended to nobody who has seen it."""

from __future__ import annotations

import polars as pl
import pytest

import hierfed
from hierfed.serving.served import Served

LOOKER = "has rated nothing"
SMALL = {"protocol": "warm", "rounds": 2, "nodes": 2, "rank_items": False, "no_rating": [-1]}


@pytest.fixture(scope="module")
def rows() -> list[tuple[str, str, float]]:
    return [
        (f"u{user}", f"i{item}", -1.0 if (user * item) % 7 == 1 else float(1 + (user * item + item) % 5))
        for user in range(24)
        for item in range(30)
        if (user + 2 * item) % 3
    ] + [(LOOKER, f"i{item}", -1.0) for item in range(12)]


@pytest.fixture(scope="module")
def served(rows, tmp_path_factory) -> Served:
    folder = tmp_path_factory.mktemp("seen") / "run"
    frame = pl.DataFrame(rows, schema=["user", "item", "rating"], orient="row")
    run = hierfed.run("hierarchical", data=frame, **SMALL)
    assert run.result.data.dropped == {"seen, not rated (rating -1)": sum(value == -1 for _, _, value in rows)}
    run.save(folder)
    return Served(folder)


def test_no_user_is_recommended_what_was_seen_or_rated(rows, served):
    users = {user for user, _, _ in rows}
    items = {item for _, item, value in rows if value != -1}
    for user in users:
        known = {item for who, item, _ in rows if who == user}
        answer = served.recommend(user, 100)
        assert {entry.item for entry in answer.items} == items - known
    assert LOOKER in users


def test_who_has_seen_items_and_rated_none_gets_a_newcomers_list_without_them(rows, served):
    known = {item for who, item, _ in rows if who == LOOKER}
    found, newcomer = (served.recommend(user, 100).items for user in (LOOKER, "nobody"))
    assert [each.item for each in found] == [each.item for each in newcomer if each.item not in known]
    assert len(found) < len(newcomer)
    assert LOOKER not in served.folder.joinpath("result.json").read_text()

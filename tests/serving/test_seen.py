"""What a user has seen and not rated is recommended to nobody who has seen it."""

from __future__ import annotations

import polars as pl
import pytest

import hierfed
from hierfed.serving.served import Served
from hierfed.serving.update import update_run

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


@pytest.mark.parametrize("refit", ["users", "none"])
def test_an_update_keeps_what_was_seen_and_learns_what_is_seen_now(rows, tmp_path, refit):
    """By the users' own models, and by further rounds; held-out items are seen too, where nobody learned from them."""
    folder, table, news = tmp_path / "run", tmp_path / "all.csv", tmp_path / "news.csv"
    schema = ["user", "item", "rating"]
    pl.DataFrame(rows, schema=schema, orient="row").write_csv(table)
    whole = {"partition": "users", "personal_nodes": 2, "refit": refit}
    hierfed.run("hierarchical", data=str(table), **SMALL, **whole).save(folder)
    known: dict[str, set[str]] = {}
    for user, item, _ in rows:
        known.setdefault(user, set()).add(item)
    every = {item for _, item, value in rows if value != -1}
    free = {user: sorted(every - known.get(user, set())) for user in ("u1", "u4", LOOKER, "another")}
    first = [("u1", 0, 5.0), ("u1", 1, -1.0), ("u4", 0, -1.0), (LOOKER, 0, 4.0), ("another", 0, -1.0)]
    second = [("u1", 2, 2.0), ("u4", 1, -1.0), (LOOKER, 1, -1.0), ("another", 1, 1.0)]
    for level, added in (("users", first), ("rounds", second)):
        more = [(user, free[user][number], value) for user, number, value in added]
        pl.DataFrame(more, schema=schema, orient="row").write_csv(news)
        done = update_run(folder, str(news), level, rounds=1, keep=True)
        assert (done.fitted, done.new) == (4, 1 if level == "users" else 0)
        assert update_run(folder, str(news), "users", keep=True).fitted == 0
        for user, item, _ in more:
            known.setdefault(user, set()).add(item)
        served = Served(folder)
        for user in ("u1", "u4", LOOKER, "another", "u7"):
            answer = served.recommend(user, 100)
            assert answer.known
            assert {each.item for each in answer.items} == every - known[user]
    news.write_text(f"user,item,rating\nu1,{free['u1'][1]},1\n")
    update_run(folder, None, withdraw=str(news))
    assert free["u1"][1] in {each.item for each in Served(folder).recommend("u1", 100).items}

"""A node's models for its users: they know all rows, and the old models serve until the new ones are made."""

from __future__ import annotations

import json
import shutil
import stat
import sys

import numpy as np
import polars as pl
import pytest
import torch

from hierfed import cli
from hierfed.data.ratings import rows_to_predict
from hierfed.data.reading.own import own_ratings
from hierfed.data.reading.sources import read_ratings
from hierfed.deployment.local_models import personalise
from hierfed.deployment.state import Origin
from hierfed.errors import NotPersonalisedError
from hierfed.serving.served import Served

NAMES = ("node 1", "node 2", "node 10")


def rated_by(data, name: str) -> dict[str, set[str]]:
    """The items that each user of a node has rated, held-out rows included."""
    own = data.table.filter(data.table["node"] == name)
    found: dict[str, set[str]] = {}
    for user, item in own.select("user", "item").rows():
        found.setdefault(str(user), set()).add(str(item))
    return found


@pytest.mark.parametrize(
    ("preset", "changes", "refit"),
    [
        ("hierarchical", {}, "users"),
        ("hierarchical", {}, "none"),
        ("network", {"user_level": "ridge_head"}, "none"),
        ("network", {"user_level": "kriging"}, "users"),
    ],
)
def test_no_user_of_a_node_is_recommended_what_the_user_has_rated(preset, changes, refit, village, make_settings, data):
    found, every = village(make_settings(preset, **changes)), {str(item) for item in data.catalogue.frame["item_id"]}
    found.serve()
    for name in NAMES:
        state = found.sides[name].state
        personalise(state, refit)
        served = Served(state.folder)
        for user, items in rated_by(data, name).items():
            answer = served.recommend(user, 1000)
            assert answer.known
            assert {each.item for each in answer.items} == every - items


def test_a_node_s_users_learn_from_held_out_rows_once_they_are_judged(village, make_settings, data, reference):
    found, expected = village(make_settings("hierarchical")), reference("hierarchical")
    found.serve()
    state, node = found.sides["node 2"].state, expected.nodes[1]
    made = personalise(state)
    assert made.ratings == len(node.train) + len(node.test)
    plan, _ = state.plan()
    own = own_ratings(read_ratings(data.file("node 2", False), test=data.file("node 2", True)), plan.catalogue)
    kept = state.rounds.recall(plan.training, "rating", 4, own.digest)
    (model,) = expected.method.personalise(expected.models["rating"], [node], [kept], lambda each: each.test)
    served, items = Served(state.folder), torch.arange(len(data.catalogue))
    for user in np.unique(node.train.user).tolist():
        mine = served.user(str(user + 7_310_001)).model
        assert len(mine.own.items) == 11
        theirs = model.distribution(rows_to_predict(torch.full_like(items, user), items))
        for one, other in zip(mine.distribution(rows_to_predict(torch.zeros_like(items), items)), theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


def test_the_old_models_serve_until_the_new_ones_are_complete(village, make_settings):
    found, user = village(make_settings("hierarchical")), "7310002"
    found.serve()
    state = found.sides["node 2"].state
    with pytest.raises(NotPersonalisedError, match="not personalised yet: run `hierfed personalise") as error:
        Served(state.folder)
    assert error.value.exit_code == 3
    personalise(state)
    before = Served(state.folder)
    answer, model = before.recommend(user, 5), before.shared.digest()
    assert (answer.known, before.superseded) == (True, False)
    shutil.rmtree(found.server)
    found.settings, asked = make_settings("hierarchical", rounds=3, seed=7), []

    def recommend_meanwhile(name: str, kind: str, facts) -> str:
        asked.append(Served(state.folder).recommend(user, 5) == answer)
        return ""

    found.start(*NAMES)
    found.serve(recommend_meanwhile)
    assert len(asked) > 20
    assert all(asked)
    waiting, state = Served(state.folder), found.sides["node 2"].state
    assert (waiting.recommend(user, 5), waiting.superseded) == (answer, True)
    assert not waiting.recommend("stranger", 5).known
    personalise(state)
    after = Served(state.folder)
    assert after.shared.digest() == state.model("rating").digest() != model
    assert (after.recommend(user, 5).known, after.superseded) == (True, False)
    # Who began to read before the change reads on.
    assert before.recommend(user, 5) == answer
    served = state.folder / "served"
    assert {path.name for path in served.iterdir()} == {"1", "2", "current"}
    personalise(state)
    assert {path.name for path in served.iterdir()} == {"2", "3", "current"}
    assert stat.S_IMODE(served.stat().st_mode) == 0o700


def test_a_personalisation_that_fails_leaves_the_old_pair(village, make_settings, monkeypatch):
    found = village(make_settings("hierarchical"))
    found.serve()
    state = found.sides["node 1"].state
    personalise(state)
    answer = Served(state.folder).recommend("7310001", 4)

    def fail(*arguments: object) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr("hierfed.deployment.local_models.save_private", fail)
        with pytest.raises(OSError, match="the disk is full"):
            personalise(state)
    assert Served(state.folder).recommend("7310001", 4) == answer
    personalise(state)
    assert Served(state.folder).recommend("7310001", 4) == answer


def test_rows_of_items_that_the_catalogue_does_not_know_are_counted(village, make_settings, data, tmp_path):
    found, table = village(make_settings("hierarchical")), tmp_path / "growing.parquet"
    rows = pl.read_parquet(data.file("node 2", False))
    rows.write_parquet(table)
    found.start("node 2", origin=Origin(str(table)))
    found.serve()
    strange = pl.DataFrame({"user": [7_310_002] * 3, "item": [90_001, 90_002, 90_003], "rating": [5.0, 1.0, 2.0]})
    pl.concat([rows, strange]).write_parquet(table)
    made = personalise(found.sides["node 2"].state)
    assert (made.ratings, made.unknown) == (len(rows), 3)


def test_who_has_only_seen_items_gets_a_newcomers_list_without_them(village, make_settings, data, tmp_path):
    """Rows without a rating: of users who have rated nothing else, and of those who have."""
    found, table = village(make_settings("hierarchical")), tmp_path / "looked.parquet"
    rows = pl.read_parquet(data.file("node 2", False))
    every = [str(item) for item in data.catalogue.frame["item_id"]]
    rater = str(rows["user"][0])
    rated = {str(item) for user, item in rows.select("user", "item").iter_rows() if str(user) == rater}
    looked = {"99": every[:4], rater: [item for item in every if item not in rated][:3]}
    pairs = [(int(user), int(item), -1.0) for user, items in looked.items() for item in items]
    unrated = pl.DataFrame([*pairs, (98, 90_001, -1.0)], schema=["user", "item", "rating"], orient="row")
    unrated = unrated.select(pl.col(name).cast(rows.schema[name]) for name in unrated.columns)
    pl.concat([rows.select("user", "item", "rating"), unrated]).write_parquet(table)
    found.start("node 2", origin=Origin(str(table), table={"no_rating": [-1]}))
    found.serve()
    state = found.sides["node 2"].state
    made = personalise(state)
    assert (made.users, made.ratings) == (len(rows["user"].unique()), len(rows))
    served = Served(state.folder)
    newcomer = [each.item for each in served.recommend("nobody", 1000).items]
    looker, other = served.recommend("99", 1000), served.recommend(rater, 1000)
    assert [each.item for each in looker.items] == [item for item in newcomer if item not in looked["99"]]
    assert len(looker.items) == len(every) - 4
    assert (looker.known, looker.ordered_by) == (True, served.recommend("nobody", 3).ordered_by)
    assert {each.item for each in other.items} == set(every) - rated - set(looked[rater])
    # Who has seen items alone that the catalogue does not know is no one that a list could know.
    assert not served.recommend("98", 3).known


def command(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """The exit code of a command."""
    monkeypatch.setattr(sys, "argv", ["hierfed", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_the_commands_tell_what_is_not_there_yet_from_what_is_unknown(
    village, make_settings, data, tmp_path, monkeypatch, capsys
):
    found, table = village(make_settings("hierarchical")), tmp_path / "growing.parquet"
    rows = pl.read_parquet(data.file("node 2", False))
    rows.write_parquet(table)
    found.start("node 2", origin=Origin(str(table)))
    folder = str(found.place / "node 2")
    recommend = ("recommend", "--state", folder, "--user", "7310002", "-k", "2")
    assert command(monkeypatch, *recommend) == 3
    assert capsys.readouterr().err == (
        f"error: --state {folder}: not personalised yet: no federation has finished here; "
        "`hierfed node` takes part in one\n"
    )
    found.serve()
    found.sides["node 2"].state.close()
    assert command(monkeypatch, *recommend) == 3
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert f"run `hierfed personalise --state {folder}`" in printed.err
    strange = pl.DataFrame({"user": [7_310_002] * 3, "item": [90_001, 90_002, 90_003], "rating": [5.0, 1.0, 2.0]})
    pl.concat([rows, strange]).write_parquet(table)
    assert command(monkeypatch, "personalise", "--state", folder) == 0
    printed = capsys.readouterr()
    assert printed.err == "3 ratings left out whose items the catalogue does not know\n"
    assert f"12 users' own models, of {len(rows)} ratings" in printed.out
    assert command(monkeypatch, *recommend, "--json") == 0
    assert json.loads(capsys.readouterr().out)["known"] is True
    assert command(monkeypatch, *recommend[:-3], "stranger", "--json") == 0
    assert json.loads(capsys.readouterr().out)["known"] is False

"""Users of a finished run learn from new, changed and withdrawn ratings; who did not change stays to the bit."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

import hierfed
from hierfed.data.rater_classes import rounded_up
from hierfed.data.ratings import Ratings
from hierfed.engines.in_process import run_rounds
from hierfed.errors import HierfedError
from hierfed.ledger.audit import audit
from hierfed.runs.folder import read_results
from hierfed.runs.kept_rows import kept_rows
from hierfed.runs.private_files import LATER, NODE, PRIVATE, read_private
from hierfed.serving.served import Served
from hierfed.serving.update import Updated, strange_users, update_run

USERS = 20


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def source(table: pl.DataFrame, run: Path) -> str:
    table.write_csv(run.parent / "new.csv")
    return str(run.parent / "new.csv")


def withdrawn(table: pl.DataFrame, user: str) -> pl.DataFrame:
    """Without the first of a user's ratings."""
    first = table.with_row_index().filter(pl.col("user") == user)["index"][0]
    return table.with_row_index().filter(pl.col("index") != first).drop("index")


def test_no_new_data_changes_no_bit(table, run):
    before = files(run)
    shuffled = table.sample(fraction=1.0, shuffle=True, seed=1)
    assert update_run(run, source(shuffled, run)) == Updated(fitted=0, new=0, same=USERS, unknown=0)
    assert files(run) == before


def test_users_who_take_back_all_of_their_ratings_have_none(table, run):
    done = update_run(run, None, withdraw=source(table, run))
    assert (done.fitted, done.same) == (USERS, 0)
    assert kept_rows(run, "hierarchical", None).rows.is_empty()
    served = Served(run)
    assert not served.recommend("u3", 3, False, None).known


def test_who_changed_is_fitted_and_nobody_else(table, run):
    before = files(run)
    mine = table["user"] == "u3"
    first = table.filter(mine)["item"][0]
    changed = table.with_columns(
        pl.when(mine & (pl.col("item") == first))
        .then(6.0 - pl.col("rating").clip(1.0))
        .otherwise("rating")
        .alias("rating")
    )
    newcomer = table.filter(pl.col("user") == "u7").with_columns(pl.lit("new").alias("user"))
    unknown = newcomer.head(1).with_columns(pl.lit("never seen").alias("item"))
    now = pl.concat([withdrawn(changed, "u5"), newcomer, unknown])
    assert update_run(run, source(now, run)) == Updated(fitted=3, new=1, same=USERS - 2, unknown=1)
    after = files(run)
    moved = {name for name in after if after[name] != before.get(name)}
    assert len(moved) == 5  # three users, the list of files, and that a rating was withdrawn
    assert set(before) <= set(after)
    served = Served(run)
    for name in ("u3", "u5", "new"):
        model = served.user(name)
        expected = now.filter((pl.col("user") == name) & (pl.col("item") != "never seen"))
        kept = {
            served.catalogue.frame["item_id"][item]: value
            for item, value in zip(model.own.item.tolist(), model.own.value.tolist(), strict=True)
        }
        assert kept == pytest.approx(dict(expected.select("item", "rating").iter_rows()))
    assert served.recommend("new", 3).known


def test_users_of_one_node_learn_of_an_item_from_each_other(table, run):
    """Nobody else's own file is written: the node's holds what all its users then know of the item."""
    item = next(each for each in table["item"].unique().sort() if each not in set(table.filter(user="u3")["item"]))
    others = sorted(set(table["user"]) - {"u3"})

    def expected() -> dict[str, float]:
        served = Served(run)
        place = served.catalogue.frame["item_id"].to_list().index(item)
        asked = Ratings(np.zeros(1, np.int32), np.array([place], np.int32), np.zeros(1, np.float32))
        return {name: float(served.user(name).model.predict(asked)) for name in others}

    before, first, mine = files(run), expected(), read_private(run, "hierarchical", "u3")[0].path
    rating = table.filter(user="u3").head(1).with_columns(item=pl.lit(item), rating=pl.lit(5.0))
    assert update_run(run, source(pl.concat([table, rating]), run)).fitted == 1
    after, then = files(run), expected()
    moved = {name for name in after if after[name] != before.get(name)}
    assert moved == {str(mine.relative_to(run)), f"{PRIVATE}/{mine.parent.name}/{NODE}", f"{PRIVATE}/files.json"}
    learned = {name for name in others if first[name] != then[name]}
    assert learned == {name for name in others if _home(run, name) == mine.parent.name}


def test_users_who_came_later_share_no_node(table, run):
    """They may come from anywhere."""
    own = table.filter(user="u7")
    first = pl.concat([own.with_columns(user=pl.lit(name)) for name in ("new 1", "new 2")])
    assert update_run(run, source(first, run)).new == 2
    item = next(each for each in table["item"].unique().sort() if each not in set(own["item"]))
    rating = first.head(1).with_columns(item=pl.lit(item))
    assert update_run(run, source(rating, run), keep=True).fitted == 1
    assert not (run / PRIVATE / LATER / NODE).exists()


def _home(run: Path, user: str) -> str:
    return read_private(run, "hierarchical", user)[0].path.parent.name


def test_a_rating_that_is_given_and_withdrawn_again_leaves_the_fit_of_the_same_ratings(table, run):
    """Items that the user keeps have the means that the training gave them without the user, both before and after."""
    (first,) = read_private(run, "hierarchical", "u2")
    without = withdrawn(table, "u2")
    assert update_run(run, source(without, run)).fitted == 1
    assert update_run(run, source(table, run)).fitted == 1
    (again,) = read_private(run, "hierarchical", "u2")
    one, other = first.tensors["items"].argsort(), again.tensors["items"].argsort()
    for name in ("items", "times", "ratings"):
        torch.testing.assert_close(first.tensors[name][one], again.tensors[name][other], rtol=0, atol=1e-6)
    same = (again.tensors["item_mean"][other] == first.tensors["item_mean"][one]).all(1)
    assert int((~same).sum()) <= 1
    torch.testing.assert_close(again.tensors["prior_mean"], first.tensors["prior_mean"], rtol=0, atol=1e-9)


def test_a_user_of_several_nodes_is_refused(table, run):
    (own,) = (run / PRIVATE).glob("*/" + read_private(run, "hierarchical", "u1")[0].path.name)
    (run / PRIVATE / "node-9").mkdir()
    shutil.copyfile(own, run / PRIVATE / "node-9" / own.name)
    with pytest.raises(HierfedError, match="user u1 lies on several nodes"):
        update_run(run, source(table, run))


def test_rounds_without_new_data_change_no_bit(table, run):
    before = files(run)
    for level in ("rounds", "all"):
        assert update_run(run, source(table, run), level) == Updated(fitted=0, new=0, same=USERS, unknown=0)
        assert files(run) == before


def test_rounds_take_in_new_users_and_items_and_numbers_stay(table, run):
    first, old = Served(run), table.filter(pl.col("user") == "u3")
    raters = pl.col("user").is_in([f"u{k}" for k in range(6)])
    fresh = table.filter(raters).unique("user").with_columns(pl.lit("fresh").alias("item"))
    new = pl.concat([table.filter(pl.col("user") == "u7").with_columns(pl.lit("anna").alias("user")), fresh])
    done = update_run(run, source(new, run), "rounds", rounds=2, keep=True)
    assert done == Updated(fitted=7, new=1, same=0, unknown=0, new_items=1, rounds=2)
    served = Served(run)
    assert served.ids == [*first.ids, "fresh"]
    assert served.shared.round == first.shared.round + 2
    users = [served.user(name).own.item for name in (*(f"u{k}" for k in range(USERS)), "anna")]
    counts = np.bincount(np.concatenate(users)).astype(float)
    assert (counts[-1], counts.sum()) == (6, sum(len(items) for items in users[:-1]) + 9)
    np.testing.assert_array_equal(
        served.shared.arrays["raters"], rounded_up(counts, served.settings.factors.min_raters)
    )
    assert served.recommend("anna", 3).known
    own = served.user("u3").own
    kept = {served.ids[item]: value for item, value in zip(own.item.tolist(), own.value.tolist(), strict=True)}
    given = pl.concat([old, fresh.filter(pl.col("user") == "u3")])
    assert kept == pytest.approx(dict(given.select("item", "rating").iter_rows()))
    assert audit(run).sealed
    (record,) = read_results(run)[0].updates
    assert (record.level, record.rounds, record.new_items, record.before) == ("rounds", 2, 1, first.shared.digest())


def test_withdrawn_ratings_leave_every_level(table, run):
    gone = table.filter(pl.col("user") == "u3").head(2)
    gone.write_csv(run.parent / "gone.csv")
    for level, fitted in (("users", 1), ("rounds", 0)):
        assert update_run(run, None, level, withdraw=str(run.parent / "gone.csv")).fitted == fitted
        served = Served(run)
        left = {served.ids[item] for item in served.user("u3").own.item.tolist()}
        assert left == set(table.filter(pl.col("user") == "u3")["item"]) - set(gone["item"])
    every = table.filter(pl.col("user") == "u4")
    every.write_csv(run.parent / "gone.csv")
    assert update_run(run, None, "rounds", withdraw=str(run.parent / "gone.csv")).fitted == 1
    assert Served(run).user("u4") is None


def embedding(run: Path, items: int) -> np.ndarray:
    return Served(run).shared.arrays["embedding"][:items].numpy()


def test_rounds_keep_the_embedding_while_no_rating_is_withdrawn(table, run):
    first = Served(run)
    items = len(first.ids)
    summed = first.shared.arrays["raters"].numpy() > 0
    before, anna = embedding(run, items), table.filter(pl.col("user") == "u7").with_columns(user=pl.lit("anna"))
    other_stars = pl.concat([anna, table.filter(pl.col("user") == "u3").with_columns(rating=2.0)])
    update_run(run, source(other_stars, run), "rounds", rounds=1)
    np.testing.assert_array_equal(embedding(run, items)[summed], before[summed])
    taken = table.filter(pl.col("user") == "u3").head(1)
    taken.write_csv(run.parent / "gone.csv")
    update_run(run, None, "users", withdraw=str(run.parent / "gone.csv"))
    bert = anna.with_columns(user=pl.lit("bert"))
    update_run(run, source(bert, run), "rounds", rounds=1)
    served, nodes = Served(run), kept_rows(run, "hierarchical").nodes()
    opened = run_rounds(served.method, nodes, 0).shared
    np.testing.assert_array_equal(embedding(run, items), opened.arrays["embedding"][:items].numpy())
    after = embedding(run, items)
    update_run(run, source(anna.with_columns(user=pl.lit("carl")), run), "rounds", rounds=1)
    np.testing.assert_array_equal(embedding(run, items)[summed], after[summed])


def test_a_training_anew_is_that_of_the_same_rows_from_the_start(table, run):
    new = table.filter(pl.col("user") == "u7").with_columns(pl.lit("anna").alias("user"))
    assert update_run(run, source(new, run), "all").rounds == 3
    served = Served(run)
    nodes = kept_rows(run, "hierarchical").nodes()
    assert served.shared.digest() == run_rounds(served.method, nodes, 3).shared.digest()


def test_a_run_whose_users_keep_no_ratings_is_refused(table, tmp_path):
    pl.concat([table] * 1).write_csv(tmp_path / "ratings.csv")
    model = hierfed.fit(str(tmp_path / "ratings.csv"), "item_biases", rounds=1, nodes=2, personal_nodes=2)
    with pytest.raises(HierfedError, match="cannot be fitted again"):
        update_run(model.served.folder, str(tmp_path / "ratings.csv"), "rounds")


def test_in_python_a_model_goes_on_and_the_run_stays(table, run):
    before, model = files(run), hierfed.load(run)
    model.update({"user": ["anna"], "item": ["i1"], "rating": [5.0], "time": [1_400_000_000]})
    new = {"user": ["u1", "anna", "anna"], "item": ["fresh", "i2", "i3"], "rating": [5.0, 1.0, 2.0]}
    model.update({**new, "time": [1_400_000_000] * 3}, "rounds", rounds=1)
    assert len(model.items) == 16
    assert sorted(model.served.ids[item] for item in model.served.user("anna").own.item) == ["i1", "i2", "i3"]
    assert model.recommend("anna", k=1).known
    assert files(run) == before


def test_an_estimator_learns_in_parts(table):
    estimator = hierfed.Hierarchical(rank=2, rounds=2, nodes=2, min_raters=2, select=False, rank_items=False)
    estimator.partial_fit(table.rename({"timestamp": "time"}))
    more = {"user": ["anna"] * 2, "item": ["i1", "fresh"], "rating": [5.0, 1.0], "time": [1_400_000_000] * 2}
    assert estimator.partial_fit(more).n_users_ == USERS + 1
    assert estimator.n_items_ == 16
    assert estimator.predict({"user": ["anna"], "item": ["fresh"]}).shape == (1,)


def test_users_whose_new_ratings_do_not_fit_are_named(run):
    """At the level that the new ratings reach, and not above it; a changed rating is no new one."""
    served, before = Served(run), kept_rows(run, "hierarchical")
    item = min(set(range(15)) - set(before.rows.filter(pl.col("user") == "u3")["item"]))
    first = before.rows.filter(pl.col("user") == "u4")["item"][0]
    new = {
        "user": ["u3", "u4", "anna"],
        "item": [item, first, 0],
        "rating": [0.5, 5.0, 1.0],
        "time": [1_500_000_000] * 3,
    }
    schema = {"user": pl.String, "item": pl.Int32, "rating": pl.Float32, "time": pl.Int64}
    after = before.changed(pl.DataFrame(new, schema=schema), None, keep=True)
    row = Ratings(np.zeros(1, np.int32), np.array([item]), np.array([0.5], np.float32))
    level = float(served.user("u3").model.strangeness(row).exp())
    assert list(strange_users(served, before, after, 1.01 / level)) == ["u3"]
    assert list(strange_users(served, before, after, 0.99 / level)) == []

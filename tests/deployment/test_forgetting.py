"""Users whom a node forgets: nothing of them is kept, read or summed again, and what is sent tells of none of them."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from hierfed.cli.status import forgot
from hierfed.data.reading.own import own_ratings
from hierfed.deployment.batches import TAUGHT
from hierfed.deployment.forgetting import forget_at_node, forgotten_users
from hierfed.deployment.local_models import personalise
from hierfed.deployment.policy import Policy
from hierfed.deployment.sources import FORGOTTEN, own_source, read_source
from hierfed.deployment.state import Origin
from hierfed.engines.flower.records import read_reply
from hierfed.errors import HierfedError
from hierfed.runs.private_files import user_file
from hierfed.serving.served import Served

NAME, OTHERS = "node 1", ("node 2", "node 10")


@pytest.fixture
def federation(village, make_settings):
    """A federation that is over, with node 1 personalised."""
    found = village(make_settings("hierarchical", **{"data.scale": [0.5, 5.0]}))
    found.serve()
    personalise(found.sides[NAME].state)
    return found


def users_of(data, name: str = NAME) -> list[str]:
    return data.table.filter(pl.col("node") == name)["user"].unique().sort().cast(pl.String).to_list()


def first_counts(found) -> np.ndarray:
    """The counts of raters that node 1 sent last in a first opening round."""
    sent = [reply for name, kind, reply in found.sent if name == NAME and kind == "round"]
    arrays = [read_reply(reply).contribution.arrays for reply in sent]
    return [each["raters"] for each in arrays if "moments" in each][-1].numpy()


def test_nothing_of_the_users_is_left_at_the_node(federation, data):
    state, users = federation.sides[NAME].state, users_of(data)
    gone, stays = users[:5], users[5]
    before = Served(state.folder).recommend(stays, 5)
    assert Served(state.folder).recommend(gone[0], 5).known
    done = forget_at_node(state, gone)
    assert (done.users, done.waiting, done.remains) == (5, 5, ())
    served = Served(state.folder)
    assert served.recommend(stays, 5) == before
    assert not any(served.recommend(user, 5).known for user in gone)
    for path in (path for path in state.folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        for user in gone:
            assert user.encode() not in content, path
            assert user_file(user) not in f"{path} {content!r}", path
    assert sorted(path.name for path in (state.folder / "served").iterdir() if path.is_dir()) == ["2"]
    (entry,) = state.record(FORGOTTEN)["entries"]
    assert (entry["users"], len(entry["training"])) == (5, 16)
    made = personalise(state)
    assert made.users == len(users) - 5
    assert not Served(state.folder).recommend(gone[0], 5).known
    now = forgotten_users(state.folder)
    assert (now.users, now.waiting, now.last) == (5, 5, entry["at"])
    told = forgot(state.folder)
    assert told.startswith("5 users, the last ones at ")
    assert told.endswith("; the part of 5 in the shared model leaves with the next training")
    assert not any(user in told for user in gone)
    assert not forgot(federation.sides[OTHERS[0]].state.folder)
    # Told once more, nothing changes.
    assert forget_at_node(state, gone).waiting == 5


def test_an_update_has_the_sums_of_all_others_and_the_difference_is_of_five(federation, data):
    """The attack: the counts of before and after differ by what the five have rated, and by nobody's list alone."""
    state, users = federation.sides[NAME].state, users_of(data)
    before, every = first_counts(federation), data.rows(NAME, held=False)
    forget_at_node(state, users[:5])
    former = federation.finished(2)
    federation.start(NAME, *OTHERS)
    federation.serve(former=former)
    assert (forgotten_users(state.folder).users, forgotten_users(state.folder).waiting) == (5, 0)
    left = before - first_counts(federation)
    numbers = [int(user) - 7_310_001 for user in users[:5]]
    rated = [np.bincount(every.item[every.user == number], minlength=30) for number in numbers]
    np.testing.assert_array_equal(left, sum(rated))
    assert all((left != each).any() for each in rated)


def test_fewer_than_five_wait_for_a_training_from_the_start(federation, data):
    users = users_of(data)
    with pytest.raises(HierfedError, match="1 of at least 5 users"):
        forget_at_node(federation.sides[NAME].state, users[:1])
    assert not federation.sides[NAME].state.record(FORGOTTEN)
    assert forget_at_node(federation.sides[NAME].state, users[:1], fresh_rounds=True).waiting == 1
    former = federation.finished(2)
    federation.start(NAME, *OTHERS)
    federation.sent.clear()
    federation.serve(former=former, nodes=2)
    assert "1 of at least 5 users of this node have other ratings" in str(federation.sides[NAME].__dict__["failure"])
    assert not [kind for name, kind, _ in federation.sent if name == NAME and kind == "round"]
    # Who says so takes part all the same; and a training from the start has no such condition.
    federation.place.joinpath("server").rename(federation.place / "other")
    federation.start(NAME, *OTHERS)
    federation.serve()
    assert not federation.sides[NAME].__dict__.get("failure")
    assert len(federation.sides[NAME].state.record(TAUGHT)["users"]) == len(users) - 1
    # They are out of the sums by now: the next one is counted alone.
    assert forget_at_node(federation.sides[NAME].state, users[1:2], fresh_rounds=True).waiting == 1


def test_a_policy_may_ask_for_fewer(federation, data):
    forget_at_node(federation.sides[NAME].state, users_of(data)[:1], fresh_rounds=True)
    former = federation.finished(2)
    federation.start(*OTHERS)
    federation.start(NAME, policy=Policy(least_nodes=1, least_raters=1, least_users=1))
    federation.serve(former=former)
    assert federation.records[-1].contributors == [NAME, *OTHERS]


def test_strangers_are_refused_and_copies_beside_the_state_are_told(federation, data, tmp_path):
    state, users = federation.sides[NAME].state, users_of(data)
    with pytest.raises(HierfedError, match="no user 'nobody' at this node"):
        forget_at_node(state, [*users[:5], "nobody"])
    copy = state.folder.parent / "copy" / f"{user_file(users[0])}.safetensors"
    copy.parent.mkdir()
    copy.write_bytes(b"")
    assert forget_at_node(state, users[:5]).remains == (copy.resolve(),)
    with pytest.raises(HierfedError, match="all users of this node are forgotten"):
        forget_at_node(state, users)
        own_source(state, state.origin)


def test_who_has_only_seen_items_or_only_test_rows_goes_too(village, make_settings, tmp_path):
    table = pl.DataFrame({"user": ["a", "a", "b", "c"], "item": [501, 502, 501, 503], "rating": [3.0, 4.0, 5.0, -1.0]})
    table.write_parquet(tmp_path / "rows.parquet")
    table.filter(pl.col("user") == "b").with_columns(pl.lit(504).alias("item")).write_parquet(tmp_path / "test.parquet")
    found = village(make_settings("hierarchical"), "node 1")
    state = found.sides["node 1"].state
    places = {"test": str(tmp_path / "test.parquet"), "table": {"no_rating": [-1.0]}}
    origin = Origin(str(tmp_path / "rows.parquet"), **places)
    every = own_ratings(read_source(origin), found.data.catalogue)
    assert (len(every.train), len(every.test)) == (3, 1)
    state.begin("node 1", origin)
    assert own_source(state, origin).train.seen["user"].to_list() == ["c"]
    assert forget_at_node(state, ["b", "c"]).waiting == 0
    assert own_source(state, origin).train.seen.is_empty()
    left = own_ratings(own_source(state, origin), found.data.catalogue)
    assert left.user_ids.to_list() == ["a"]
    assert (len(left.train), len(left.test)) == (2, 0)

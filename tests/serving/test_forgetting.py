"""Users are forgotten: no file, no row, and no part in the shared model; sums of before and after tell of nobody."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hierfed.data.rater_classes import rounded_up
from hierfed.data.ratings import rows_to_predict
from hierfed.engines.in_process import run_rounds
from hierfed.errors import HierfedError
from hierfed.ledger.audit import audit
from hierfed.ledger.book import read_chain
from hierfed.ledger.entries import Continued
from hierfed.runs.folder import read_results
from hierfed.runs.kept_rows import kept_rows
from hierfed.runs.private_files import all_users, user_file
from hierfed.serving.forgetting import forget_users
from hierfed.serving.served import Served

USERS = 20
GONE = ["u1", "u2", "u3", "u5", "u8"]


def classes(folder: Path) -> np.ndarray:
    """The classes of raters in the shared model of a run."""
    return Served(folder).shared.arrays["raters"].numpy()


def counts(folder: Path) -> np.ndarray:
    """The counts of raters that whoever adds up a run's opening sums sees."""
    method, nodes = Served(folder).method, kept_rows(folder, "hierarchical").nodes()
    sent = [each.arrays["raters"] for each, _ in method.contribute(method.start(), nodes, [None] * len(nodes))]
    return sum(each.numpy() for each in sent)


def test_nothing_of_the_users_is_left_in_the_run(run):
    before = Served(run).shared
    rows = {name: Served(run).user(name).own for name in GONE}
    done = forget_users(run, GONE, most_rounds=2, tolerance=0)
    assert (done.users, done.rounds, done.remains) == (5, 2, ())
    assert not {*all_users(run)} & {*GONE}
    assert not [path for path in run.rglob("*") for name in GONE if user_file(name) in path.name]
    after = Served(run).shared
    lost = sum(np.bincount(each.item, minlength=15) for each in rows.values())
    # Without the users, what is summed of the items is what the others gave.
    counts = np.bincount(np.concatenate([Served(run).user(name).own.item for name in all_users(run)]), minlength=15)
    assert after.arrays["users"] == before.arrays["users"] - 5
    np.testing.assert_array_equal(after.arrays["raters"], rounded_up(counts, 3))
    assert lost.sum() == 45
    chain = read_chain((run / "ledger.jsonl").read_bytes(), run / "ledger.jsonl")
    (entry,) = [each for each in chain.entries if isinstance(each, Continued)]
    assert (entry.forgotten, entry.model) == (5, before.digest())
    assert not any(name in (run / "ledger.jsonl").read_text() for name in ('"u1"', '"u8"'))
    assert audit(run).sealed
    assert read_results(run)[0].updates[0].forgotten == 5


def test_further_rounds_end_where_a_training_without_the_users_ends(run, tmp_path):
    """At the fixed point nothing tells where the rounds began."""
    shutil.copytree(run, tmp_path / "other")
    served, every = Served(run), rows_to_predict(np.zeros(15), np.arange(15))
    others = kept_rows(run, "hierarchical").without(GONE).nodes()
    anew = run_rounds(served.method, others, 80)
    models = served.method.personalise(anew.shared, others, anew.private)
    forget_users(run, GONE, most_rounds=80, tolerance=1e-9)
    users, found, kept = kept_rows(run, "hierarchical").user_ids, Served(run), Served(tmp_path / "other")
    off, was = [], []
    for model, node in zip(models, others, strict=True):
        for user in np.unique(node.train.user).tolist():
            truth = model.predict(replace(every, user=np.full(15, user)))
            off += (found.user(users[user]).model.predict(every) - truth).abs().tolist()
            was += (kept.user(users[user]).model.predict(every) - truth).abs().tolist()
    assert max(off) < 1e-5
    assert max(was) > 1e-2


def test_few_users_are_refused_since_sums_of_before_and_after_tell_of_them(run):
    """The attack: of one user who leaves, the difference of two counts is the list of rated items."""
    with pytest.raises(HierfedError, match="4 of at least 5 users"):
        forget_users(run, GONE[:4])
    forget_users(run, ["u9"], fresh_rounds=True)
    own, before, told = Served(run).user("u1").own, counts(run), classes(run)
    forget_users(run, ["u1"], fresh_rounds=True)
    left = before - counts(run)
    assert set(np.flatnonzero(left)) == set(own.item)
    # Two models tell of an item only where one rater less changes its class.
    assert set(np.flatnonzero(told - classes(run))) < set(own.item)


def test_of_five_users_the_same_difference_names_no_ones_items(run):
    forget_users(run, ["u9"], fresh_rounds=True)
    rows, before = [Served(run).user(name).own for name in GONE], counts(run)
    forget_users(run, GONE, most_rounds=1)
    left = set(np.flatnonzero(before - counts(run)))
    assert left == set(np.concatenate([each.item for each in rows]))
    assert all(left - set(each.item) for each in rows)


def test_strangers_are_refused_and_what_lies_elsewhere_is_told(run, tmp_path):
    with pytest.raises(HierfedError, match="no user 'nobody'"):
        forget_users(run, [*GONE, "nobody"])
    shutil.copytree(run, tmp_path / "copy")
    remains = forget_users(run, GONE, most_rounds=1).remains
    assert len(remains) == 5
    assert all("copy" in path.parts for path in remains)


def test_all_users_cannot_leave(run):
    with pytest.raises(HierfedError, match="no rating is left"):
        forget_users(run, [f"u{k}" for k in range(USERS)])


def test_what_users_have_seen_goes_too(run):
    before = kept_rows(run, "hierarchical")
    seen = pl.DataFrame({"user": ["u1", "u4"], "item": pl.Series([0, 0], dtype=pl.Int32)})
    left = type(before)(before.rows, seen).without(GONE)
    assert left.seen["user"].to_list() == ["u4"]
    assert not set(left.rows["user"]) & {*GONE}


def test_a_move_that_was_cut_off_is_finished_by_the_next_command(run, monkeypatch):
    move = Path.replace

    def cut_off(path: Path, target: Path) -> Path:
        if path.parent.name == ".unfinished-update" and target.parent == run:
            raise KeyboardInterrupt
        return move(path, target)

    with monkeypatch.context() as broken:
        broken.setattr(Path, "replace", cut_off)
        with pytest.raises(KeyboardInterrupt):
            forget_users(run, GONE, most_rounds=1)
    assert (run / ".former").is_dir()
    with pytest.raises(HierfedError, match="no user 'u1'"):
        forget_users(run, GONE)
    assert not (run / ".former").exists()
    assert not (run / ".unfinished-update").exists()
    assert audit(run).sealed
    assert Served(run).user("u4") is not None

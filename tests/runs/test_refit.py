"""Users once a run is judged: they learn from all their rows, and nothing that they rated is recommended to them."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from hierfed import cli
from hierfed.data.ratings import rows_to_predict
from hierfed.engines.in_process import run_rounds
from hierfed.errors import HierfedError
from hierfed.experiment import Outcome, run_experiment
from hierfed.runs import reports
from hierfed.runs.private_files import INDEX, NOWHERE, PRIVATE
from hierfed.sealed import sealed_json
from hierfed.serving.served import Served
from hierfed.settings import load_settings
from tests.serving.test_served import SMALL

USERS, ITEMS, PER_USER = 40, 50, 16
URL = "https://example.org/users/" + "x" * 300


def id_of(user: int) -> str:
    """Ids that no file may be called, and two that are one on some disks."""
    return {0: "用" * 90, 1: URL, 2: "A", 3: "a"}.get(user, f"user {user}")


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> str:
    """The last user has a single rating, which a split may hold out."""
    rng, place = np.random.default_rng(3), tmp_path_factory.mktemp("table") / "ratings.csv"
    quality, taste = rng.normal(0, 0.7, ITEMS), rng.normal(0, 0.5, USERS)
    rows = [
        (id_of(user), f"i{item}", float(np.clip(round(2 * (3.4 + quality[item] + taste[user])) / 2, 0.5, 5)))
        for user in range(USERS)
        for item in rng.choice(ITEMS, PER_USER if user < USERS - 4 else 1, replace=False).tolist()
    ]
    pl.DataFrame(rows, schema=["user", "item", "rating"], orient="row").write_csv(place)
    return str(place)


@pytest.fixture(scope="module")
def run(source, tmp_path_factory):
    """A saved run of these settings, made once."""
    known: dict[str, tuple[Outcome, Path]] = {}

    def make(**changes) -> tuple[Outcome, Path]:
        if str(changes) not in known:
            small = {**SMALL, "select": False, "rounds": 3, "personal_nodes": 3}
            outcome = run_experiment(load_settings("hierarchical", {**small, "data.source": source, **changes}))
            folder = tmp_path_factory.mktemp("runs") / "mine"
            reports.save_run(outcome, folder)
            known[str(changes)] = outcome, folder
        return known[str(changes)]

    return make


def rated_by(outcome: Outcome) -> dict[str, set[str]]:
    """All items that each user has rated in the source, by ids."""
    ratings, found = outcome.dataset.ratings, {str(user): set() for user in outcome.dataset.user_ids}
    items = [str(item) for item in outcome.dataset.catalogue.frame["item_id"]]
    for user, item in zip(ratings.user.tolist(), ratings.item.tolist(), strict=True):
        found[str(outcome.dataset.user_ids[user])].add(items[item])
    return found


@pytest.mark.parametrize(
    "changes",
    [
        {"protocol": "cold"},
        {"protocol": "cold", "refit": "none"},
        {"protocol": "cold", "partition": "rows"},
        {"protocol": "warm"},
        {"protocol": "warm", "refit": "none"},
        {"protocol": "warm", "personal_nodes": 2},
        {"protocol": "two_groups", "sample": 0.5},
        {"protocol": "two_groups", "sample": 0.5, "refit": "none"},
    ],
    ids=lambda changes: " ".join(map(str, changes.values())),
)
def test_nobody_is_recommended_what_they_have_rated(run, changes):
    outcome, folder = run(**changes)
    served = Served(folder)
    for user, rated in rated_by(outcome).items():
        own = served.user(user)
        assert own is not None
        answer = served.listed(user, own, 1000, why=False)
        listed = {each.item for each in answer.items}
        assert not listed & rated
        assert len(listed) == outcome.dataset.items - len(rated)
        whole = served.listed(user, own, 1000, include_seen=True, why=False)
        assert {each.item for each in whole.items if each.seen} == rated
        assert len(whole.items) == outcome.dataset.items


def test_users_all_of_whose_rows_were_held_out_are_known(run):
    _, folder = run(protocol="two_groups", sample=0.5)
    assert list((folder / PRIVATE / NOWHERE).iterdir())


@pytest.mark.parametrize("protocol", ["cold", "warm"])
def test_the_refit_learns_from_held_out_rows_and_what_was_judged_stays(run, protocol):
    outcome, folder = run(protocol=protocol)
    judged, before = run(protocol=protocol, refit="none")
    assert outcome.result.digest == judged.result.digest
    assert outcome.result.users.model_dump_json() == judged.result.users.model_dump_json()
    assert outcome.result.ranking == judged.result.ranking
    ratings, test = outcome.dataset.ratings, outcome.split.personal_test
    errors = []
    for place in (before, folder):
        served, squares = Served(place), []
        for row in test.tolist():
            user = served.user(str(outcome.dataset.user_ids[int(ratings.user[row])]))
            expected = user.model.predict(rows_to_predict(torch.tensor([0]), torch.tensor([int(ratings.item[row])])))
            squares.append((float(expected) - float(ratings.value[row])) ** 2)
        errors.append(np.mean(squares))
    assert errors[1] < 0.8 * errors[0]


def test_own_sums_are_taken_out_of_the_items_that_were_sent_and_of_no_others(
    make_pairs, make_content, make_factors, divide_users
):
    """The items of sent rows look as they did to the models that were judged, others as to those who sent nothing."""
    ratings = make_pairs(20, 15, seed=1)
    held = np.random.default_rng(0).random(len(ratings)) < 0.3
    (whole,) = divide_users(ratings, [0] * 20)
    node = replace(whole, train=ratings.take(~held), test=ratings.take(held))
    assert set(node.test.user) - set(node.train.user), "a user should have sent nothing at all"
    method = make_factors(make_content(15))
    trained = run_rounds(method, [node], 6)
    (judged,) = method.personalise(trained.shared, [node], trained.private)
    (strangers,) = method.personalise(trained.shared, [whole], [None])
    (found,) = method.personalise(trained.shared, [node], trained.private, lambda each: each.test)
    assert found.users.tolist() == sorted(set(ratings.user.tolist()))
    assert found.users.tolist() == strangers.users.tolist()
    vectors = {}
    for name, model in (("judged", judged), ("strangers", strangers)):
        users = torch.repeat_interleave(model.users, model.own.counts).tolist()
        pairs = zip(users, model.own.items.tolist(), model.own.vectors, strict=True)
        vectors[name] = {(user, item): vector for user, item, vector in pairs}
    users = torch.repeat_interleave(found.users, found.own.counts).tolist()
    sent = set(zip(node.train.user.tolist(), node.train.item.tolist(), strict=True))
    assert len(users) == len(ratings)
    for pair, vector in zip(zip(users, found.own.items.tolist(), strict=True), found.own.vectors, strict=True):
        expected = vectors["judged" if pair in sent else "strangers"][pair]
        torch.testing.assert_close(vector, expected, rtol=0, atol=1e-9)
    # Own noise is learned from all rows, around the node's own mean.
    at_node = found.newcomer - strangers.newcomer
    torch.testing.assert_close(found.prior_mean, strangers.prior_mean + at_node)
    assert not torch.allclose(found.precision[: len(judged.precision)], judged.precision)


def test_long_and_alike_ids_have_a_file_each(run):
    _, folder = run(protocol="warm")
    names = [path.name for path in (folder / PRIVATE).glob("*/*")]
    assert len({name.lower() for name in names}) == USERS
    assert max(map(len, names)) < 60
    served = Served(folder)
    for user in (id_of(0), URL, "A", "a"):
        assert served.recommend(user, 3).known
    assert served.user("A").seen.tolist() != served.user("a").seen.tolist()
    (path,) = (path for path in (folder / PRIVATE).glob("*/*") if _header(path)["user"] == URL)
    assert _header(path)["format"] == "hierfed private hierarchical 3"


def _header(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata())


def test_a_run_of_the_version_before_is_served(run, tmp_path):
    """Its files are called after their users, say nothing of them inside, and hold no other rows than train rows."""
    _, folder = run(protocol="warm", refit="none")
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    expected = Served(folder).user("user 9")
    for path in (copy / PRIVATE).glob("*/*"):
        user, tensors = _header(path)["user"], load_file(path)
        tensors.pop("seen", None)
        path.unlink()
        if len(user) < 20:
            name = f"user-{user.replace(' ', '%20')}.safetensors"
            save_file(tensors, path.with_name(name), metadata={"format": "hierfed private hierarchical 2"})
    # The version before kept no list of files.
    (copy / INDEX).write_bytes(sealed_json({"files": []}))
    served = Served(copy)
    assert served.recommend("user 9", 5).known
    found = served.user("user 9")
    torch.testing.assert_close(found.model.posterior.mean, expected.model.posterior.mean, rtol=0, atol=0)
    assert set(found.seen.tolist()) == set(found.model.own.items.tolist()) < set(expected.seen.tolist())
    assert not served.recommend(URL, 5).known


@pytest.mark.parametrize("damage", ["cut", "empty", "text"])
@pytest.mark.parametrize("what", ["user", "ranking.safetensors", "model.safetensors", "catalogue.parquet"])
def test_a_damaged_file_is_one_line_that_says_so(run, tmp_path, what, damage):
    _, folder = run(protocol="warm")
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    path = copy / what
    if what == "user":
        (path,) = (path for path in (copy / PRIVATE).glob("*/*") if _header(path)["user"] == "user 9")
    path.write_bytes({"cut": path.read_bytes()[:100], "empty": b"", "text": b"something else" * 30}[damage])
    with pytest.raises(HierfedError, match="damaged") as error:
        Served(copy).recommend("user 9", 3)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert "no run to recommend from" not in str(error.value)


def test_another_user_s_file_is_damage(run, tmp_path):
    _, folder = run(protocol="warm")
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    paths = {_header(path)["user"]: path for path in (copy / PRIVATE).glob("*/*")}
    shutil.copyfile(paths["user 8"], paths["user 9"])
    with pytest.raises(HierfedError, match="it is the file of another user"):
        Served(copy).recommend("user 9", 3)


def recommended(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Exit code and standard output of `hierfed recommend`."""
    monkeypatch.setattr(sys, "argv", ["hierfed", "recommend", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0), capsys.readouterr().out


def test_json_has_the_source_s_own_ids(run, monkeypatch, capsys):
    outcome, folder = run(protocol="warm")
    code, out = recommended(monkeypatch, capsys, str(folder), "--user", URL, "-k", "4", "--json")
    found, rated = json.loads(out), rated_by(outcome)[URL]
    assert code == 0
    assert (found["user"], found["known"], found["ordered_by"]) == (URL, True, "score")
    assert [each["rank"] for each in found["items"]] == [1, 2, 3, 4]
    assert {each["item"] for each in found["items"]} <= {f"i{item}" for item in range(ITEMS)} - rated
    assert set(found["items"][0]) == {
        *("rank", "item", "title", "rating", "lowest", "highest", "score", "seen", "reasons"),
    }
    for each in found["items"]:
        assert each["title"] == f"item {each['item']}"
        assert each["lowest"] <= each["rating"] <= each["highest"]
        assert {reason["item"] for reason in each["reasons"]} <= rated


def test_json_tells_a_stranger_from_a_user(run, monkeypatch, capsys):
    _, folder = run(protocol="warm")
    code, out = recommended(monkeypatch, capsys, str(folder), "--user", "stranger", "--json")
    found = json.loads(out)
    assert (code, found["known"], found["ordered_by"], len(found["items"])) == (0, False, "rating", 10)


def test_the_table_says_how_it_is_ordered_and_what_was_seen(run, monkeypatch, capsys):
    _, folder = run(protocol="warm")
    monkeypatch.setenv("COLUMNS", "120")
    _, out = recommended(monkeypatch, capsys, str(folder), "--user", "user 9")
    assert "score" in out
    assert "Ordered by score" in out
    assert "rated before" not in out
    _, out = recommended(monkeypatch, capsys, str(folder), "--user", "user 9", "--include-seen", "-k", "100")
    assert out.count("(rated before)") == PER_USER
    _, out = recommended(monkeypatch, capsys, str(folder), "--user", "stranger")
    assert "There are no ratings of user stranger here" in out
    assert "score" not in out


def test_the_option_is_the_setting():
    from hierfed.cli.options import DataOptions, settings_of

    assert settings_of("hierarchical", DataOptions(), seed=None, sets=None).serving.refit == "users"
    changed = settings_of("hierarchical", DataOptions(), seed=None, sets=None, refit="none")
    assert changed.serving.refit == "none"
    # Nothing that nodes agree to, and nothing that a ledger of the version before would not know.
    assert changed.digest() == load_settings("hierarchical").digest()

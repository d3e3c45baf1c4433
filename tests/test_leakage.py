"""The leakage benchmark: populations that tell nothing by their sizes, attacks that find what is there to be found."""

from __future__ import annotations

import importlib
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
import pytest

from hierfed.data.division import load_dataset
from hierfed.data.ratings import Dataset
from hierfed.errors import HierfedError, SettingsError
from hierfed.settings import load_settings

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
USERS, ROWS = 24, 20


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Ratings of 30 users and 200 films, many of which have one rater or none."""
    rng = np.random.default_rng(0)
    popularity = np.arange(1, 201) ** -1.2
    items = [rng.choice(200, 18 + user, replace=False, p=popularity / popularity.sum()) for user in range(30)]
    user, item = np.repeat(np.arange(30), [len(each) for each in items]), np.concatenate(items)
    stars = 3.2 + rng.normal(0, 0.5, 30)[user] + rng.normal(0, 0.7, 200)[item] + rng.normal(0, 0.4, len(user))
    folder = tmp_path_factory.mktemp("leakage")
    rating = np.clip(np.round(2 * stars) / 2, 0.5, 5)
    columns = {"userId": user + 1, "movieId": item + 1, "rating": rating, "timestamp": np.arange(len(user))}
    pl.DataFrame(columns).write_csv(folder / "ratings.csv")
    genres = [("Drama", "Comedy", "Drama|War")[film % 3] for film in range(200)]
    titles = [f"Film {film} ({1990 + film % 20})" for film in range(200)]
    films = {"movieId": np.arange(1, 201), "title": titles, "genres": genres}
    pl.DataFrame(films).write_csv(folder / "movies.csv")
    return load_dataset(load_settings("hierarchical", {"source": str(folder)}))


@pytest.fixture(scope="module")
def targets() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("leaks.targets")


@pytest.fixture(scope="module")
def membership(targets: ModuleType) -> ModuleType:
    return importlib.import_module("leaks.membership")


@pytest.fixture(scope="module")
def population(targets: ModuleType, dataset: Dataset):
    return targets.alike(dataset, USERS, ROWS)


@pytest.fixture
def canaries(targets: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = importlib.import_module("leaks.canaries")
    monkeypatch.setattr(module, "RATINGS", 20)
    return module


def by_sight(findings):
    return {(finding.attack, finding.seen): finding for finding in findings}


def test_users_alike_hold_as_many_ratings_and_nodes_as_many_users(population, dataset):
    assert (np.bincount(population.ratings.user) == ROWS).all()
    assert (np.bincount(population.node_of[:USERS]) == USERS // 8).all()
    pairs = set(zip(population.ratings.user.tolist(), population.ratings.item.tolist(), strict=True))
    assert len(pairs) == USERS * ROWS
    own = {
        tuple(sorted(zip(rows.item.tolist(), rows.value.tolist(), strict=True)))
        for rows in (dataset.ratings.take(dataset.ratings.user == user) for user in range(dataset.users))
    }
    for user in range(USERS):
        rows = population.ratings.take(population.ratings.user == user)
        drawn = set(zip(rows.item.tolist(), rows.value.tolist(), strict=True))
        assert sum(drawn <= set(each) for each in own) == 1


def test_a_population_that_is_not_there_is_refused(targets, dataset):
    with pytest.raises(SystemExit, match="28 users have 20 ratings or more, 29 were asked for"):
        targets.alike(dataset, 29, ROWS)


def test_trainings_repeat_and_differ_by_their_seeds(targets, population):
    digests = [
        targets.train(targets.PRIVATE_NETWORK, population, population.ratings, seed).shared.digest()
        for seed in (0, 0, 1)
    ]
    assert digests[0] == digests[1] != digests[2]


def test_users_who_are_nodes_give_every_rating_away(targets, population):
    reconstruction = importlib.import_module("leaks.reconstruction")
    (finding,) = reconstruction.attack_user_nodes(population)
    assert finding.error < 1e-9
    assert finding.exact == 1


def test_the_threshold_keeps_what_a_film_of_one_rater_got(targets, dataset):
    reconstruction = importlib.import_module("leaks.reconstruction")
    open_to_all, under_threshold, of_node, of_all = reconstruction.attack_sums(targets.everyone(dataset))
    assert open_to_all.error < 0.8 * under_threshold.error
    assert of_node.error < 0.8 * of_all.error
    assert (under_threshold.protection, of_all.protection) == ("threshold 5", "threshold 5, secure sums")


def test_counts_tell_who_was_in_and_secure_sums_blur_them(targets, membership, population):
    found = by_sight(membership.attack_ratings(targets.HIERARCHICAL, population, 8))
    of_node, of_all = (found["rating: likelihood ratio", f"{who} raters"].area for who in ("each node's", "all nodes'"))
    assert of_node.low > of_all.high
    assert of_all.low > 0.55
    assert 0.5 < found["rating: loss", "shared model"].model_error < 1.5


def test_all_counts_together_tell_every_user(targets, membership, population):
    found = by_sight(membership.attack_users(targets.HIERARCHICAL, population, 6))
    assert found["user: linear equations", "all nodes' raters"].area.value == 1
    assert ("user: likelihood ratio", "each node's model") in found


def test_no_single_sums_are_looked_at_where_they_are_secure(targets, membership, population):
    secure = targets.Target("network", "sums", "network", {"secure_sums": True, "rounds": 1})
    seen = {finding.seen for finding in membership.attack_ratings(secure, population, 6)}
    assert seen == {"shared model"}


def test_a_canary_is_found_without_noise(targets, population, canaries):
    (finding,) = canaries.attack_canary(targets.HIERARCHICAL, population, 8)
    assert finding.area.value > 0.9
    assert finding.p_value < 0.05


def test_a_canary_needs_films_of_few_raters(targets, population, canaries, monkeypatch):
    monkeypatch.setattr(canaries, "MOST_RATERS", 4)
    with pytest.raises(HierfedError, match="0 films have 5 to 4 raters, a canary rates 20"):
        canaries.attack_canary(targets.HIERARCHICAL, population, 8)


def test_every_finding_is_a_row_and_a_curve_where_it_has_one(targets, membership, population):
    leakage, figure, row = (importlib.import_module(name) for name in ("leakage", "leaks.roc_figure", "leaks.findings"))
    findings = row.timed(lambda: membership.attack_users(targets.HIERARCHICAL, population, 6))
    table = leakage.tabulate(findings, "title")
    assert table.row_count == len(findings) == 5
    assert len(table.columns) == len(leakage.cells(findings[0]))
    assert findings[0].seconds > 0 == findings[1].seconds
    users, ratings = figure.draw(findings).axes
    assert [line.get_label() for line in users.lines] == [
        "hierarchical: shared model",
        "hierarchical: each node's model",
        "a guess",
    ]
    assert len(ratings.lines) == 1


def test_whole_users_are_not_asked_of_nodes_that_are_users(targets, dataset, population):
    leakage = importlib.import_module("leakage")
    options = Namespace(targets=["network", "private"], shadows=6, trainings=8)
    plan = [(attack.func.__name__, attack.args[0]) for attack in leakage.planned(dataset, population, options)]
    assert ("attack_ratings", targets.USER_NODES) in plan
    assert ("attack_users", targets.USER_NODES) not in plan
    assert ("attack_canary", targets.PRIVATE) in plan
    assert ("attack_ratings", targets.PRIVATE) not in plan


def test_a_preset_that_is_not_there_is_named(targets, population, membership):
    missing = targets.Target("none", "none", "no such preset")
    with pytest.raises(SettingsError, match="no preset 'no such preset'"):
        membership.attack_users(missing, population, 6)

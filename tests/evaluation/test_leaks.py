"""The leak test: it catches negatives that spare the held-out item, and passes what is sound."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hierfed import leak_test
from hierfed.cli import app
from hierfed.errors import DataError

USERS, ITEMS, RATED = 80, 300, 20
Draw = Callable[[np.random.Generator], np.ndarray]


class Data:
    """Users who rate popular items more often; the last of each user's items is held out."""

    def __init__(self, seed: int = 0):
        rng = np.random.default_rng([7, seed])
        self.popularity = 1 / (np.arange(ITEMS) + 10)
        self.popularity /= self.popularity.sum()
        rated = [rng.choice(ITEMS, RATED, replace=False, p=self.popularity) for _ in range(USERS)]
        self.train = pairs([items[:-1] for items in rated])
        self.test = pairs([items[-1:] for items in rated])
        self.touched = [set(items.tolist()) for items in rated]
        self.known = [set(items[:-1].tolist()) for items in rated]

    def sampler(self, barred: list[set[int]], each: int, weights: np.ndarray | None = None) -> Draw:
        """Draws so many items of each user, with these weights, that are not among the barred ones."""

        def draw(rng: np.random.Generator) -> np.ndarray:
            found = []
            for items in barred:
                drawn = rng.choice(ITEMS, 3 * each, p=weights)
                found.append(drawn[~np.isin(drawn, list(items))][:each])
            return pairs(found)

        return draw

    def candidates(self) -> Draw:
        """99 items that the user never touched."""

        def draw(rng: np.random.Generator) -> np.ndarray:
            free = [np.setdiff1d(np.arange(ITEMS), list(items)) for items in self.touched]
            return pairs([rng.choice(items, 99, replace=False) for items in free])

        return draw


def pairs(items: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.column_stack([np.full(len(each), user), each]) for user, each in enumerate(items)])


def test_published_negatives_which_spare_the_held_out_item_are_caught():
    data = Data()
    found = leak_test(data.train, data.test, data.candidates(), negatives=data.sampler(data.touched, 1500))
    assert found.tested
    assert found.leaks
    assert found.hit_rate > 0.7
    assert found.chance == pytest.approx(0.1, abs=0.04)
    assert str(found).startswith("leak: ")


def test_few_negatives_leak_less_and_are_caught_too():
    data = Data()
    assert leak_test(data.train, data.test, data.candidates(), negatives=data.sampler(data.touched, 250)).leaks


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["uniform", "by popularity", "against popularity", "whatever was rated"])
def test_twenty_sound_samplers_are_not_flagged(kind: str, seed: int):
    data = Data(seed)
    weights = {"by popularity": data.popularity, "against popularity": 1 / data.popularity}.get(kind)
    weights = None if weights is None else weights / weights.sum()
    barred = [set() for _ in data.known] if kind == "whatever was rated" else data.known
    found = leak_test(
        data.train, data.test, data.candidates(), negatives=data.sampler(barred, 100 + 50 * seed, weights)
    )
    assert found.tested
    assert not found.leaks
    assert str(found).startswith("no leak found: ")


def test_candidates_that_are_the_training_negatives_are_caught():
    data = Data()
    drawn = data.candidates()(np.random.default_rng(3))
    everyone = data.sampler(data.known, 50)
    negatives = lambda rng: np.concatenate([everyone(rng), drawn])  # noqa: E731
    assert leak_test(data.train, data.test, lambda rng: drawn, negatives=negatives).leaks


def trained(barred: list[set[int]] | None):
    """A model of vectors of the user's own: what was drawn as a negative falls; popular items rise for everyone."""

    def fit(train: np.ndarray, rng: np.random.Generator):
        scores = np.log1p(np.bincount(train[:, 1], minlength=ITEMS))[None] + rng.normal(0, 0.01, (USERS, ITEMS))
        for user in range(USERS):
            known = set(train[train[:, 0] == user, 1].tolist()) if barred is None else barred[user]
            drawn = rng.integers(ITEMS, size=400)
            drawn = drawn[~np.isin(drawn, list(known))]
            np.subtract.at(scores[user], drawn, 1.0)
        return lambda users, items: scores[users, items]

    return fit


def test_a_training_that_knows_what_users_touch_later_is_caught_and_one_that_does_not_is_not():
    data = Data()
    assert leak_test(data.train, data.test, data.candidates(), fit=trained(data.touched)).leaks
    assert not leak_test(data.train, data.test, data.candidates(), fit=trained(None)).leaks


def test_a_training_that_knows_the_items_popularity_from_elsewhere_is_not_flagged():
    data = Data()

    def fit(train: np.ndarray, rng: np.random.Generator):
        return lambda users, items: data.popularity[items]

    found = leak_test(data.train, data.test, data.candidates(), fit=fit)
    assert found.hit_rate > 0.15
    assert not found.leaks


def test_finished_scores_cannot_be_tested_and_never_pass():
    data = Data()
    found = leak_test(data.train, data.test, data.candidates(), scores=np.ones((USERS, ITEMS)))
    assert not found.tested
    assert str(found).startswith("cannot be tested")


def test_what_cannot_be_a_test_is_refused():
    data = Data()
    sampler = data.sampler(data.known, 10)
    with pytest.raises(DataError, match="give one of"):
        leak_test(data.train, data.test, data.candidates())
    with pytest.raises(DataError, match="seeds are too few"):
        leak_test(data.train, data.test, data.candidates(), negatives=sampler, seeds=4)
    with pytest.raises(DataError, match="one test item for each"):
        leak_test(data.train, np.concatenate([data.test, data.test]), data.candidates(), negatives=sampler)
    with pytest.raises(DataError, match="train: expected pairs"):
        leak_test(data.train[:, 0], data.test, data.candidates(), negatives=sampler)
    with pytest.raises(DataError, match="negatives: expected pairs"):
        leak_test(data.train, data.test, data.candidates(), negatives=lambda rng: np.ones((4, 2)))


def test_the_command_reads_files_and_functions_and_its_exit_code_tells(tmp_path, capsys):
    data, rng = Data(), np.random.default_rng(0)
    files = {
        "train": data.train,
        "test": data.test,
        "candidates": data.candidates()(rng),
        "spared": data.sampler(data.touched, 400)(rng),
        "sound": data.sampler(data.known, 400)(rng),
    }
    for name, rows in files.items():
        lines = "\n".join(f"{user},{item}" for user, item in rows.tolist())
        (tmp_path / f"{name}.csv").write_text(f"user,item\n{lines}\n")
    (tmp_path / "mine.py").write_text(
        "import numpy as np\ndef draw(rng):\n"
        "    return np.column_stack([np.repeat(np.arange(80), 200), rng.integers(300, size=16000)])\n"
    )
    common = [part for name in ("train", "test", "candidates") for part in (f"--{name}", str(tmp_path / f"{name}.csv"))]

    def command(*words: str) -> int:
        return int(app(["leak-test", *common, *words], standalone_mode=False) or 0)

    assert command("--negatives", str(tmp_path / "spared.csv")) == 1
    assert command("--negatives", str(tmp_path / "sound.csv")) == 0
    assert command("--negatives", f"{tmp_path / 'mine.py'}:draw") == 0
    assert command("--scores", "finished.csv") == 3
    said = capsys.readouterr().out
    assert said.count("leak: ") == 1
    assert said.count("no leak found: ") == 2
    assert "cannot be tested" in said
    with pytest.raises(DataError, match="has no function 'other'"):
        command("--negatives", f"{tmp_path / 'mine.py'}:other")
    with pytest.raises(DataError, match="expected a CSV file"):
        command("--negatives", str(tmp_path / "mine.py"))

"""The data of a run: the data set that the settings name, divided into train and test parts and among nodes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from hierfed.data import splits
from hierfed.data.features import genre_flags
from hierfed.data.federation import Nodes, rows_by_node
from hierfed.data.partitions import RowsToDivide, partitioner_of
from hierfed.data.rating_codes import code_warning
from hierfed.data.ratings import Dataset, Ratings
from hierfed.data.reading.download import Progress
from hierfed.data.reading.sources import load
from hierfed.data.users_of_rows import TooFewError
from hierfed.errors import DataError, SettingsError
from hierfed.randomness import generator
from hierfed.settings import Settings

# Share of test rows. If users rate many items in a second, as in MovieLens, a few are tied.
_MANY_TIED = 0.2
TEST_SHARE = {"warm": 0.2, "temporal": 0.2, "cold": 0.3}


@dataclass(frozen=True)
class Allocation:
    """The data of a run before it learns: the data set, its split, and the rows of each node.

    settings: with the protocol that follows from the data.
    personal_nodes: the federated nodes themselves if both are the same.
    """

    settings: Settings
    dataset: Dataset
    split: splits.Split
    nodes: Nodes
    personal_nodes: Nodes

    @property
    def all_nodes(self) -> tuple[Nodes, Nodes]:
        """The federated and the personalisation nodes."""
        return self.nodes, self.personal_nodes

    def parts(self) -> Parts:
        """The rows in the parts of the split."""
        return Parts(self.dataset.ratings, self.split)

    def rated(self) -> Parts:
        """The same, without held-out rows where these are no ratings, so that no rating is judged."""
        return Parts(self.dataset.ratings, _rated(self.split, self.settings))


@dataclass(frozen=True)
class Parts:
    """The ratings in the parts of a split. A part copies its rows, so it is made on demand."""

    ratings: Ratings
    split: splits.Split

    @property
    def train(self) -> Ratings:
        """The rows that the global model learns from."""
        return self.ratings.take(self.split.train)

    @property
    def test(self) -> Ratings:
        """The rows that judge the global model."""
        return self.ratings.take(self.split.test)

    @property
    def personal_train(self) -> Ratings:
        """The rows that personal models are fitted on."""
        return self.ratings.take(self.split.personal_train)

    @property
    def personal_test(self) -> Ratings:
        """The rows that judge personal models."""
        return self.ratings.take(self.split.personal_test)

    @property
    def personal(self) -> tuple[Ratings, Ratings]:
        """The rows that personal models are fitted on, and those that judge them."""
        return self.personal_train, self.personal_test

    @property
    def known(self) -> Ratings:
        """All rows that any model learns from."""
        return self.ratings.take(np.union1d(self.split.train, self.split.personal_train))

    @property
    def same(self) -> bool:
        """True if the personalisation users' rows are the federated users' own."""
        return self.split.personal_train is self.split.train and self.split.personal_test is self.split.test


def allocate(dataset: Dataset, settings: Settings, with_times: bool = False) -> Allocation:
    """Divide a data set as the settings say."""
    settings = with_own_protocol(settings, dataset)
    split = divide(dataset, settings)
    return Allocation(settings, dataset, split, *assign(dataset, _rated(split, settings), settings, with_times))


def _rated(split: splits.Split, settings: Settings) -> splits.Split:
    nothing = split.train[:0]
    return replace(split, test=nothing, personal_test=nothing) if settings.data.implicit else split


def warnings_of(allocation: Allocation) -> list[str]:
    """Warnings on the ratings and their division that matter for trust in the figures, a line each."""
    ratings = allocation.dataset.ratings
    found = [code_warning(ratings.value)]
    protocol = allocation.settings.split.protocol
    if protocol == "loo" and not splits.ordered(ratings):
        found.append(
            "protocol 'loo': no time tells a user's ratings apart, so each user's test rating is drawn at random"
        )
    elif allocation.settings.split.newest:
        tied = splits.tied_share(ratings, allocation.split)
        if tied >= _MANY_TIED:
            found.append(
                f"protocol '{protocol}': {tied:.0%} of the test rows bear the same time as train rows of their user, "
                "so that the order in which they are listed decides which are test"
            )
    return [line for line in found if line]


def as_seen(dataset: Dataset) -> Dataset:
    """The data set without its ratings: each row says that the user has seen the item, and has the value 1."""
    ratings = dataset.ratings
    return replace(dataset, ratings=replace(ratings, value=np.ones(len(ratings), np.float32)))


def load_dataset(settings: Settings, progress: Progress | None = None, table: pl.DataFrame | None = None) -> Dataset:
    """The ratings and the catalogue that the settings name.

    progress: called with a download's bytes.
    table: the ratings themselves, in place of the settings' source.
    """
    data = settings.data
    found = load(
        data.source if table is None else table,
        join=data.join,
        unmatched=data.unmatched or None,
        how=data,
        test=data.test or None,
        query=data.query,
        progress=progress,
    )
    return as_seen(found) if data.implicit else found


def with_own_protocol(settings: Settings, dataset: Dataset) -> Settings:
    """The settings, with protocol `given` if the data name their test rows, since no other choice is left."""
    if dataset.test_rows is None:
        return settings
    return settings.model_copy(update={"split": settings.split.model_copy(update={"protocol": "given"})})


def divide(dataset: Dataset, settings: Settings) -> splits.Split:
    """The split by the settings' protocol. If the source names its test rows, the split has those.

    Judged on validation rows, the test rows are unused, and the same protocol splits the others once more.
    """
    ratings, choice = dataset.ratings, settings.split
    if choice.judged_on == "test" and dataset.test_rows is not None:
        rng = generator(settings.seed, 0, 0, "split")
        return splits.given(dataset.test_rows, sample=choice.sample, rng=rng)
    if choice.judged_on == "test":
        return _drawn(ratings, settings, "split")
    if dataset.test_rows is not None or choice.protocol in ("given", "none"):
        raise SettingsError("split.judged_on 'validation': needs a protocol that draws its test rows: choose 'warm'")
    split = _drawn(ratings, settings, "split")
    known = np.union1d(split.train, split.personal_train)
    again = _drawn(ratings.take(known), settings, "validation split")
    return splits.renumbered(again, known, np.setdiff1d(np.arange(len(ratings)), known))


def _drawn(ratings: Ratings, settings: Settings, purpose: str) -> splits.Split:
    rng, choice = generator(settings.seed, 0, 0, purpose), settings.split
    if choice.protocol == "given":
        raise SettingsError("protocol 'given' needs test rows: name them with --test (a file, or a split such as u1)")
    share = choice.test_share or TEST_SHARE.get(choice.protocol, 0.0)
    if choice.protocol == "warm":
        return splits.warm(ratings, test_share=share, rng=rng)
    if choice.protocol in ("temporal", "none"):
        return splits.temporal(ratings, test_share=share) if choice.newest else splits.everything(len(ratings))
    if choice.protocol == "loo":
        return splits.loo(ratings, rng=rng)
    if choice.protocol == "cold":
        return splits.cold(ratings, federated_users=choice.federated_users, test_share=share, rng=rng)
    return splits.two_groups(
        ratings,
        federated_users=choice.federated_users,
        train_rows=choice.train_rows,
        sample=choice.sample,
        personal_train_rows=choice.personal_train_rows,
        rng=rng,
    )


def assign(dataset: Dataset, split: splits.Split, settings: Settings, with_times: bool = False) -> tuple[Nodes, Nodes]:
    """The federated nodes, which train the global model, and the personalisation nodes, which adapt it.

    Both are the same if the same users do both and are divided alike. A node's ratings have times only where the
    newest rows are test, or with_times is True because the method needs them. Raises DataError, with the settings to
    change, for more nodes than users.
    """
    ratings, federation, personal = dataset.ratings, settings.federation, settings.personalisation
    # Times take two fifths of a rating's bytes, and hardly anything else needs them.
    held = ratings if settings.split.newest or with_times else replace(ratings, time=None)

    def divided(train: np.ndarray, test: np.ndarray, how: str, count: int, purpose: str, *numbers: str) -> Nodes:
        partitioner = partitioner_of(how)
        # If a partitioner keeps users together, a row's node does not depend on the row's place.
        whole = partitioner.keeps_users and len(train) + len(test) == len(ratings)
        rows = None if whole else np.concatenate([train, test])
        divided_rows = RowsToDivide(
            user=_chosen(ratings.user, rows),
            item=_chosen(ratings.item, rows),
            time=None if ratings.time is None else _chosen(ratings.time, rows),
            nodes=count,
            skew=federation.skew,
            concentration=federation.concentration,
            sorted_share=federation.sorted_share,
            genre_flags=lambda: genre_flags(dataset.catalogue)[0],
            value=lambda: _chosen(_known_values(ratings, test), rows),
            rng=generator(settings.seed, 0, 0, purpose),
        )
        try:
            node = partitioner.divide(divided_rows)
        except TooFewError as error:
            remedy = " ".join(f"--set {number}={error.available}" for number in numbers)
            raise DataError(f"{error} ({remedy})") from error
        if rows is not None:
            node_of_rows, node = node, np.zeros(len(ratings), node.dtype)
            node[rows] = node_of_rows
        learned, judged = (rows_by_node(held, node, count, part) for part in (train, test))
        return Nodes(learned, judged, np.arange(count))

    nobody = split.train[:0]
    alike = (federation.partition, federation.nodes) == (personal.personal_partition, personal.personal_nodes)
    if alike and split.personal_train is split.train:
        numbers = ("nodes", "personal_nodes")
        nodes = divided(split.train, split.personal_test, federation.partition, federation.nodes, "partition", *numbers)
        return nodes, nodes
    return (
        divided(split.train, nobody, federation.partition, federation.nodes, "partition", "nodes"),
        divided(
            split.personal_train,
            split.personal_test,
            personal.personal_partition,
            personal.personal_nodes,
            "personal partition",
            "personal_nodes",
        ),
    )


def _known_values(ratings: Ratings, test: np.ndarray) -> np.ndarray:
    """The ratings, NaN where they are test rows, so that a division tells nothing of them."""
    known = ratings.value.copy()
    known[test] = np.nan
    return known


def _chosen(column: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
    return column if rows is None else column[rows]

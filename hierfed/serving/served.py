"""A finished run, loaded from its folder, answering for one user at a time.

The shared model, the catalogue and the ranking models are public within the federation; the user's own file is private
to the user's node. Together they give the numbers of the run, in any process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import torch
from torch import Tensor

from hierfed.data.ratings import Ratings, rows_to_predict
from hierfed.errors import HierfedError
from hierfed.federated.method import Learner, Restorer, Scorer
from hierfed.federated.private import PersonalModel, UncertainModel
from hierfed.federated.stage import RATING
from hierfed.methods import Case, prepare
from hierfed.models.influence import Influence, strongest
from hierfed.models.intervals import half_width
from hierfed.models.lists import exclude, top
from hierfed.plain_text import printable
from hierfed.runs.models import MODEL, RANKING, load_model, load_ranking, read_header, sound
from hierfed.runs.private_files import UserFile, node_tensors, read_files, read_private
from hierfed.runs.served_pair import NODE, pair_folder
from hierfed.sealed import damaged
from hierfed.serving.answers import Answer, Reason, Recommendation, Twin

REASONS = 3
RESULT = "result.json"
LONGEST_TITLE = 200
# Nodes whose files are remembered, since all their users need them.
KEPT_NODES = 16


@dataclass(frozen=True)
class ServedUser:
    """A user whom the run knows.

    make: gives the user's own model, a newcomer's where nothing was learned of the user.
    own: the ratings that the model knows, of user 0.
    seen: the numbers of all items that the user has rated, some twice.
    """

    make: Callable[[], PersonalModel]
    own: Ratings
    seen: Tensor

    @cached_property
    def model(self) -> PersonalModel:
        """The user's own model, made when it is first asked for: most lists need none."""
        return self.make()


class Served:
    """A run, or a node's state, that answers. catalogue: one row per item number, as hierfed.data.catalogue has it.

    superseded: whether a newer model waits for `hierfed personalise`.
    """

    def __init__(self, folder: Path):
        self.folder = pair_folder(folder)
        judged = (folder / RESULT).is_file()
        if not judged and self.folder == folder and (folder / MODEL).is_file() and not (folder / NODE).is_file():
            raise HierfedError(f"{folder}: half a run: it was stopped while it was saved; run it again")
        if judged and not (self.folder / MODEL).is_file():
            raise damaged(self.folder / MODEL, "it is missing", "run again, or take it from a copy")
        if not (self.folder / MODEL).is_file():
            several = (folder / "summary.json").is_file()
            hint = f"name one of its seeds, such as {folder}/seed-0" if several else "runs are under runs/"
            raise HierfedError(f"{folder}: no run to recommend from; {hint}")
        kept = load_model(self.folder)
        if reason := kept.header.get("unserved"):
            raise HierfedError(f"{folder}: the run serves no users: {printable(reason)}")
        self.settings, self.catalogue = kept.settings, kept.catalogue
        self.limits, self.header = kept.limits, kept.header
        self.trained = load_ranking(self.folder) or {}
        self.method = prepare(Case(kept.settings, kept.catalogue, kept.limits, self.trained)).method
        with sound(self.folder / MODEL):
            self.shared = self.method.from_named(kept.shared.arrays, kept.shared.round)
        newest = folder / MODEL
        self._node_file = lru_cache(KEPT_NODES)(node_tensors)
        self.superseded = newest.is_file() and read_header(folder).get("digest") != kept.header.get("digest")

    @cached_property
    def restore(self) -> Restorer:
        """The function that makes users' models from their own files."""
        with sound(self.folder / MODEL):
            restore: Restorer = self.method.restorer(self.shared)
            return restore

    @cached_property
    def learn(self) -> Learner:
        """The function that makes models of users who took part in nothing, from their own ratings."""
        with sound(self.folder / MODEL):
            learn: Learner = self.method.learner(self.shared)
            return learn

    @property
    def newcomer(self) -> ServedUser:
        """A user without any rating."""
        return ServedUser(partial(self.restore, {}), _ratings({}), torch.empty(0, dtype=torch.int64))

    def learned(self, own: Ratings) -> ServedUser:
        """User 0 with these ratings, who took part in nothing."""
        if not len(own):
            return self.newcomer
        model = self.learn(own)
        return ServedUser(lambda: model, own, torch.from_numpy(own.item).long())

    def user(self, user_id: str) -> ServedUser | None:
        """One user, from the user's own files alone; None for a user without any.

        A user of several nodes is served from the first of them, and has seen what was rated on any.
        """
        files = read_private(self.folder, self.settings.method, user_id, self._node_file)
        return self._user(files) if files else None

    def user_at(self, user_id: str, paths: Sequence[Path]) -> ServedUser:
        """One user whose files' paths are known; see `user`."""
        return self._user(read_files(paths, self.settings.method, user_id, self._node_file))

    def _user(self, files: Sequence[UserFile]) -> ServedUser:
        found, seen = [], []
        for file in files:
            seen.append(file.seen)
            if file.tensors:
                with sound(file.path):
                    own = _ratings(file.tensors)
                    seen.append(torch.from_numpy(own.item))
                found.append((partial(self._restored, file), own))
        make, own = found[0] if found else (partial(self.restore, {}), _ratings({}))
        return ServedUser(make, own, torch.cat(seen))

    def _restored(self, file: UserFile) -> PersonalModel:
        with sound(file.path):
            return self.restore(file.tensors)

    def recommend(self, user_id: str, count: int, include_seen: bool = False, now: int | None = None) -> Answer:
        """The best items for a user, best first; for a user without ratings what suits a newcomer.

        include_seen: whether to list what the user has rated too. now: the moment for which one asks, in seconds since
        1970; None leaves times out.
        """
        user = self.user(user_id)
        return self.listed(user_id, user or self.newcomer, count, include_seen, known=user is not None, now=now)

    def listed(
        self,
        user_id: str,
        user: ServedUser,
        count: int,
        include_seen: bool = False,
        *,
        known: bool = True,
        allowed: Tensor | None = None,
        order: str = "",
        why: bool = True,
        now: int | None = None,
    ) -> Answer:
        """The best items for a user, best first.

        known: whether the run knows the user. allowed: bool [items], the items that may be listed; None for all.
        order: the scorer that orders the list, as in `scores`. why: whether reasons are worked out, which takes as long
        as all the rest. now: as in `recommend`.
        """
        seen = torch.zeros(1, len(self.catalogue), dtype=torch.bool)
        seen[0, user.seen] = True
        out = torch.zeros_like(seen) if include_seen else seen
        if allowed is not None:
            out = out | ~allowed
        scores, ordered_by = self.scores(user, order)
        chosen = top(exclude(scores, out), min(count, int((~out).sum())))[0]
        rating, low, high = self.expected(user.model, chosen, now)
        reasons = self.reasons_of(user, chosen, now) if why else [()] * len(chosen)
        listed = tuple(
            Recommendation(
                rank=row + 1,
                item=self.item_id(item),
                title=self.title(item),
                rating=rating[row],
                lowest=low[row],
                highest=high[row],
                score=float(scores[0, item]),
                seen=bool(seen[0, item]),
                reasons=reasons[row],
            )
            for row, item in enumerate(chosen.tolist())
        )
        return Answer(user_id, known, ordered_by, listed, self.limits[0] < self.limits[1])

    def reasons_of(self, user: ServedUser, items: Tensor, now: int | None = None) -> list[tuple[Reason, ...]]:
        """The own ratings that moved each of these items most; nothing where the model does not say."""
        influence = user.model.influence(items, now)
        rows = range(len(items))
        return [() if influence is None else self._reasons(user.own, influence, row) for row in rows]

    def expected(
        self, model: PersonalModel, items: Tensor, now: int | None = None
    ) -> tuple[list[float], list[float] | list[None], list[float] | list[None]]:
        """Expected ratings, and the ends of their intervals; None where the model does not say how sure it is."""
        rows = rows_to_predict(torch.zeros_like(items), items, None if now is None else torch.full_like(items, now))
        if not isinstance(model, UncertainModel):
            unsure: list[None] = [None] * len(items)
            return model.predict(rows).tolist(), unsure, unsure
        mean, variance = model.distribution(rows)
        half = half_width(variance.sqrt())
        rating, low, high = (model.within(each).tolist() for each in (mean, mean - half, mean + half))
        return rating, low, high

    def scores(self, user: ServedUser, order: str = "") -> tuple[Tensor, Literal["score", "rating"]]:
        """Scores of all items, [1, items], and their kind: `score` of lists, or expected `rating`.

        order: `rating`, or one of the method's scorers, such as `ease`; empty for the method's own choice.
        A user of whom nothing is known gets expected ratings.
        """
        nobody, asked = torch.zeros(1, dtype=torch.int64), order or self.method.recommends_by
        if not self.trained and order not in ("", RATING):
            raise HierfedError(f"no order '{order}': this run trained no ranking models, so it has {RATING} alone")
        if not self.trained or not len(user.own) or asked == RATING:
            return user.model.scores(nobody, len(self.catalogue)), "rating"
        return self.scorer([user.model], user.own, asked)(nobody), "score"

    def scorer(self, models: Sequence[PersonalModel], own: Ratings, order: str) -> Scorer:
        """The scorer of this name for the users of these models; own: their ratings.

        Raises HierfedError for a name that the run does not have.
        """
        with sound(self.folder / RANKING):
            scorers = self.method.scorers(self.settings, {RATING: self.shared, **self.trained}, models, own)
        if order not in scorers:
            raise HierfedError(f"no order '{order}': this run has {', '.join(scorers)}")
        return scorers[order]

    def item_id(self, item: int) -> str:
        """The source's own id of an item."""
        return self.ids[item]

    def title(self, item: int) -> str:
        """The title and the year of an item, or its id."""
        return self._titles[item]

    @cached_property
    def ids(self) -> list[str]:
        """The source's own ids of all items."""
        return self.catalogue.frame["item_id"].cast(pl.String).to_list()

    @cached_property
    def _titles(self) -> list[str]:
        rows = self.catalogue.frame.select("title", "year").iter_rows()
        return [
            printable(f"item {item}" if title is None else str(title), LONGEST_TITLE)
            + (f" ({year})" if title is not None and year is not None else "")
            for item, (title, year) in zip(self.ids, rows, strict=True)
        ]

    def _reasons(self, own: Ratings, influence: Influence, row: int) -> tuple[Reason, ...]:
        """The own ratings that moved the item of this row most: first what raised its expected rating."""
        chosen = strongest(influence.left_out, influence.moved[row], REASONS)
        return tuple(
            Reason(*self._rated(own, first), moved=moved, twin=None if second < 0 else Twin(*self._rated(own, second)))
            for (first, second), moved in sorted(chosen, key=lambda reason: (reason[1] < 0, -abs(reason[1])))
        )

    def _rated(self, own: Ratings, place: int) -> tuple[str, str, float]:
        """Id, title and rating of an own rating."""
        item = int(own.item[place])
        return self.item_id(item), self.title(item), float(own.value[place])


def _ratings(kept: Mapping[str, Tensor]) -> Ratings:
    """The own ratings in a user's file, of user 0."""
    items = kept["items"].numpy() if kept else np.empty(0, np.int64)
    values = kept["ratings"].numpy() if kept else np.empty(0)
    return Ratings(np.zeros(len(items), np.int32), items, values)

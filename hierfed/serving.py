"""A finished run of the hierarchical model, loaded from its folder, answering for one user at a time.

The shared model, the catalogue and the ranking models are public within the federation; the user's own file is private
to the user's node. Together they give the numbers of the run, in any process.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from hierfed.answers import Answer, Reason, Recommendation
from hierfed.data.catalogue import Catalogue
from hierfed.errors import HierfedError
from hierfed.evaluation.judging import half_width
from hierfed.federated.contract import SharedModel
from hierfed.federated.ease import Ease
from hierfed.federated.implicit import ImplicitFactors
from hierfed.models.ranking import BLEND_WEIGHTS, blend, exclude, top
from hierfed.personal.factors import PersonalFactors, SharedKnowledge, load_user, newcomer
from hierfed.personal.kriging import Observations
from hierfed.private_files import read_private
from hierfed.served_pair import pair_folder
from hierfed.storage import CATALOGUE, MODEL, RANKING, load_ranking, model_format, read_method, sound

KIND, REASONS = "hierarchical", 3


@dataclass(frozen=True)
class ServedUser:
    """A user whom the run knows. model: the user's own, a newcomer's where nothing was learned of the user; seen: the
    numbers of all items that the user has rated, some twice."""

    model: PersonalFactors
    seen: Tensor


class Served:
    """A run, or a node's state, that answers. catalogue: one row per item number, as hierfed.data.catalogue has it.

    superseded: whether a newer model than the one that serves waits for `hierfed personalise`.
    """

    def __init__(self, folder: Path):
        self.folder = pair_folder(folder)
        path = self.folder / MODEL
        if not path.is_file():
            several = (folder / "summary.json").is_file()
            hint = f"name one of its seeds, such as {folder}/seed-0" if several else "runs are under runs/"
            raise HierfedError(f"{folder}: no run to recommend from; {hint}")
        header, wanted = _header(path), model_format(KIND)
        if header.get("format") != wanted:
            found = header.get("format", "a model without a format")
            raise HierfedError(
                f"{folder}: holds '{found}', and only '{wanted}' recommends: run the preset hierarchical"
            )
        with sound(self.folder / CATALOGUE):
            self.catalogue = Catalogue(pl.read_parquet(self.folder / CATALOGUE))
        with sound(path):
            self.method = read_method(header["method"], self.catalogue)
            self.shared = SharedModel(load_file(path), int(header["round"]))
        newest = folder / MODEL
        self.superseded = newest.is_file() and _header(newest).get("digest") != header.get("digest")

    @cached_property
    def knowledge(self) -> SharedKnowledge:
        """What every node holds to serve its users."""
        with sound(self.folder / MODEL):
            return self.method.knowledge(self.shared)

    def user(self, user_id: str) -> ServedUser | None:
        """One user, from the user's own files alone; None for a user without any.

        A user of several nodes is served from the first of them, and has seen what was rated on any.
        """
        models, seen = [], []
        for file in read_private(self.folder, KIND, user_id):
            seen.append(file.seen)
            if file.tensors:
                with sound(file.path):
                    models.append(load_user(self.knowledge, file.tensors))
                    seen.append(models[-1].own.items)
        if not seen:
            return None
        return ServedUser(models[0] if models else newcomer(self.knowledge), torch.cat(seen))

    def recommend(self, user_id: str, count: int, include_seen: bool = False) -> Answer:
        """The best items for a user, best first; for a user without ratings what suits a newcomer.

        include_seen: whether to list what the user has rated too.
        """
        user, items = self.user(user_id), len(self.catalogue)
        model = newcomer(self.knowledge) if user is None else user.model
        seen = torch.zeros(1, items, dtype=torch.bool)
        if user is not None:
            seen[0, user.seen] = True
        scores, own = self._scores(model), model.own
        left = items if include_seen else int((~seen).sum())
        chosen = top(scores if include_seen else exclude(scores, seen), min(count, left))[0]
        mean, variance = model.distribution(torch.zeros_like(chosen), chosen)
        half = half_width(variance.sqrt())
        low, rating, high = (model.within(each).tolist() for each in (mean - half, mean, mean + half))
        moved = model.influence(chosen)
        listed = tuple(
            Recommendation(
                rank=row + 1,
                item=self._item_id(item),
                title=self._title(item),
                rating=rating[row],
                lowest=low[row],
                highest=high[row],
                score=float(scores[0, item]),
                seen=bool(seen[0, item]),
                reasons=self._reasons(own, moved[row]),
            )
            for row, item in enumerate(chosen.tolist())
        )
        return Answer(user_id, user is not None, "score" if len(own.items) else "rating", listed)

    def _scores(self, model: PersonalFactors) -> Tensor:
        """The blend's scores of a user who has rated something; of others the expected ratings alone, [1, items]."""
        expected, trained = model.expected(), load_ranking(self.folder)
        if trained is None or not len(model.own.items):
            return expected
        items = len(self.catalogue)
        rated = torch.zeros(1, items, dtype=torch.float64)
        rated[0, model.own.items] = 1.0
        with sound(self.folder / RANKING):
            scores = {
                "rating": expected,
                "ease": Ease(items).scores(trained["ease"], rated),
                "implicit": ImplicitFactors(items, self.method.seed).scores(trained["implicit"], rated),
            }
        return blend(scores, BLEND_WEIGHTS)

    def _item_id(self, item: int) -> str:
        return str(self.catalogue.frame["item_id"][item])

    def _title(self, item: int) -> str:
        title, year, item_id = self.catalogue.frame.select("title", "year", "item_id").row(item)
        if title is None:
            return f"item {item_id}"
        return f"{title} ({year})" if year is not None else str(title)

    def _reasons(self, own: Observations, moved: Tensor) -> tuple[Reason, ...]:
        places = moved.abs().argsort(descending=True)[:REASONS].tolist()
        return tuple(
            Reason(
                item=self._item_id(int(own.items[place])),
                title=self._title(int(own.items[place])),
                rating=float(own.ratings[place]),
                moved=float(moved[place]),
            )
            for place in places
        )


def _header(path: Path) -> dict[str, str]:
    with sound(path), safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})

"""A finished run of the hierarchical model, loaded from its folder, answering for one user at a time.

The shared model, the catalogue and the ranking models are public within the federation; the user's own file is private
to the user's node. Together they give the numbers of the run, in any process.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import polars as pl
import torch
from safetensors import SafetensorError, safe_open
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
from hierfed.storage import CATALOGUE, MODEL, PRIVATE, load_ranking, model_format, read_method, user_file

REASONS = 3


class Served:
    """A run that answers. catalogue: one row per item number, as hierfed.data.catalogue has it."""

    def __init__(self, folder: Path):
        self.folder = folder
        try:
            with safe_open(folder / MODEL, framework="pt") as model:
                header = model.metadata() or {}
        except (OSError, SafetensorError) as error:
            several = (folder / "summary.json").is_file()
            hint = f"name one of its seeds, such as {folder}/seed-0" if several else "runs are under runs/"
            raise HierfedError(f"{folder}: no run to recommend from; {hint}") from error
        wanted = model_format("hierarchical")
        if header.get("format") != wanted:
            found = header.get("format", "a model without a format")
            raise HierfedError(
                f"{folder}: holds '{found}', and only '{wanted}' recommends: run the preset hierarchical"
            )
        try:
            arrays = load_file(folder / MODEL)
            self.catalogue = Catalogue(pl.read_parquet(folder / CATALOGUE, glob=False))
        except (OSError, SafetensorError, pl.exceptions.PolarsError) as error:
            raise HierfedError(f"{folder}: the run is damaged: {error}") from error
        self.method = read_method(header["method"], self.catalogue)
        self.shared = SharedModel(arrays, int(header["round"]))

    @cached_property
    def knowledge(self) -> SharedKnowledge:
        """What every node holds to serve its users."""
        return self.method.knowledge(self.shared)

    def user(self, user_id: str) -> PersonalFactors | None:
        """The model of one user, from the user's own file alone; None for a user without one."""
        paths = list((self.folder / PRIVATE).glob(f"*/{user_file(user_id)}.safetensors"))
        return load_user(self.knowledge, load_file(paths[0])) if paths else None

    def recommend(self, user_id: str, count: int) -> Answer:
        """The best unseen items for a user, best first; for a user without ratings what suits a newcomer."""
        personal = self.user(user_id)
        model = personal or newcomer(self.knowledge)
        own = model.own
        seen = torch.zeros(1, len(self.catalogue), dtype=torch.float64)
        seen[0, own.items] = 1.0
        chosen = top(exclude(self._scores(model, seen), seen > 0), min(count, len(self.catalogue) - len(own.items)))[0]
        user = torch.zeros_like(chosen)
        mean, variance = model.distribution(user, chosen)
        half = half_width(variance.sqrt())
        low, rating, high = (model.within(each).tolist() for each in (mean - half, mean, mean + half))
        moved = model.influence(chosen)
        items = tuple(
            Recommendation(item, self._title(item), rating[row], low[row], high[row], self._reasons(own, moved[row]))
            for row, item in enumerate(chosen.tolist())
        )
        return Answer(user_id, personal is not None, items)

    def _scores(self, model: PersonalFactors, seen: Tensor) -> Tensor:
        """The blend's scores of a user who has rated something; of others the expected ratings alone."""
        expected, trained = model.expected(), load_ranking(self.folder)
        if trained is None or not seen.any():
            return expected
        items = len(self.catalogue)
        scores = {
            "rating": expected,
            "ease": Ease(items).scores(trained["ease"], seen),
            "implicit": ImplicitFactors(items, self.method.seed).scores(trained["implicit"], seen),
        }
        return blend(scores, BLEND_WEIGHTS)

    def _title(self, item: int) -> str:
        title, year, item_id = self.catalogue.frame.select("title", "year", "item_id").row(item)
        if title is None:
            return f"item {item_id}"
        return f"{title} ({year})" if year is not None else str(title)

    def _reasons(self, own: Observations, moved: Tensor) -> tuple[Reason, ...]:
        places = moved.abs().argsort(descending=True)[:REASONS].tolist()
        return tuple(
            Reason(self._title(int(own.items[place])), float(own.ratings[place]), float(moved[place]))
            for place in places
        )

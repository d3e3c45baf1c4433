"""The finished training of a server that an update goes on from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import nan
from pathlib import Path

from hierfed.data.catalogue import Catalogue
from hierfed.data.growing import with_further_items
from hierfed.data.reading.catalogue_file import CATALOGUE, read_catalogue
from hierfed.deployment.checkpoint import decisive, read_checkpoint
from hierfed.deployment.plan import Plan, check_update
from hierfed.engines.going_on import GoingOn
from hierfed.errors import SettingsError
from hierfed.federated.contract import SharedModel
from hierfed.federated.stage import RATING
from hierfed.methods import Case, prepare
from hierfed.results import UpdateRecord
from hierfed.settings import Settings

RESULT = "result.json"


@dataclass(frozen=True)
class Former:
    """A finished training.

    shared: its model of ratings. limits: its lowest and highest possible rating. catalogue: its items.
    nodes: each node's secret by its name. update: what a training that goes on from it says of it.
    """

    shared: SharedModel
    limits: tuple[float, float]
    catalogue: Catalogue
    nodes: Mapping[str, str]
    update: GoingOn

    def record(self, rounds: int, items: int, ratings: int) -> UpdateRecord:
        """The line of a result about the training that went on to this round with so many items and ratings."""
        return UpdateRecord(
            level="rounds",
            rounds=rounds - self.update.round,
            users=0,
            items=items,
            ratings=ratings,
            new_items=items - len(self.catalogue),
            forgotten=0,
            before=self.update.model,
            seconds=nan,
        )

    def grown(self, settings: Settings, catalogue: Catalogue) -> Catalogue:
        """Its items, whose numbers stay, and then those that this catalogue has besides.

        Raises SettingsError for new items with features that none of its items has.
        """
        found = with_further_items(self.catalogue, catalogue.frame)
        if not prepare(Case(settings, found, self.limits)).method.fits(self.shared):
            raise SettingsError(
                "--update: the catalogue has features, such as a genre, that no item of the former training has: leave "
                "them out, or train anew, without --update"
            )
        return found


def read_former(folder: Path, settings: Settings, rounds: int, keeps: bool = False) -> Former:
    """The training in a server's folder, to go on for so many rounds.

    settings: those that it goes on with. keeps: see GoingOn.
    Raises SettingsError in one line for what cannot go on: no finished training of a server, another method, other
    settings, differential privacy.
    """
    where = f"--update {folder}"
    if not (folder / RESULT).is_file():
        raise SettingsError(f"{where}: no finished training of a server is there to go on from")
    catalogue = _catalogue(folder)
    found = read_checkpoint(folder, settings, catalogue)
    if found is None:
        raise SettingsError(f"{where}: holds a run that no server has made: `hierfed update` goes on from it")
    checkpoint, agreed = found
    digest, _, before = agreed.partition(" ")
    if digest != catalogue.digest():
        raise SettingsError(f"{folder / CATALOGUE}: is another one than this training had: put it back")
    _check_same(where, before, settings)
    if RATING not in checkpoint.models:
        raise SettingsError(f"{where}: no finished training of a server is there to go on from")
    shared = checkpoint.models[RATING]
    update = GoingOn(shared.digest(), shared.round, rounds, keeps)
    plan: Plan = replace(checkpoint.plan, update=update)
    check_update(plan)
    return Former(shared, plan.limits, catalogue, checkpoint.nodes, update)


def _catalogue(folder: Path) -> Catalogue:
    if not (folder / CATALOGUE).is_file():
        raise SettingsError(f"{folder / CATALOGUE}: there is none, and the items' numbers stand in it: put it back")
    return read_catalogue(folder / CATALOGUE, as_written=True)


def _check_same(where: str, trained: str, settings: Settings) -> None:
    """Raise SettingsError for the first setting that is another one than before. trained: those of before, as JSON."""
    before, now = (_flat(json.loads(text)) for text in (trained, decisive(settings)))
    for name in dict.fromkeys([*before, *now]):
        if before.get(name) != now.get(name):
            raise SettingsError(
                f"{where}: was trained with {name} = {json.dumps(before.get(name))}, and this server has "
                f"{json.dumps(now.get(name))}: say the same, or train anew, without --update"
            )


def _flat(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Nested values by their dotted names."""
    found: dict[str, object] = {}
    for name, each in values.items():
        found |= _flat(each, f"{prefix}{name}.") if isinstance(each, dict) else {f"{prefix}{name}": each}
    return found

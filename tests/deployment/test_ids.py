"""A federation whose ids are padded text, against a catalogue of which one id is no number at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from hierfed.data.reading.catalogue_file import read_catalogue
from hierfed.deployment.local_models import personalise
from hierfed.serving.served import Served


def written(data, place: Path, user: str, item: str, other: str):
    """The same ratings with ids in another notation, and an item more that nobody rated; user, item: formats."""
    place.mkdir()
    columns = {"user": [user.format(each) for each in data.table["user"]]}
    columns["item"] = [item.format(each) for each in data.table["item"]]
    table = data.table.with_columns(**{name: pl.Series(ids) for name, ids in columns.items()})
    items = pl.read_parquet(data.place / "catalogue.parquet")
    more = pl.DataFrame({"item_id": other, "title": "Other", "year": 1999, "genres": [["Drama"]]}, strict=False)
    ids = pl.Series("item_id", [item.format(each) for each in items["item_id"]])
    pl.concat([items.with_columns(ids), more], how="vertical_relaxed").write_parquet(place / "catalogue.parquet")
    found = replace(data, place=place, table=table, catalogue=read_catalogue(place / "catalogue.parquet"))
    for (name, held), own in table.partition_by("node", "held", as_dict=True).items():
        own.select("user", "item", "rating").write_parquet(found.file(name, held))
    return found


@pytest.fixture
def trained(village, data, make_settings, tmp_path):
    """A village's result, of ids in a notation of their own."""

    def train(name: str, *notation: str):
        there = written(data, tmp_path / name, *notation)
        made = village(make_settings("hierarchical"), "node 1")
        made.data = there
        made.start("node 1", "node 2", "node 10")
        return made, made.serve()

    return train


def test_padded_ids_join_and_train_as_plain_numbers_do(trained):
    plain, expected = trained("plain", "{}", "{}", "999")
    padded, found = trained("padded", "{:012}", "{:07}", "promotion-1")
    assert not any(side.__dict__.get("failure") for side in padded.sides.values())
    assert [str(each) for each in padded.data.catalogue.frame["item_id"].head(1)] == ["0000501"]
    for name, model in plain.models().items():
        assert padded.models()[name].digest() == model.digest()
    assert (found.digest, found.federation.gain) == (expected.digest, expected.federation.gain)
    assert found.federation.gain is not None
    state = padded.sides["node 1"].state
    personalise(state)
    served, user = Served(state.folder), padded.data.table.filter(pl.col("node") == "node 1")["user"][0]
    assert user.startswith("00000")
    assert served.user(user) is not None
    assert served.user(user.lstrip("0")) is None


def test_a_node_with_ids_in_another_notation_says_so(village, data, make_settings, tmp_path):
    """As pandas writes whole numbers beside a gap."""
    told: list[str] = []
    place = written(data, tmp_path / "tables", "{}", "{}", "promotion-1")
    for held in (False, True):
        path = place.file("node 1", held)
        item = pl.col("item").cast(pl.Int64)
        rows = pl.read_parquet(path).with_columns(
            item=pl.when(item > 505).then(pl.col("item") + ".0").otherwise("item")
        )
        rows.write_parquet(path)
    made = village(make_settings("hierarchical"), "node 2")
    made.data = place
    made.start("node 1", tell=told.append)
    made.start("node 2", "node 10")
    made.serve()
    (warning,) = [line for line in told if line.startswith("warning: ")]
    assert "rated item ids are not in the federation's catalogue: not there are '506.0' and '507.0'" in warning
    assert "there are '501' and '502'" in warning

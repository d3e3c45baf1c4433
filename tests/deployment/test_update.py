"""A federation that goes on from its finished model: what one process makes of the same rows, and who may take part."""

from __future__ import annotations

import shutil
from functools import partial

import polars as pl
import pytest

from hierfed.data.catalogue import Catalogue
from hierfed.data.federation import Node
from hierfed.data.reading.own import own_ratings
from hierfed.deployment.former import read_former
from hierfed.deployment.local_models import personalise
from hierfed.deployment.policy import Policy
from hierfed.deployment.sources import read_source
from hierfed.deployment.state import Origin
from hierfed.engines.going_on import OPENING, resumed_training
from hierfed.engines.in_process import run_rounds
from hierfed.engines.rounds import PLAIN, Round
from hierfed.errors import HierfedError, SettingsError
from hierfed.ledger.audit import audit
from hierfed.ledger.book import read_chain
from hierfed.ledger.entries import FILE, Continued
from hierfed.methods import Case, prepare, stages_from_rating
from hierfed.privacy.secure_sum.simulation import SecureSum
from hierfed.serving.served import Served

NAMES, LATE = ("node 1", "node 2", "node 10"), "node 11"
SCALE = {"data.scale": [0.5, 5.0]}
ROUNDS = 2
# Their ids come before all others, and their numbers after them.
NEW_ITEMS = (401, 402, 403)


class Died(Exception):
    """The server's process ended."""


def later_rows(data, name: str) -> pl.DataFrame:
    """A node's rows with three of its users' ratings of the new items, two new users, and one user who has left."""
    own = data.table.filter((pl.col("node") == name) & ~pl.col("held")).select("user", "item", "rating")
    if own.is_empty():
        own = data.table.filter(~pl.col("held")).head(60).select(pl.col("user") + 1000, "item", "rating")
    users = own["user"].unique().sort().to_list()
    new = [(user, item, 2.0 + (user + item) % 3) for user in users[:3] for item in NEW_ITEMS]
    new += [(user + 500, item, 1.0 + item % 4) for user in users[3:5] for item in (501, 505, 509, *NEW_ITEMS)]
    return pl.concat([own.filter(pl.col("user") != users[-1]), pl.DataFrame(new, own.schema, orient="row")])


@pytest.fixture
def month(data, tmp_path):
    """The nodes' tables of the second month, and the server's list of items then, in the order of their ids."""
    for name in (*NAMES, LATE):
        later_rows(data, name).write_parquet(tmp_path / f"{name}.parquet")
    frame = data.catalogue.frame
    first = frame.head(len(NEW_ITEMS)).with_columns(
        pl.Series("item_id", NEW_ITEMS).cast(frame["item_id"].dtype), pl.lit("New").alias("title")
    )
    items = Catalogue(pl.concat([first, frame]))

    def begin(village, *names: str) -> None:
        village.data = type(data)(data.place, data.table, items)
        for name in names:
            village.start(name, origin=Origin(str(tmp_path / f"{name}.parquet")))

    begin.items, begin.place, begin.table = items, tmp_path, data.table
    return begin


def in_one_process(settings, former, items, place, names, how=PLAIN):
    """The models that one process goes on to over the same rows."""
    catalogue = former.grown(settings, items)
    own = [own_ratings(read_source(Origin(str(place / f"{name}.parquet"))), catalogue) for name in names]
    nodes = [
        Node(number, name, each.train, each.test) for number, (name, each) in enumerate(zip(names, own, strict=True))
    ]
    case = Case(settings, catalogue, (0.5, 5.0))
    train = partial(run_rounds, how=how)
    opened, trained = resumed_training(
        prepare(case).method, nodes, former.shared, former.update.rounds, train=train, keeps=former.update.keeps
    )
    models = {OPENING: opened, "rating": trained.shared}
    for stage in stages_from_rating(case)[1:]:
        models[stage.name] = train(stage.build(models), nodes, stage.rounds).shared
    return models


@pytest.mark.parametrize("securely", [False, True])
def test_an_update_ends_where_one_process_ends(securely, village, make_settings, month):
    changes = {"secure_sums": True, "rank_items": False} if securely else {}
    settings = make_settings("hierarchical", **SCALE, **changes)
    found = village(settings)
    found.serve()
    former, names = found.finished(ROUNDS), NAMES if securely else (*NAMES, LATE)
    month(found, *names)
    found.planned.clear()
    result = found.serve(former=former)
    expected = in_one_process(
        settings, former, month.items, month.place, names, Round(SecureSum()) if securely else PLAIN
    )
    assert result.digest == expected["rating"].digest()
    (update,) = result.updates
    assert (update.level, update.rounds, update.before) == ("rounds", ROUNDS, former.shared.digest())
    assert (update.items, update.new_items) == (len(former.catalogue) + len(NEW_ITEMS), len(NEW_ITEMS))
    assert (update.ratings, update.forgotten) == (result.data.ratings, 0)
    assert expected["rating"].round == settings.training.rounds + ROUNDS
    catalogue = former.grown(settings, month.items).frame["item_id"]
    assert catalogue.head(len(former.catalogue)).equals(former.catalogue.frame["item_id"])
    assert catalogue.tail(len(NEW_ITEMS)).to_list() == [*NEW_ITEMS]
    opening = 1 + settings.factors.embedding_rounds + 1
    later = 0 if securely else 2 + 1 + settings.ranking.implicit_rounds
    assert found.planned == [opening + ROUNDS + later]
    checkpoint = {stage: model.digest() for stage, model in found.models(former).items()}
    assert checkpoint == {stage: model.digest() for stage, model in expected.items()}
    for name in names:
        state = found.sides[name].state
        personalise(state)
        assert Served(state.folder).shared.digest() == result.digest
    served = Served(found.sides["node 1"].state.folder)
    assert served.ids == [str(item) for item in catalogue]
    assert str(NEW_ITEMS[0]) in {each.item for each in served.recommend("nobody", 100).items}


def test_the_ledger_says_from_which_model_it_goes_on_and_all_sign(village, make_settings, month):
    found = village(make_settings("hierarchical", **SCALE))
    found.serve()
    former = found.finished(ROUNDS)
    month(found, *NAMES)
    found.serve(former=former)
    for folder in (found.server, found.sides["node 1"].state.folder):
        chain = read_chain((folder / FILE).read_bytes(), folder)
        (entry,) = [each for each in chain.entries if isinstance(each, Continued)]
        assert (entry.position, entry.model, entry.forgotten) == (1, former.shared.digest(), 0)
        assert chain.countersigners(1) == sorted(NAMES)
    assert audit(found.server).sealed
    assert not any("not countersigned" in event for event in found.events)


def stay(month, names) -> None:
    """Let nobody leave in the second month."""
    for name in names:
        own = month.table.filter((pl.col("node") == name) & ~pl.col("held")).select("user", "item", "rating")
        later = pl.read_parquet(month.place / f"{name}.parquet")
        left = own.join(later, on="user", how="anti")
        assert left["user"].n_unique() == 1
        pl.concat([later, left]).write_parquet(month.place / f"{name}.parquet")


@pytest.mark.parametrize("securely", [False, True])
def test_an_update_that_keeps_the_embedding_ends_where_one_process_ends(securely, village, make_settings, month):
    settings = make_settings("hierarchical", **SCALE, rank_items=False, secure_sums=securely)
    found = village(settings)
    found.serve()
    former = found.finished(ROUNDS, keeps=True)
    stay(month, NAMES)
    month(found, *NAMES)
    found.planned.clear()

    def die(record) -> None:
        if (record.stage, record.round) == ("opening", -1):
            raise Died

    with pytest.raises(Died):
        found.serve(on_round=die, former=former)
    month(found, *NAMES)
    with pytest.raises(HierfedError, match="begun with another --update"):
        found.serve(former=found.finished(ROUNDS))
    assert found.planned[0] == 2 + ROUNDS
    how = Round(SecureSum()) if securely else PLAIN
    expected = in_one_process(settings, former, month.items, month.place, NAMES, how)
    assert found.serve(former=former).digest == expected["rating"].digest()
    was, now = former.shared.arrays, expected["rating"].arrays
    both = (was["raters"] > 0) & (now["raters"][: len(was["raters"])] > 0)
    assert now["embedding"][: len(both)][both].equal(was["embedding"][both])


def test_a_node_whose_user_has_left_takes_no_update_that_keeps_the_embedding(village, make_settings, month):
    found = village(make_settings("hierarchical", **SCALE, rank_items=False))
    found.serve()
    former = found.finished(ROUNDS, keeps=True)
    stay(month, NAMES[1:])
    month(found, *NAMES)
    found.serve(former=former, nodes=2)
    assert "1 users of this node have left" in str(found.sides["node 1"].__dict__.get("failure"))
    assert {tuple(each.contributors) for each in found.records[-ROUNDS:]} == {("node 2", "node 10")}


@pytest.mark.parametrize(("stage", "number"), [("opening", -1), ("opening", 0), ("rating", 5), ("ease", 0)])
def test_a_server_that_ends_on_the_way_goes_on_to_the_same_model(stage, number, village, make_settings, month):
    settings = make_settings("hierarchical", **SCALE)
    found = village(settings)
    found.serve()
    former = found.finished(ROUNDS)
    month(found, *NAMES)

    def die(record) -> None:
        if (record.stage, record.round) == (stage, number):
            raise Died

    with pytest.raises(Died):
        found.serve(on_round=die, former=former)
    month(found, *NAMES)
    with pytest.raises(HierfedError, match="begun with another --update"):
        found.serve(former=found.finished(ROUNDS + 1))
    expected = in_one_process(settings, former, month.items, month.place, NAMES)
    assert found.serve(former=former).digest == expected["rating"].digest()


def refused(village, make_settings, **changes) -> str:
    """Why a training with these settings does not go on from one with the small ones."""
    found = village(make_settings("hierarchical", **SCALE))
    found.serve()
    found.finished(ROUNDS)
    found.settings = make_settings("hierarchical", **{**SCALE, **changes})
    with pytest.raises(SettingsError) as error:
        found.finished(ROUNDS)
    return str(error.value)


def test_other_settings_are_refused_by_name(village, make_settings):
    told = refused(village, make_settings, **{"data.scale": [1.0, 10.0]})
    assert "was trained with data.scale = [0.5, 5.0], and this server has [1.0, 10.0]" in told


def test_what_cannot_go_on_is_refused(village, make_settings, tmp_path):
    settings = make_settings("hierarchical", **SCALE)
    with pytest.raises(SettingsError, match="no finished training of a server"):
        read_former(tmp_path, settings, ROUNDS)
    found = village(make_settings("network", rank_items=False))
    found.serve()
    with pytest.raises(SettingsError, match="a model of method 'averaging' cannot go on"):
        found.finished(ROUNDS)
    shutil.rmtree(found.place / "former")
    found = village(make_settings("item_biases"))
    found.serve()
    with pytest.raises(SettingsError, match='method = "item_biases", and this server has "hierarchical"'):
        found.settings = settings
        found.finished(ROUNDS)


def test_a_node_comes_back_with_more_rows_and_a_stranger_under_its_name_does_not(village, make_settings, month):
    found = village(make_settings("hierarchical", **SCALE))
    found.serve()
    former = found.finished(ROUNDS)
    found.sides.pop("node 2").state.close()
    shutil.rmtree(found.place / "node 2")
    month(found, *NAMES, LATE)
    found.serve(former=former, nodes=3)
    assert any(
        "another node is already called 'node 2'" in str(side.__dict__.get("failure")) for side in found.sides.values()
    )
    (entry,) = {tuple(each.contributors) for each in found.records[-ROUNDS:]}
    assert entry == ("node 1", "node 10", LATE)


def test_opening_rounds_are_part_of_the_stage_of_ratings_for_a_node_with_conditions(village, make_settings, month):
    found = village(make_settings("hierarchical", **SCALE, rank_items=False))
    found.serve()
    former = found.finished(ROUNDS)
    month(found, *NAMES)
    strict = Policy(least_nodes=1, least_raters=1, stages=("rating",), most_rounds=4)
    found.start("node 1", origin=Origin(str(month.place / "node 1.parquet")), policy=strict)
    found.serve(former=former, quorum=3)


def test_features_that_are_new_are_refused_before_any_node_is_asked(village, make_settings, month):
    settings = make_settings("hierarchical", **SCALE, rank_items=False)
    found = village(settings)
    found.serve()
    frame = month.items.frame
    genres = pl.when(pl.col("item_id") == frame["item_id"][0]).then(pl.lit(["Western"])).otherwise("genres")
    with pytest.raises(SettingsError, match="the catalogue has features, such as a genre"):
        found.finished(ROUNDS).grown(settings, Catalogue(frame.with_columns(genres.alias("genres"))))

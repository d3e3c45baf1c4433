"""A federation's ledger: whoever is killed, late or lost, it is one chain, and it says who signed what."""

from __future__ import annotations

import shutil

import pytest

from hierfed.deployment.bookkeeping import Bookkeeper
from hierfed.deployment.checkpoint import COPY
from hierfed.deployment.checkpoint import FILE as CHECKPOINT
from hierfed.errors import HierfedError
from hierfed.ledger.audit import audit
from hierfed.ledger.book import read_chain
from hierfed.ledger.entries import FILE, Opening, RoundEntry
from hierfed.ledger.keys import kept_key

NAMES = ["node 1", "node 2", "node 10"]


class Died(Exception):
    """The server's process ended."""


def chain_of(village):
    return read_chain((village.server / FILE).read_bytes(), village.server / FILE)


def rounds_of(village) -> list[RoundEntry]:
    return [entry for entry in chain_of(village).entries if isinstance(entry, RoundEntry)]


def ratings_of(village) -> list[RoundEntry]:
    """Those of the network itself; its features are fitted before."""
    return [entry for entry in rounds_of(village) if entry.stage == "rating"]


def losing(*lost: tuple[str, int], what: str = "lost"):
    """These nodes' messages of these rounds."""

    def meddle(name, kind, facts):
        hit = kind == "round" and facts["stage"] == "rating" and (name, facts["round"]) in lost
        return what if hit else ""

    return meddle


def dying_after(number: int, stage: str = "rating"):
    def on_round(record):
        if (record.stage, record.round) == (stage, number):
            raise Died

    return on_round


@pytest.mark.parametrize("preset", ["network", "hierarchical"])
@pytest.mark.parametrize("secure", [False, True], ids=["open", "secure"])
def test_every_round_is_signed_by_all_and_every_node_has_the_same_ledger(preset, secure, village, make_settings):
    privacy = {"secure_sums": True, "colluding": 0.0, "scale": [0.5, 5.0]} if secure else {}
    found = village(make_settings(preset, **privacy))
    result = found.serve()
    (found.server / "settings.toml").write_text(found.settings.to_toml())
    audited = audit(found.server)
    assert audited.sealed
    assert not audited.simulated
    assert {node.name: (node.contributed, node.countersigned) for node in audited.nodes} == dict.fromkeys(
        NAMES, (len(result.federation.rounds), len(result.federation.rounds))
    )
    told = [(entry.stage, entry.round, entry.contributors) for entry in rounds_of(found)]
    assert told == [(each.stage, each.round, each.contributors) for each in result.federation.rounds]
    assert audited.models == {stage: model.digest() for stage, model in found.models().items()}
    chain = chain_of(found)
    assert all(chain.countersigners(position) == sorted(NAMES) for position in range(len(chain.entries) - 1))
    for name in NAMES:
        state = found.place / name
        assert (state / FILE).read_bytes() == (found.server / FILE).read_bytes()
        assert audit(state).sealed
        assert (state / "ledger.key.pub").read_text().strip() == chain.nodes[name]
        assert audit(state, str(found.server / "ledger.key.pub")).expected
    assert not any("countersign" in event for event in found.events)


def test_entries_cost_no_message_but_two_at_the_end(village, make_settings):
    found = village(make_settings("network"))
    found.serve()
    kinds = [kind for name, kind, _ in found.sent if name == "node 1"]
    assert kinds == [
        "hello",
        "setup",
        *["round"] * 2,
        "finish",
        *["round"] * 4,
        "finish",
        "judge",
        "ledger",
        "ledger",
        "goodbye",
    ]


@pytest.mark.parametrize(("number", "torn"), [(0, False), (1, True), (3, True)])
def test_a_server_that_was_killed_goes_on_with_the_same_ledger(number, torn, village, make_settings):
    found = village(make_settings("network"))
    with pytest.raises(Died):
        found.serve(on_round=dying_after(number))
    before = (found.server / FILE).read_bytes()
    if torn:
        (found.server / FILE).write_bytes(before + b'{"entry":{"countersignatures":{"node 1":"00')
    found.start(*NAMES)
    found.serve()
    assert (found.server / FILE).read_bytes().startswith(before)
    assert [entry.round for entry in ratings_of(found)] == [0, 1, 2, 3]
    audited = audit(found.server)
    assert [node.unsigned for node in audited.nodes] == [[], [], []]
    assert audited.sealed


@pytest.mark.parametrize("torn", [b"", b"half"])
def test_a_server_that_was_killed_before_the_entry_was_written_writes_that_entry(
    torn, village, make_settings, monkeypatch
):
    found = village(make_settings("network"))
    append, killed = Bookkeeper.append, list[bytes]()

    def die(self, line):
        if b'"round":2,' in line:
            killed.append(line)
            with (self._folder / FILE).open("ab") as file:
                file.write(line[: len(line) // 2] if torn else b"")
            raise Died
        append(self, line)

    monkeypatch.setattr(Bookkeeper, "append", die)
    with pytest.raises(Died):
        found.serve()
    monkeypatch.setattr(Bookkeeper, "append", append)
    found.start(*NAMES)
    found.serve()
    assert killed[0] in (found.server / FILE).read_bytes().split(b"\n")
    assert audit(found.server).sealed
    assert [entry.round for entry in ratings_of(found)] == [0, 1, 2, 3]


def test_a_finished_training_that_is_handed_out_again_keeps_its_ledger(village, make_settings):
    found = village(make_settings("hierarchical"))
    found.serve()
    before = (found.server / FILE).read_bytes()
    found.start(*NAMES)
    found.serve()
    assert (found.server / FILE).read_bytes() == before
    assert audit(found.server).sealed


def test_a_node_that_misses_a_round_is_no_contributor_and_signs_again_later(village, make_settings):
    found = village(make_settings("network"))
    found.serve(losing(("node 2", 2)))
    contributors = [entry.contributors for entry in ratings_of(found)]
    assert contributors == [NAMES, NAMES, ["node 1", "node 10"], NAMES]
    audited = audit(found.server)
    # The entry of round 1, line 5, went with the request of round 2.
    assert {node.name: node.unsigned for node in audited.nodes} == {"node 1": [], "node 2": [5], "node 10": []}
    assert audited.sealed


def test_an_entry_says_of_a_late_node_that_it_was_late(village, make_settings):
    found = village(make_settings("network"))
    found.serve(losing(("node 2", 2), what="late"))
    late = ratings_of(found)[2:4]
    assert [entry.contributors for entry in late] == [["node 1", "node 10"], NAMES]
    assert [each.node for each in late[1].refused] == ["node 2"]
    told = [event for event in found.events if "countersign" in event]
    # The entry says that the node was late, which is so; the node signs that.
    assert told == []
    assert [(each.node, "has not answered within" in each.reason) for each in late[0].refused] == [("node 2", True)]
    assert audit(found.server).sealed


def test_an_abandoned_round_is_an_entry_without_a_sum(village, make_settings):
    found = village(make_settings("network"))
    lost = []

    def meddle(name, kind, facts):
        if kind == "round" and facts["round"] == 2 and len(lost) < 2 and name != "node 1":
            lost.append(name)
            return "lost"
        return ""

    found.serve(meddle, quorum=2)
    entries = ratings_of(found)
    assert [(entry.round, entry.sum is None) for entry in entries] == [
        (0, False),
        (1, False),
        (2, True),
        (2, False),
        (3, False),
    ]
    assert entries[2].model == entries[1].model
    audited = audit(found.server)
    assert audited.abandoned == 1
    assert audited.sealed


def test_a_node_that_joins_later_is_in_the_ledger_from_then_on(village, make_settings):
    found = village(make_settings("network"), "node 1", "node 2")

    def on_round(record):
        if (record.stage, record.round) == ("rating", 1):
            found.start("node 10")
            found.grid.sides[99] = found.sides["node 10"]

    found.serve(on_round=on_round)
    chain, entries = chain_of(found), ratings_of(found)
    assert isinstance(chain.entries[0], Opening)
    assert list(chain.entries[0].nodes) == ["node 1", "node 2"]
    assert [list(entry.joined) for entry in entries] == [[], [], ["node 10"], []]
    assert entries[-1].contributors == NAMES
    assert (found.place / "node 10" / FILE).read_bytes() == (found.server / FILE).read_bytes()
    assert not any("countersign" in event for event in found.events)


def test_a_server_that_went_back_and_took_another_way_gets_no_signature(village, make_settings):
    """Its folder was put back to an earlier day: its ledger is sound, and no node signs what was different before."""
    found = village(make_settings("network"))
    with pytest.raises(Died):
        found.serve(on_round=dying_after(1))
    shutil.copytree(found.server, found.place / "earlier")
    found.start(*NAMES)
    with pytest.raises(Died):
        found.serve(on_round=dying_after(3))
    shutil.rmtree(found.server)
    (found.place / "earlier").rename(found.server)
    found.start(*NAMES)
    # Nodes go forward only: what was different before they neither sum nor sign.
    with pytest.raises(HierfedError, match="was abandoned 5 times"):
        found.serve(losing(("node 10", 2)))
    assert chain_of(found).countersigners(6) == []


def test_a_ledger_that_was_changed_is_not_gone_on_with(village, make_settings):
    found = village(make_settings("network"))
    with pytest.raises(Died):
        found.serve(on_round=dying_after(2))
    path = found.server / FILE
    before = path.read_bytes()
    found.start(*NAMES)
    path.write_bytes(b'"round":7'.join(before.rsplit(b'"round":1', 1)))
    with pytest.raises(HierfedError, match=r"ledger\.jsonl, line 5, after round 0 of 'rating'"):
        found.serve()
    lines = before.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-2]))
    with pytest.raises(HierfedError, match="is not the ledger of this training as it was left"):
        found.serve()
    path.unlink()
    with pytest.raises(HierfedError, match="is not the ledger of this training as it was left"):
        found.serve()


def test_a_training_that_begins_anew_keeps_the_ledger_of_the_one_before(village, make_settings):
    found = village(make_settings("network"))
    found.serve()
    before = (found.server / FILE).read_bytes()
    training = chain_of(found).opening.training
    # The rounds are those of the checkpoint.
    for name in (CHECKPOINT, COPY, "rounds.jsonl"):
        (found.server / name).unlink()
    found.start(*NAMES)
    found.serve()
    assert audit(found.server).training != training
    for place in (found.server, *(found.place / name for name in NAMES)):
        assert (place / f"ledger-{training}.jsonl").read_bytes() == before


def test_keys_are_their_owner_s_alone_and_stay_the_same(village, make_settings):
    found = village(make_settings("network"))
    places = [found.server, *(found.place / name for name in NAMES)]
    found.serve()
    keys = [(place / "ledger.key").read_bytes() for place in places]
    assert len(set(keys)) == 4
    assert {(place / "ledger.key").stat().st_mode & 0o777 for place in places} == {0o600}
    found.start(*NAMES)
    found.serve()
    assert [(place / "ledger.key").read_bytes() for place in places] == keys


def test_a_node_that_comes_with_another_key_is_turned_away(village, make_settings):
    found = village(make_settings("network"))
    with pytest.raises(Died):
        found.serve(on_round=dying_after(1))
    (found.place / "other").mkdir()
    kept_key(found.place / "other")
    for file in (found.place / "other").glob("ledger.key*"):
        shutil.copy(file, found.place / "node 2" / file.name)
    found.start(*NAMES)
    found.serve(nodes=2)
    assert any("the ledger has another key of it to countersign with" in event for event in found.events)
    assert ratings_of(found)[-1].contributors == ["node 1", "node 10"]

"""A node signs what it has seen itself, and says in one line why it does not sign anything else."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hierfed.data.catalogue import Catalogue
from hierfed.deployment.plan import Plan
from hierfed.deployment.protocol import COUNTERSIGNATURE, ENTRIES, UNSIGNED
from hierfed.deployment.witness import Witness
from hierfed.engines.exchange import Reply, Request
from hierfed.engines.going_on import GoingOn
from hierfed.errors import HierfedError
from hierfed.federated.contract import Contribution, SharedModel
from hierfed.ledger.book import read_chain
from hierfed.ledger.chain import Chain
from hierfed.ledger.entries import FILE, RefusedContribution, line_hash, node_text
from hierfed.ledger.keys import is_signed, public_text
from hierfed.ledger.scribe import Scribe

NAME, TRAINING = "node 1", "f00d" * 4


def model(number: int) -> SharedModel:
    return SharedModel({"parameters": torch.full((3,), float(number), dtype=torch.float64)}, number)


class Meeting:
    """A server that can lie, and the witness of one node."""

    def __init__(self, folder, plan: Plan):
        self.folder, self.plan, self.told = folder, plan, list[str]()
        self.key, self.chain, self.lines = Ed25519PrivateKey.generate(), Chain(), list[bytes]()
        self.scribe = Scribe(self.key, self.chain)
        self.restart()

    def restart(self) -> None:
        """The node's process ends, and another one begins."""
        self.witness = Witness(NAME, self.folder, self.told.append)
        self.witness.meet(public_text(self.key))
        self.witness.begin(self.plan, b"")

    def append(self, line: bytes) -> bytes:
        self.chain.extend(line)
        self.lines.append(line)
        return line

    def opening(self, **changes: Any) -> bytes:
        told = {
            "training": TRAINING,
            "settings": self.plan.settings.digest(),
            "catalogue": self.plan.catalogue.digest(),
            "nodes": {NAME: self.witness.public},
        }
        return self.scribe.opening(**told | changes)

    def round(self, number: int, contributors: tuple[str, ...] = (NAME,), **changes: Any) -> bytes:
        told = {"refused": [], "total": "5" * 64, "model": model(number).digest(), "countersignatures": {}}
        return self.scribe.round("rating", number, contributors, **told | changes)

    def contribute(self, number: int) -> None:
        request = Request("round", {"stage": "rating", "round": number})
        reply = Reply(contribution=Contribution({"sum": torch.ones(1, dtype=torch.float64)}))
        self.witness.note_contribution(request, reply)

    def ask(self, *lines: bytes, after: int, kind: str = "round", models: Any = None) -> str:
        """Send entries with the model after a round; gives the reason not to sign the last, or "" for a signature."""
        facts = {"stage": "rating", "round": after + 1, ENTRIES: b"\n".join(lines)}
        found = self.witness.countersign(Request(kind, facts, model(after).arrays), models or {})
        if COUNTERSIGNATURE in found:
            assert is_signed(self.witness.public, found[COUNTERSIGNATURE], node_text(line_hash(lines[-1])))
            return ""
        assert "\n" not in found[UNSIGNED]
        assert self.told[-1] == f"not countersigned: {found[UNSIGNED]}"
        return str(found[UNSIGNED])

    def begin(self) -> None:
        """The opening and round 1, both as they should be."""
        assert self.ask(self.append(self.opening()), after=0) == ""
        self.contribute(1)
        assert self.ask(self.append(self.round(1)), after=1) == ""


@pytest.fixture
def plan(data, make_settings) -> Plan:
    return Plan(TRAINING, make_settings("network"), data.catalogue, (0.5, 5.0), nodes=3)


@pytest.fixture
def meeting(tmp_path, plan, monkeypatch) -> Meeting:
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    return Meeting(tmp_path, plan)


def test_what_is_as_it_should_be_is_signed_and_kept(meeting):
    meeting.begin()
    assert (meeting.folder / FILE).read_bytes() == b"".join(line + b"\n" for line in meeting.lines)
    assert meeting.told == []


def test_signing_twice_gives_the_same_signature_in_another_process_too(meeting):
    meeting.begin()
    for _ in range(2):
        assert meeting.ask(meeting.lines[-1], after=1) == ""
        meeting.restart()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"settings": "0" * 64}, "other settings or another catalogue than the plan"),
        ({"catalogue": "0" * 64}, "other settings or another catalogue than the plan"),
        ({"training": "beef" * 4}, "a training that this node was not told of"),
        ({"nodes": {NAME: public_text(Ed25519PrivateKey.generate())}}, "another key of this node's"),
    ],
)
def test_an_opening_that_says_something_else_is_not_signed(meeting, changes, words):
    assert words in meeting.ask(meeting.opening(**changes), after=0)


def test_a_training_goes_on_from_the_model_of_the_plan_alone(meeting):
    """The line after the opening says from which; a plan without one has no such line."""
    update, other = GoingOn("a" * 64, 3, 2), "goes on from another model than the plan"
    assert meeting.ask(meeting.append(meeting.opening()), after=0) == ""
    wrong, right = (meeting.scribe.continued(digest * 64, 0, {}) for digest in ("b", "a"))
    assert other in meeting.ask(right, after=0)
    meeting.witness.begin(replace(meeting.plan, update=update), b"")
    assert other in meeting.ask(wrong, after=0)
    assert "begins from the start, where the plan goes on" in meeting.ask(meeting.round(1), after=1)
    assert meeting.ask(meeting.append(right), after=0) == ""


def test_an_opening_by_another_key_than_the_server_s_greeting_named_is_not_signed(meeting):
    line = meeting.opening()
    meeting.witness.meet(public_text(Ed25519PrivateKey.generate()))
    assert "another key of the server than its greeting" in meeting.ask(line, after=0)


def test_who_sent_nothing_is_no_contributor(meeting):
    meeting.begin()
    assert meeting.ask(meeting.append(meeting.round(2)), after=2) == (
        "round 2 of 'rating' lists a contribution of this node, which sent none"
    )
    # It says so as long as it is asked, and goes on with the next round.
    meeting.restart()
    assert "lists a contribution" in meeting.ask(meeting.lines[-1], after=2)
    meeting.contribute(3)
    assert meeting.ask(meeting.append(meeting.round(3)), after=3) == ""


def test_who_sent_something_is_a_contributor_or_refused(meeting):
    meeting.begin()
    meeting.contribute(2)
    meeting.restart()
    assert "leaves out the contribution that this node has sent" in meeting.ask(
        meeting.append(meeting.round(2, ())), after=2
    )
    meeting.contribute(3)
    refused = [RefusedContribution(node=NAME, reason="holds values that are not finite")]
    assert meeting.ask(meeting.append(meeting.round(3, (), refused=refused)), after=3) == ""


def test_an_abandoned_round_has_no_sum_to_be_left_out_of_and_is_asked_again(meeting):
    meeting.begin()
    meeting.contribute(2)
    abandoned = meeting.round(2, (), total=None, model=model(1).digest())
    assert meeting.ask(meeting.append(abandoned), after=1) == ""
    meeting.contribute(2)
    assert meeting.ask(meeting.append(meeting.round(2)), after=2) == ""


def test_a_model_that_the_node_is_not_sent_is_not_signed(meeting):
    meeting.begin()
    meeting.contribute(2)
    line = meeting.append(meeting.round(2))
    assert "holds another model than this node was sent" in meeting.ask(line, after=7)
    assert meeting.ask(line, after=2) == ""
    assert "holds another model" in meeting.ask(line, after=2, kind="judge", models={"rating": model(9)})
    assert meeting.ask(line, after=2, kind="judge", models={"rating": model(2)}) == ""


def test_no_second_entry_in_the_same_place_is_ever_signed(meeting):
    meeting.begin()
    meeting.contribute(2)
    other = meeting.round(2, total="6" * 64)
    assert meeting.ask(meeting.append(meeting.round(2)), after=2) == ""
    for _ in range(2):
        assert "is another number 2 than the one that this node knows" in meeting.ask(other, after=2)
        meeting.restart()


def test_a_server_that_goes_back_gets_no_signature_of_what_it_had_before(meeting):
    meeting.begin()
    meeting.contribute(2)
    assert meeting.ask(meeting.append(meeting.round(2)), after=2) == ""
    assert "is not the last one that this node knows" in meeting.ask(meeting.lines[1], after=1)


def test_entries_that_were_missed_must_come_first(meeting):
    meeting.begin()
    for number in (2, 3, 4):
        meeting.append(meeting.round(number, ()))
    assert "entries are missing" in meeting.ask(meeting.lines[-1], after=4)
    assert meeting.ask(*meeting.lines[2:], after=4) == ""


def test_a_node_that_comes_back_catches_up_with_the_setup(meeting):
    meeting.begin()
    for number in (2, 3):
        meeting.append(meeting.round(number, ()))
    meeting.restart()
    meeting.witness.begin(meeting.plan, b"\n".join(meeting.lines))
    assert meeting.ask(meeting.lines[-1], after=3) == ""
    assert meeting.told == []


def test_a_node_that_comes_back_to_another_ledger_says_so(meeting):
    meeting.begin()
    meeting.restart()
    meeting.chain = read_chain(meeting.lines[0] + b"\n", meeting.folder)
    other = Scribe(meeting.key, meeting.chain).round("rating", 1, [], [], "6" * 64, model(1).digest(), {})
    meeting.witness.begin(meeting.plan, b"\n".join([meeting.lines[0], other]))
    assert meeting.told == [
        "the server's ledger is not the one that this node knows: an entry is another number 1 than the one that this "
        "node knows"
    ]


def test_a_crash_before_the_entry_is_kept_changes_no_judgement(meeting, monkeypatch):
    meeting.begin()
    meeting.contribute(2)
    line = meeting.append(meeting.round(2))

    def crash(self, line: bytes) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("hierfed.ledger.book.Book.append", crash)
        meeting.ask(line, after=2)
    meeting.restart()
    assert meeting.ask(line, after=2) == ""


def test_what_the_server_did_not_sign_is_not_signed(meeting):
    meeting.begin()
    meeting.contribute(2)
    forged = Scribe(Ed25519PrivateKey.generate(), meeting.chain)
    line = forged.round("rating", 2, [NAME], [], "5" * 64, model(2).digest(), {})
    assert "is not what the server signed" in meeting.ask(line, after=2)
    assert "is no entry" in meeting.ask(b"junk", after=2)
    assert meeting.ask(meeting.append(meeting.round(2)), after=2) == ""


def test_a_seal_holds_the_models_and_files_that_the_node_has(meeting):
    meeting.begin()
    digests = {"rating": model(1).digest()}
    (meeting.folder / "model.txt").write_bytes(b"weights")
    files = {"model.txt": hashlib.sha256(b"weights").hexdigest()}
    sealed = meeting.append(meeting.scribe.seal(digests, files, {}))

    def asked(number: int) -> str:
        return meeting.ask(sealed, after=1, kind="ledger", models={"rating": model(number)})

    assert asked(1) == ""
    assert "holds other models than this node was sent" in asked(2)
    (meeting.folder / "model.txt").write_bytes(b"others")
    assert "holds other files than this node has made" in asked(1)
    (meeting.folder / "model.txt").unlink()
    assert "holds other files than this node has made" in asked(1)
    ended = Request("ledger", {ENTRIES: meeting.append(meeting.scribe.end({}))})
    assert meeting.witness.countersign(ended, {}) == {}


def test_a_node_that_the_ledger_does_not_know_yet_says_nothing(meeting):
    line = meeting.opening(nodes={"node 2": public_text(Ed25519PrivateKey.generate())})
    request = Request("round", {"stage": "rating", "round": 1, ENTRIES: line})
    assert meeting.witness.countersign(request, {}) == {}
    assert meeting.witness.countersign(Request("round", {"stage": "rating", "round": 1}), {}) == {}


def test_under_secure_sums_the_masked_vector_is_the_contribution(meeting):
    meeting.begin()
    asked = Request("round", {"stage": "rating", "round": 2})
    meeting.witness.note_contribution(asked, Reply({"message": b"keys"}))
    meeting.witness.note_contribution(Request("share"), Reply({"message": b"shares"}))
    assert "lists a contribution" in meeting.ask(meeting.append(meeting.round(2)), after=2)
    for refusal, words in (({"refusal": "no"}, "lists a contribution"), ({"message": b"masked"}, "")):
        number = len(meeting.lines)
        meeting.witness.note_contribution(Request("round", {"stage": "rating", "round": number}), Reply())
        meeting.witness.note_contribution(Request("mask"), Reply(refusal))
        assert words in meeting.ask(meeting.append(meeting.round(number)), after=number)
    # What is judged is no contribution to the round before it.
    meeting.witness.note_contribution(Request("round", {"stage": "rating", "round": 5}), Reply())
    meeting.witness.note_contribution(Request("judge"), Reply())
    meeting.witness.note_contribution(Request("mask"), Reply({"message": b"masked"}))
    assert "lists a contribution" in meeting.ask(meeting.append(meeting.round(5)), after=5)


def test_another_training_begins_another_ledger_and_the_old_one_stays(meeting, data):
    meeting.begin()
    before = (meeting.folder / FILE).read_bytes()
    catalogue = Catalogue(data.catalogue.frame.head(20))
    meeting.plan = replace(meeting.plan, training="beef" * 4, catalogue=catalogue)
    meeting.chain, meeting.lines = Chain(), []
    meeting.scribe = Scribe(meeting.key, meeting.chain)
    meeting.restart()
    assert meeting.ask(meeting.append(meeting.opening(training="beef" * 4)), after=0) == ""
    assert (meeting.folder / f"ledger-{TRAINING}.jsonl").read_bytes() == before


def test_damaged_state_is_one_line(meeting):
    meeting.begin()
    (meeting.folder / "witness.json").write_text("{}")
    with pytest.raises(HierfedError, match=r"witness\.json: damaged"):
        meeting.restart()
    assert (meeting.folder / "ledger.key").stat().st_mode & 0o777 == 0o600

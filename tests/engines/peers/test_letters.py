"""Letters that peers cannot read are refused as they arrive, before anybody counts on what they say."""

from __future__ import annotations

from typing import Any

import pytest

from hierfed.engines.exchange import Request
from hierfed.engines.peers.letters import HEARD, HISTORY, MASS, REGROUP, STATEMENT, Inbox, peers_in

PLACE = {"position": 1, "view": 0, "number": 0}
RIGHT: dict[str, dict[str, Any]] = {
    MASS: PLACE,
    STATEMENT: {**PLACE, "said": "{}"},
    REGROUP: {**PLACE, "suspects": "[2]", "ends": 3, "line": "{}"},
    HEARD: {**PLACE, "heard": "[0, 1]"},
    HISTORY: {**PLACE, "line": "{}"},
}


@pytest.mark.parametrize("kind", list(RIGHT))
def test_a_letter_with_its_facts_is_kept(kind):
    inbox, letter = Inbox(), Request(kind, RIGHT[kind])
    inbox.put(1, letter)
    assert inbox.find((kind, 1, 0, 0, 1)) is letter


def test_the_peers_in_a_letter_are_numbers():
    assert peers_in(Request(REGROUP, RIGHT[REGROUP])) == [2]
    assert peers_in(Request(HEARD, RIGHT[HEARD])) == [0, 1]


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, facts in RIGHT.items() for name in facts])
@pytest.mark.parametrize("odd", ["lacking", None, -1, 1.0, True, float("inf"), 10**400, ["x"], {}])
def test_a_letter_without_one_of_its_facts_is_refused(kind, name, odd):
    """Most were a traceback that ended the peer."""
    facts = {**RIGHT[kind], name: odd}
    if odd == "lacking":
        del facts[name]
    inbox = Inbox()
    with pytest.raises(ValueError, match=f"a letter of the kind {kind} without"):
        inbox.put(1, Request(kind, facts))
    assert inbox.newest_view() == 0


@pytest.mark.parametrize("peers", ["", "5", "[[1]]", '["1"]', "[-1]", "[1.5]", "[true]", "null", "{}", "[" * 100_000])
@pytest.mark.parametrize(("kind", "name"), [(REGROUP, "suspects"), (HEARD, "heard")])
def test_peers_that_are_no_numbers_are_refused(kind, name, peers):
    with pytest.raises(ValueError, match="without the peers"):
        Inbox().put(1, Request(kind, {**RIGHT[kind], name: peers}))


def test_a_letter_of_no_known_kind_is_refused_in_one_short_line():
    with pytest.raises(ValueError, match="no known kind") as error:
        Inbox().put(1, Request("\x1b[31m" + "x" * 1000, PLACE))
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 100

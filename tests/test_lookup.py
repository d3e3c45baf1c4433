"""Names are looked up or refused; nothing is guessed."""

from __future__ import annotations

import pytest

from hierfed.errors import SettingsError
from hierfed.lookup import look_up, nearest

TABLE = {"users": 1, "rows": 2, "time": 3}


def test_a_known_name_gives_its_entry():
    assert [look_up(TABLE, name, "partition") for name in TABLE] == [1, 2, 3]


def test_an_unknown_name_is_an_error_that_names_the_nearest_and_all_others():
    with pytest.raises(SettingsError) as refused:
        look_up(TABLE, "user", "partition")
    assert str(refused.value) == "no partition 'user', did you mean 'users'?; there are: rows, time, users"


@pytest.mark.parametrize("name", ["", "zzz", "USERS"])
def test_a_name_like_no_other_is_refused_without_a_guess(name):
    with pytest.raises(SettingsError) as refused:
        look_up(TABLE, name, "rule")
    assert str(refused.value) == f"no rule '{name}'; there are: rows, time, users"


def test_the_nearest_name_is_told_as_a_question():
    assert nearest("round", ["rounds", "rank"]) == ", did you mean 'rounds'?"
    assert nearest("round", []) == nearest("xyz", ["rounds"]) == ""

"""The reference of the settings: every key is described, and the docs have what the sections say."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from hierfed.cli import app
from hierfed.errors import SettingsError
from hierfed.section import Section
from hierfed.settings_reference import as_markdown, every_setting, meanings, setting

PAGE = Path(__file__).parent.parent / "docs" / "settings.md"


def test_every_setting_says_what_it_does():
    assert [each.key for each in every_setting() if not each.meaning] == []


def test_the_page_is_that_of_the_sections():
    assert PAGE.read_text(encoding="utf-8") == as_markdown(), "run python benchmarks/settings_page.py"


class Two(Section):
    """Two fields.

    one: the first,
    on two lines.
    two, three: both of them.

    Other words: not a field.
    """

    one: int = 1
    two: int = 2
    three: int = 3


def test_meanings_are_read_from_docstrings():
    assert meanings(Two) == {"one": "the first, on two lines.", "two": "both of them.", "three": "both of them."}


def test_a_setting_is_found_with_and_without_its_section():
    assert setting("rounds") == setting("training.rounds")
    with pytest.raises(SettingsError, match="did you mean 'rounds'"):
        setting("roundz")


def test_the_command_prints_one_or_all():
    one = CliRunner().invoke(app, ["settings", "rounds"])
    assert one.exit_code == 0
    assert "training.rounds" in one.stdout
    assert "train the model of ratings" in one.stdout
    every = CliRunner().invoke(app, ["settings"]).stdout
    assert all(each.key in every for each in every_setting())

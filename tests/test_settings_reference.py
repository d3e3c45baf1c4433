"""The reference of the settings: every key is described, and the docs have what the sections say."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hierfed import api, settings_by_name
from hierfed.cli import app
from hierfed.errors import SettingsError
from hierfed.fitting import fit
from hierfed.section import Section
from hierfed.settings_reference import as_markdown, as_types, every_setting, meanings, setting

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


def test_the_types_are_those_of_the_sections():
    path = Path(settings_by_name.__file__)
    assert path.read_text(encoding="utf-8") == as_types(), "run python benchmarks/settings_page.py"


@pytest.mark.parametrize("function", [api.run, api.compare, api.sweep, api.prequential, fit])
def test_functions_take_the_settings_by_name(function):
    """The type checker is asked below, with these types and no more of the package, which takes it a minute."""
    settings = inspect.signature(function).parameters["settings"]
    assert (settings.kind, settings.annotation) == (settings.VAR_KEYWORD, "Unpack[SettingsByName]")


@pytest.mark.slow
def test_a_type_checker_finds_a_setting_that_is_misspelt_or_of_another_type(tmp_path):
    checker = pytest.importorskip("mypy.api", reason="mypy is not here: pip install '.[dev]'")
    types = Path(settings_by_name.__file__).read_text(encoding="utf-8")
    (tmp_path / "settings_by_name.py").write_text(
        re.sub(r"from hierfed[.\w]* import", "from typing import Any as", types)
    )
    (tmp_path / "snippet.py").write_text(
        "from typing import Unpack\n"
        "from settings_by_name import SettingsByName\n"
        "def run(preset: str = '', *, data: object = None, **settings: Unpack[SettingsByName]) -> None: ...\n"
        "run('paper', data=1, rounds=3, rank=8, hidden=[4, 2], protocol='warm', test_share=0, rule='screen')\n"
        "run('paper', ronds=3)\n"
        "run('paper', rounds='many')\n"
        "run('paper', protocol='warmer')\n"
    )
    words = ["--strict", "--no-incremental", "--config-file=", "--no-error-summary", str(tmp_path / "snippet.py")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MYPYPATH", str(tmp_path))
        told, failed, _ = checker.run(words)
    assert failed == ""
    lines = [line.partition("snippet.py:")[2] for line in told.splitlines() if "error" in line]
    assert [line.partition(":")[0] for line in lines] == ["5", "6", "7"], told
    assert "ronds" in lines[0]

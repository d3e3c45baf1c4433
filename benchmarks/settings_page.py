"""Writes docs/settings.md from the sections of the settings."""

from __future__ import annotations

from pathlib import Path

from hierfed.settings_reference import as_markdown

if __name__ == "__main__":
    (Path(__file__).parent.parent / "docs" / "settings.md").write_text(as_markdown(), encoding="utf-8")

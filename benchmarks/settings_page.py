"""Writes docs/settings.md and hierfed/settings_by_name.py from the sections of the settings."""

from __future__ import annotations

from pathlib import Path

from hierfed.settings_reference import as_markdown, as_types

if __name__ == "__main__":
    root = Path(__file__).parent.parent
    (root / "docs" / "settings.md").write_text(as_markdown(), encoding="utf-8")
    (root / "hierfed" / "settings_by_name.py").write_text(as_types(), encoding="utf-8")

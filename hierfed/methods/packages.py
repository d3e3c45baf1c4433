"""Packages that some methods need beyond the base install."""

from __future__ import annotations

import importlib.util

from hierfed.errors import SettingsError


def check_privacy_packages() -> None:
    """Raise SettingsError unless the packages for differential privacy are installed."""
    if importlib.util.find_spec("dp_accounting") is None or importlib.util.find_spec("cryptography") is None:
        raise SettingsError("privacy.privacy_unit needs packages more: pip install 'hierfed[privacy]'")

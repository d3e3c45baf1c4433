"""Secure sums in one process."""

from __future__ import annotations

import importlib.util

from hierfed.errors import SettingsError
from hierfed.federated.rules import Rule
from hierfed.privacy.settings import PrivacySettings


def secure_sum_of(privacy: PrivacySettings) -> Rule:
    """A secure sum; raises SettingsError without its package."""
    if importlib.util.find_spec("cryptography") is None:
        raise SettingsError("privacy.secure_sums needs a package more: pip install 'hierfed[privacy]'")
    from hierfed.privacy.secure_sum.simulation import SecureSum  # noqa: PLC0415 - it is an extra

    return SecureSum(privacy.colluding)

"""The rule that adds contributions up as the privacy settings ask for, in one process."""

from __future__ import annotations

import importlib.util

from hierfed.errors import SettingsError
from hierfed.federated.rules import OPEN_SUM, Rule
from hierfed.privacy.settings import PrivacySettings


def rule_of(privacy: PrivacySettings) -> Rule:
    """An open or a secure sum; raises SettingsError for secure sums without the package that they need."""
    if not privacy.secure_sums:
        return OPEN_SUM
    if importlib.util.find_spec("cryptography") is None:
        raise SettingsError("privacy.secure_sums needs a package more: pip install 'hierfed[privacy]'")
    from hierfed.privacy.secure_sum.simulation import SecureSum  # noqa: PLC0415 - it is an extra

    return SecureSum(privacy.colluding)

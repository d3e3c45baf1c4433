"""What the settings' protections are made of, in a simulation in one process."""

from __future__ import annotations

import importlib.util

from hierfed.errors import SettingsError
from hierfed.federated.summation import Summation, sum_openly
from hierfed.sections import PrivacySettings


def summation_of(privacy: PrivacySettings) -> Summation:
    """How contributions are added; raises SettingsError for secure sums without the package that they need."""
    if not privacy.secure_sums:
        return sum_openly
    if importlib.util.find_spec("cryptography") is None:
        raise SettingsError("privacy.secure_sums needs a package more: pip install 'hierfed[privacy]'")
    from hierfed.privacy.secure_sum.simulation import SecureSummation  # noqa: PLC0415 - it is an extra

    return SecureSummation(privacy.colluding)

"""Why a secure sum does not come about; nothing is revealed in any of these cases."""

from __future__ import annotations

from hierfed.errors import HierfedError


class SecureSumError(HierfedError):
    """A secure sum cannot be set up, or did not come about."""


class Refused(SecureSumError):
    """A message is not what the protocol allows here: junk, tampered with, of another round, or a lie."""


class TooFewNodes(SecureSumError):
    """Fewer nodes than the threshold are left."""


class OutOfBounds(SecureSumError):
    """A value is not finite, or larger than the bound that all nodes agreed on."""

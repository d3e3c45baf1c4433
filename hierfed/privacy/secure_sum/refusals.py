"""The errors of a secure sum; none of them reveals anything."""

from __future__ import annotations

from hierfed.errors import HierfedError


class SecureSumError(HierfedError):
    """A secure sum cannot be set up, or has failed."""


class Refused(SecureSumError):
    """A message does not follow the protocol: junk, tampered with, of another round, or a lie."""


class TooFewNodes(SecureSumError):
    """Fewer nodes than the threshold are left."""


class OutOfBounds(SecureSumError):
    """A value is not finite, or larger than the bound that all nodes agreed on."""

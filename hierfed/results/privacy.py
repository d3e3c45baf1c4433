"""What differential privacy was given, and what it spent."""

from __future__ import annotations

from hierfed.results.record import Number, Record


class ReleaseRecord(Record):
    """Gaussian releases of one kind.

    count: how many. sampling: the chance of a unit to be in one. clip_norm: the largest L2 norm that one unit adds.
    noise_multiplier: the noise's standard deviation over this norm.
    """

    name: str
    count: int
    sampling: Number
    clip_norm: Number
    noise_multiplier: Number


class PrivacyRecord(Record):
    """The differential privacy of the shared model.

    unit: what is hidden. epsilon: the budget. epsilon_spent: that of the unit with the least protection.
    accountant: `rdp` or `pld`. warning: to be read before the model is used.
    """

    unit: str
    epsilon: Number
    epsilon_spent: Number
    delta: Number
    mechanism: str
    accountant: str
    releases: list[ReleaseRecord]
    warning: str = ""

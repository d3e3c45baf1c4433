"""The settings of privacy."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hierfed.section import OpenShare, Positive, Section


class PrivacySettings(Section):
    """Protection of the nodes' data besides sums; see docs/privacy.md.

    secure_sums: the server sees masked contributions, and learns their sum alone.
    colluding: the share of the nodes that may side with the server.
    halves: under secure sums of 6 nodes or more: once a node has spoilt two sums in a row, a few rounds are added by
        halves of the nodes, which find it, and it is put out. The server then learns the sums of those halves.
    privacy_unit: the unit that differential privacy hides: `none`, each `example` (rating), each `user` with all
        ratings, or each `node` with all users.
    epsilon, delta: the budget of the whole run.
    clip_norm: the most, in L2 norm, that one unit adds to a sum.
    accountant: adds up the cost of releases, by Renyi divergences (`rdp`) or by privacy loss distributions (`pld`: less
        noise for the same epsilon, found in more time).
    ledger: the signed record of the rounds for `hierfed audit`, in one process: `keep` it, `none`, or `auto`, for up to
        256 nodes with the extra `privacy` installed. A federation on real machines always keeps one.
    """

    secure_sums: bool = False
    colluding: Annotated[float, Field(ge=0, lt=0.5)] = 0.33
    halves: bool = False
    privacy_unit: Literal["none", "example", "user", "node"] = "none"
    epsilon: Positive = 8.0
    delta: OpenShare = 1e-5
    clip_norm: Positive = 1.0
    accountant: Literal["rdp", "pld"] = "rdp"
    ledger: Literal["auto", "keep", "none"] = "auto"

    def without_effect(self) -> str:
        """A setting of the budget that nothing spends, and its remedy; empty if there is none."""
        usual = PrivacySettings()
        for name in ("epsilon", "delta", "clip_norm", "accountant"):
            if getattr(self, name) != getattr(usual, name):
                return f"privacy.{name} has no effect with privacy_unit 'none': set privacy_unit too, or leave it out"
        return ""

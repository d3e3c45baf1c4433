"""Hierarchical Bayesian factors, learned from sums."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hierfed.methods.hierarchical.words import WORDS
from hierfed.methods.kind import Case, MethodKind, Prepared
from hierfed.results import MethodWords

if TYPE_CHECKING:
    from hierfed.settings import Settings


class Hierarchical(MethodKind):
    """Declares the hierarchical model."""

    devices = frozenset({"cpu", "cuda"})

    def refusal(self, settings: Settings) -> str:
        """See MethodKind."""
        if settings.privacy.privacy_unit == "none":
            return ""
        return (
            f"privacy.privacy_unit '{settings.privacy.privacy_unit}': the sums of this method are not clipped, so no "
            "noise hides anyone in them: use preset private"
        )

    def words(self) -> MethodWords:
        """See MethodKind."""
        return WORDS

    def prepare(self, case: Case) -> Prepared:
        """See MethodKind."""
        from hierfed.methods.hierarchical.build import build  # noqa: PLC0415 - torch takes seconds to load

        return build(case)

"""Each user learns alone; nothing is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hierfed.methods.kind import Case, MethodKind, Prepared
from hierfed.methods.local.words import WORDS
from hierfed.results import MethodWords

if TYPE_CHECKING:
    from hierfed.settings import Settings


class Local(MethodKind):
    """Declares the method that sends nothing."""

    sends = False

    def refusal(self, settings: Settings) -> str:
        """See MethodKind."""
        if settings.privacy.privacy_unit == "none":
            return ""
        return (
            f"privacy.privacy_unit '{settings.privacy.privacy_unit}': this method sends nothing, so there is nothing "
            "to add noise to: leave it at 'none'"
        )

    def words(self) -> MethodWords:
        """See MethodKind."""
        return WORDS

    def prepare(self, case: Case) -> Prepared:
        """See MethodKind."""
        from hierfed.methods.content import public_content  # noqa: PLC0415 - torch takes seconds to load
        from hierfed.methods.local.local import LocalOnly  # noqa: PLC0415

        public = public_content(case.settings, case.catalogue)
        method = LocalOnly(public.content, case.limits, case.settings.training.threads)
        return Prepared(method, public.names, public.missing)
